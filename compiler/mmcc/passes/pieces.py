# SPDX-License-Identifier: Apache-2.0
"""Tensors that lie in the memory of another one: those that it is joined of, those that are cut of it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ops.movement import Concat, Reshape, Slice


def joined_of(graph: Graph, name: str, first: int) -> Iterator[tuple[str, int]]:
    """The tensors that a tensor is joined of, one behind the other in memory, and where each begins."""
    node = graph.producer.get(name)
    match node.op if node is not None else None:
        case Reshape() if node is not None and node.inputs[0] in graph.producer:
            yield from joined_of(graph, node.inputs[0], first)
        case Concat(axis) if node is not None and prod(graph.tensors[name].shape[:axis]) == 1:
            for part in node.inputs:
                yield from joined_of(graph, part, first)
                first += prod(graph.tensors[part].shape)
        case _:
            yield name, first


def read_of(graph: Graph, begin: str) -> list[tuple[str, int]]:
    """The runs of elements of an old value, as nodes read them: tensors, and where each begins in it."""
    found: list[tuple[str, int]] = []
    waiting = [(begin, 0)]
    while waiting:
        name, first = waiting.pop()
        cuts = [(node.outputs[0], _cut(graph, node)) for node in graph.consumers[name]]
        if name in graph.kept or not cuts or any(cut is None for _, cut in cuts):
            found.append((name, first))
        else:
            waiting += [(made, first + cut) for made, cut in cuts if cut is not None]
    return found


def _cut(graph: Graph, node: Node) -> int | None:
    """Where a view of neighbours in memory begins in the node's operand; None of another node."""
    shape = graph.tensors[node.inputs[0]].shape
    if isinstance(node.op, Reshape):
        return 0
    if not isinstance(node.op, Slice):
        return None
    axis = next((k for k, n in enumerate(shape) if n != 1), 0)
    whole = node.op.shape[axis + 1 :] == shape[axis + 1 :]
    if not whole or (node.op.steps[axis] != 1 and node.op.shape[axis] != 1):
        return None
    return node.op.starts[axis] * prod(shape[axis + 1 :])
