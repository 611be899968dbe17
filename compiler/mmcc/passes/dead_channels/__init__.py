# SPDX-License-Identifier: Apache-2.0
"""Leave out channels of int8 tensors that no output needs; every bit that is left is what it was.

`ranges.py` bounds each channel over all inputs, `equal.py` lets layers read one of equal channels, `needs.py`
finds which channels anything depends on, `rewrite.py` makes the nodes smaller. Floats stay as they are: the
order of a sum is the kernel's, and with fewer terms it would be another, with other bits.
"""

from __future__ import annotations

from mmcc.ir.graph import Graph
from mmcc.passes.dead_channels.equal import share_equal_channels
from mmcc.passes.dead_channels.needs import Needs
from mmcc.passes.dead_channels.ranges import channel_ranges
from mmcc.passes.dead_channels.rewrite import Rewriter
from mmcc.passes.dead_channels.values import Range


def drop_dead_channels(graph: Graph) -> Graph:
    """The graph without channels that are constant, clamped away, equal to others or never read.

    `Graph.removed` has them.
    """
    ranges = channel_ranges(graph)
    graph, needs = least_needed(graph, ranges)
    if all(mask.all() for mask in needs.kept.values()):
        return graph
    return Rewriter(graph, ranges, needs).run()


def least_needed(graph: Graph, ranges: dict[str, Range]) -> tuple[Graph, Needs]:
    """What must be computed; of the graph with weights moved between equal channels, if that is less."""
    needs = Needs(graph, ranges)
    needs.run()
    shared = share_equal_channels(graph, ranges)
    if shared is not graph:
        fewer = Needs(shared, ranges)
        fewer.run()
        if fewer.count < needs.count:
            return shared, fewer
    return graph, needs
