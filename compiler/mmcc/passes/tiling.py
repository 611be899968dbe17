# SPDX-License-Identifier: Apache-2.0
"""What of a graph is made in tiles and in slices of channels."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.ir.graph import Graph
from mmcc.passes.slice_channels import sliced
from mmcc.passes.tile_convs import tiled


@dataclass(frozen=True, slots=True)
class Tiling:
    """`slices` of channels of each layer before a mean (1: all at once), and the results of inverted
    bottlenecks that are made in tiles."""

    slices: int = 1
    results: tuple[str, ...] = ()

    def of(self, graph: Graph) -> Graph:
        """The graph so; a layer that is the last of a bottleneck in tiles is in no slices."""
        graph = tiled(graph, self.results) if self.results else graph
        return sliced(graph, self.slices) if self.slices > 1 else graph


AS_IT_IS = Tiling()
