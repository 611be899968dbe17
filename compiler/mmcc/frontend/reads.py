# SPDX-License-Identifier: Apache-2.0
"""Nodes with subgraphs: the nodes in them, and which values they read from around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import GraphProto, NodeProto


def reads(node: NodeProto) -> Iterator[str]:
    """A node's operands, and what its subgraphs read from around them; \"\" for an operand left out."""
    yield from node.input
    for graph in subgraphs(node):
        inside = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
        inside.update(name for inner in graph.node for name in inner.output)
        for inner in graph.node:
            yield from (name for name in reads(inner) if name not in inside)
        yield from (info.name for info in graph.output if info.name not in inside)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that are attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_below(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those in their subgraphs."""
    queue = list(nodes)
    while queue:
        node = queue.pop()
        yield node
        for graph in subgraphs(node):
            queue += graph.node
