# SPDX-License-Identifier: Apache-2.0
"""Compute at compile time what depends on constants only."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.traits import Moves
from mmcc.ir.types import Shape
from mmcc.ops.movement import Expand, Pad, Reshape, Transpose
from mmcc.ops.quantize import Dequantize, DequantizeConstant
from mmcc.passes.draft import Draft

FOLD_BYTES = 1 << 26  # a constant that folding makes may be this large, or as large as what it is made of


def fold_constants(graph: Graph) -> Graph:
    """Evaluate nodes with constant inputs; a DequantizeConstant stays, below what only moves elements."""
    draft = Draft(graph)
    for node in graph.nodes:
        if isinstance(node.op, Dequantize) and draft.reads_constants(node):
            op = DequantizeConstant((node.op.scale,), (node.op.zero_point,))
            draft.write(op, node.inputs, node.output, node.where)
        elif isinstance(node.op, DequantizeConstant) or not _fold(draft, node):
            draft.keep(node)
    return draft.graph()


def fold_dequantized(graph: Graph) -> Graph:
    """Turn every DequantizeConstant that is left into the float constant it stands for."""
    draft = Draft(graph)
    for node in graph.nodes:
        if isinstance(node.op, DequantizeConstant) and draft.reads_constants(node):
            (data,) = node.op.reference(draft.constants[draft.now(node.inputs[0])])
            draft.replace(node.output, draft.constant(data, f"{node.output}_value"), node.where)
        elif not _fold(draft, node):
            draft.keep(node)
    return draft.graph()


def is_known(draft: Draft, name: str) -> bool:
    """True if a tensor's data are known now, as they are or quantized."""
    name = draft.now(name)
    return draft.is_constant(name) or (
        name in draft.producer and isinstance(draft.producer[name].op, DequantizeConstant)
    )


def constant_value(draft: Draft, name: str) -> NDArray[Any] | None:
    """The data of a constant, quantized or not; None for a tensor known only when the model runs."""
    name = draft.now(name)
    if draft.is_constant(name):
        return draft.constants[name]
    node = draft.producer.get(name)
    if node is not None and isinstance(node.op, DequantizeConstant):
        return node.op.reference(draft.constants[node.inputs[0]])[0]
    return None


def _fold(draft: Draft, node: Node) -> bool:
    sizes = [draft.tensors[draft.now(name)].bytes for name in node.inputs]
    made = sum(draft.tensors[name].bytes for name in node.outputs)
    if not node.inputs or made > max(FOLD_BYTES, sum(sizes)):
        return False
    if isinstance(node.op, Expand) and node.output in draft.source.kept:
        return False  # the copy that writes a constant output
    if len(node.inputs) == 1 and _sink_dequantize(draft, node):
        return True
    if not all(is_known(draft, name) for name in node.inputs):
        return False
    known = [value for name in node.inputs if (value := constant_value(draft, name)) is not None]
    for name, value in zip(node.outputs, node.op.reference(*known), strict=True):
        data = value.astype(draft.tensors[name].dtype.numpy, copy=False)
        draft.replace(name, draft.constant(data, f"{name}_value"), node.where)
    return True


def _sink_dequantize(draft: Draft, node: Node) -> bool:
    """Move a quantized constant's integers rather than its floats. A Pad's own value is a float."""
    source = draft.producer.get(draft.now(node.inputs[0]))
    moves = node.op.traits.moves is Moves.BY_PLACE and not isinstance(node.op, Pad)
    if source is None or not isinstance(source.op, DequantizeConstant) or not moves:
        return False
    integers = draft.constants[source.inputs[0]]
    axis = source.op.axis
    if axis is not None:
        axis = moved_axis(node.op, integers.shape, axis)
        if axis is None:
            return False
    moved = draft.constant(node.op.reference(integers)[0], f"{source.inputs[0]}_moved")
    draft.write(replace(source.op, axis=axis), (moved,), node.output, source.where + node.where)
    return True


def moved_axis(op: Op, shape: Shape, axis: int) -> int | None:
    """Where an axis is after `op`; None if it is split, merged or cut."""
    if isinstance(op, Transpose):
        return op.perm.index(axis)
    if not isinstance(op, Reshape):
        return None
    before = prod(shape[:axis])
    for k, extent in enumerate(op.shape):
        if extent == shape[axis] and prod(op.shape[:k]) == before:
            return k
    return None
