# SPDX-License-Identifier: Apache-2.0
"""Leave out channels of int8 tensors that no output depends on; every bit that is left is what it was.

`ranges.py` bounds each channel over all inputs, `needs.py` finds which channels anything depends on,
`rewrite.py` makes the nodes smaller. Floats stay as they are: the order of a sum is the kernel's, and with
fewer terms it would be another, with other bits.
"""

from __future__ import annotations

from mmcc.ir.graph import Graph
from mmcc.passes.dead_channels.needs import Needs
from mmcc.passes.dead_channels.ranges import channel_ranges
from mmcc.passes.dead_channels.rewrite import Rewriter


def drop_dead_channels(graph: Graph) -> Graph:
    """The graph without channels that are constant, clamped away or never read; `Graph.removed` has them."""
    ranges = channel_ranges(graph)
    needs = Needs(graph, ranges)
    if all(mask.all() for mask in needs.run().values()):
        return graph
    return Rewriter(graph, ranges, needs).run()
