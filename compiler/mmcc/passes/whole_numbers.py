# SPDX-License-Identifier: Apache-2.0
"""Floats that are whole numbers need no conversion to integers and back.

MatMulInteger and ConvInteger make their sums in float, where they are exact, and their results are int32;
what a dynamically quantized model does next is to convert them to float again, to scale them.
"""

from __future__ import annotations

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.traits import Moves
from mmcc.ops.elementwise import Binary, Cast
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.movement import Pad
from mmcc.passes.draft import Draft

SUMS = ConvInt8ToFloat | DenseInt8ToFloat
MOST = 2.0**30  # all that are whole up to here are int32, too


def keep_whole(graph: Graph) -> Graph:
    """Leave out conversions of whole floats to int32 and back to float32."""
    draft = Draft(graph)
    for node in graph.nodes:
        source = _converted(draft, node)
        if source is None:
            draft.keep(node)
        else:
            draft.replace(node.output, source, node.where)
    return draft.graph()


def _converted(draft: Draft, node: Node) -> str | None:
    """The whole float that a node makes of an int32 that is made of it."""
    if node.op != Cast(ElementType.F32):
        return None
    before = draft.producer.get(draft.now(node.inputs[0]))
    if before is None or before.op != Cast(ElementType.I32):
        return None
    source = before.inputs[0]
    return source if _never_minus_zero(draft, source) and _most(draft, source) <= MOST else None


def _never_minus_zero(draft: Draft, name: str) -> bool:
    """True of sums less something: other nodes may make a zero with a sign, which no integer has."""
    node = draft.producer.get(draft.now(name))
    if node is not None and node.op == Binary("sub"):
        return _never_minus_zero(draft, node.inputs[0])
    return node is not None and isinstance(node.op, SUMS)


def _most(draft: Draft, name: str) -> float:
    """No element of a float tensor is further from 0, and all are whole; infinite if that is not known."""
    values, node = draft.constants.get(draft.now(name)), draft.producer.get(draft.now(name))
    if values is not None and np.array_equal(values, np.round(values)):
        return float(np.abs(values).max(initial=0.0))
    return np.inf if node is None else _most_made(draft, node)


def _most_made(draft: Draft, node: Node) -> float:
    """The same of what a node makes."""
    operands, op = node.inputs, node.op
    if op == Cast(ElementType.F32):
        dtype = draft.tensors[operands[0]].dtype
        return 2.0**dtype.bits if dtype.is_integer and dtype.bits <= 16 else np.inf
    if isinstance(op, Binary) and op.function in ("add", "sub"):
        return sum(_most(draft, operand) for operand in operands)
    if op == Binary("mul"):
        return float(np.prod([_most(draft, operand) for operand in operands]))
    if op.traits.moves is Moves.BY_PLACE and not isinstance(op, Pad) and len(operands) == 1:
        return _most(draft, operands[0])
    return _most_of_sums(draft, node, op) if isinstance(op, SUMS) else np.inf


def _most_of_sums(draft: Draft, node: Node, op: ConvInt8ToFloat | DenseInt8ToFloat) -> float:
    """The same of sums that are not scaled."""
    w, b, factor, offset = (draft.constants.get(draft.now(name)) for name in node.inputs[1:])
    if w is None or b is None or factor is None or offset is None or op.activation is not None:
        return np.inf
    if not np.all(factor == 1.0) or offset.any():
        return np.inf
    taps = np.abs(w.reshape(len(w), -1).astype(np.int64) - op.w_zero)
    sums = taps.sum(axis=1) * max(128 + op.x_zero, 127 - op.x_zero)
    return float((sums + np.abs(b.astype(np.int64))).max(initial=0))
