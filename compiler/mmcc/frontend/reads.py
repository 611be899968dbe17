# SPDX-License-Identifier: Apache-2.0
"""Which values a node reads, those of its subgraphs included."""

from __future__ import annotations

from collections.abc import Iterator

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
