# SPDX-License-Identifier: Apache-2.0
"""The bodies of loops that stay loops are graphs, and are optimized as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.repeat import Repeat


def with_optimized_bodies(graph: Graph, optimize: Callable[[Graph], Graph]) -> Graph:
    """The graph with each body as `optimize` leaves it, which keeps its inputs and outputs; what is said of a
    body is said of the graph."""
    if not any(isinstance(node.op, Repeat) for node in graph.nodes):
        return graph
    nodes: list[Node] = []
    warnings = list(graph.warnings)
    for node in graph.nodes:
        if isinstance(node.op, Repeat):
            body = optimize(node.op.body)
            warnings += (text for text in body.warnings if text not in warnings)
            node = replace(node, op=replace(node.op, body=replace(body, warnings=())))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), warnings=tuple(warnings))
