# SPDX-License-Identifier: Apache-2.0
"""Make transpositions disappear: into weights, through reductions, against each other."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node
from mmcc.ops.dense import Dense, DenseInt8
from mmcc.ops.elementwise_int8 import Lookup
from mmcc.ops.int8_to_float import DenseInt8ToFloat
from mmcc.ops.int16 import OVER_AXES
from mmcc.ops.movement import Reshape, Transpose
from mmcc.passes.draft import Draft
from mmcc.passes.simplify import simplify


def absorb_into_dense(graph: Graph) -> Graph:
    """A dense layer reads its input as it lies: its weights' columns are permuted instead."""
    draft = Draft(graph)
    for node in graph.nodes:
        found = (
            _permutation(draft, node) if isinstance(node.op, (Dense, DenseInt8, DenseInt8ToFloat)) else None
        )
        if found is None:
            draft.keep(node)
            continue
        source, columns = found
        w = draft.constants[draft.now(node.inputs[1])]
        permuted = np.empty_like(w)
        permuted[:, columns] = w
        x = draft.tensors[draft.now(node.inputs[0])]
        quant = draft.tensors[source].quant
        flat = draft.add(Reshape(x.shape), (source,), f"{node.output}_flat", node.where, quant)
        weights = draft.constant(permuted, f"{node.inputs[1]}_permuted")
        quant = draft.tensors[node.output].quant
        draft.write(node.op, (flat, weights, *node.inputs[2:]), node.output, node.where, quant)
    return draft.graph()


def _permutation(draft: Draft, node: Node) -> tuple[str, NDArray[Any]] | None:
    """Where a dense layer's input comes from, and which element there each of its columns is."""
    if not draft.is_constant(node.inputs[1]):
        return None
    run: list[Node] = []
    name = draft.now(node.inputs[0])
    x = draft.tensors[name]
    while name in draft.producer and draft.producer[name].op.traits.permutes:
        run.append(draft.producer[name])
        name = run[-1].inputs[0]
    if not any(isinstance(step.op, Transpose) for step in run):
        return None
    source = draft.tensors[name]
    order = np.arange(prod(source.shape)).reshape(source.shape)
    for step in reversed(run):
        (order,) = step.op.reference(order)
    width = x.shape[-1]
    rows = order.reshape(-1, width)
    columns = rows[0]
    starts = np.arange(len(rows))[:, None] * width
    if not np.array_equal(np.sort(columns), np.arange(width)) or not np.array_equal(rows, columns + starts):
        return None
    return name, columns


def sink_transpose(graph: Graph) -> Graph:
    """Transpose after reductions and elementwise functions, if fewer bytes are moved in the end."""
    if not _moved(graph):
        return graph
    sunk = graph
    for _ in range(len(graph.nodes)):
        after = simplify(_sink_once(sunk))
        if str(after) == str(sunk):
            break
        sunk = after
    return sunk if _moved(sunk) < _moved(graph) else graph


def _moved(graph: Graph) -> int:
    """Bytes that transpositions write."""
    return sum(graph.tensors[node.output].bytes for node in graph.nodes if isinstance(node.op, Transpose))


def _sink_once(graph: Graph) -> Graph:
    draft = Draft(graph)
    for node in graph.nodes:
        if not _sink(draft, node):
            draft.keep(node)
    return draft.graph()


def _sink(draft: Draft, node: Node) -> bool:
    """Write a node before the transpositions that feed it; False if that cannot be."""
    perm = _common_perm(draft, node)
    if perm is None:
        return False
    quant = draft.tensors[node.output].quant
    if isinstance(node.op, OVER_AXES):
        op: Any = replace(node.op, axes=tuple(sorted(perm[axis] for axis in node.op.axes)))
    else:
        op = node.op
    inputs = [_untransposed(draft, name, perm) for name in node.inputs]
    inner = draft.add(op, inputs, f"{node.output}_inner", node.where, quant)
    draft.write(Transpose(perm), (inner,), node.output, node.where, quant)
    return True


def _common_perm(draft: Draft, node: Node) -> tuple[int, ...] | None:
    """The permutation by which every input is transposed, or None; constants of full rank can be, too."""
    if not (node.op.traits.elementwise or isinstance(node.op, OVER_AXES)):
        return None
    rank = len(draft.tensors[node.output].shape)
    perms: set[tuple[int, ...] | None] = set()
    for name in node.inputs:
        name = draft.now(name)
        source = draft.producer.get(name)
        if source is not None and isinstance(source.op, Transpose):
            perms.add(source.op.perm)
        elif not draft.is_constant(name) or not _fits(draft.constants[name], node, rank):
            perms.add(None)
    perm = perms.pop() if len(perms) == 1 else None
    return perm if perm is not None and len(perm) == rank else None


def _fits(data: NDArray[Any], node: Node, rank: int) -> bool:
    """True for a constant that can be read in another order of axes."""
    return isinstance(node.op, Lookup) or data.size == 1 or data.ndim == rank


def _untransposed(draft: Draft, name: str, perm: tuple[int, ...]) -> str:
    name = draft.now(name)
    source = draft.producer.get(name)
    if source is not None and isinstance(source.op, Transpose):
        return source.inputs[0]
    data = draft.constants[name]
    if data.ndim != len(perm) or data.size == 1:
        return name
    return draft.piece(name, data.transpose(np.argsort(perm)), "transposed")
