# SPDX-License-Identifier: Apache-2.0
"""Which nodes ride along: what is for later, and made of rows that others read in passing.

A gradient of weights reads the same rows of a gradient as the backward node of the layer. Where it takes them
in one by one, it can do so as they pass, in whatever group that node is, its host. So that there is an order
which says how, it takes in each row before its host reads it. Plans are searched among those with this order.
So may a node ride that packs rows for later.
"""

from __future__ import annotations

from collections.abc import Collection

from mmcc.ir.graph import Graph, Node, nest_of, taken_by


def riders(graph: Graph, accumulating: Collection[int]) -> dict[int, tuple[int, ...]]:
    """By node, those that ride along with it; nodes come behind their riders in the graph.

    Of several that read what one takes in, it is the first; one that rides may have riders, too.
    """
    able = {k for k, node in enumerate(graph.nodes) if node.op.traits.rides}
    riding = sorted(k for k in able if k in accumulating or _goes_row_by_row(graph, graph.nodes[k]))
    found: dict[int, tuple[int, ...]] = {}
    for rider in riding:
        node = graph.nodes[rider]
        behind = [k for k in _readers(graph, taken_by(graph, node)) if k > rider]
        hosts = [k for k in behind if k not in riding] or [k for k in behind if k in riding]
        if hosts:
            found[hosts[0]] = (*found.get(hosts[0], ()), rider)
    return found


def _goes_row_by_row(graph: Graph, node: Node) -> bool:
    """True if each row of a node's result is made of the same row of its operand."""
    nest = nest_of(graph, node)
    walked = nest.axis_loop(0) is not None and len(nest.write.shape) > 1
    return walked and nest.reads[nest.taken].index[0] == nest.write.index[0]


def _readers(graph: Graph, name: str) -> list[int]:
    """Nodes that have code in every layout and read a tensor themselves."""
    return [k for k, node in enumerate(graph.nodes) if name in node.inputs and node.op.traits.alias is None]
