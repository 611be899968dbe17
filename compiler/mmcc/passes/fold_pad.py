# SPDX-License-Identifier: Apache-2.0
"""Fold a constant Pad into the window that reads it, so that the padded tensor is never made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Tensor
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.elementwise import Unary
from mmcc.ops.int8_to_float import ConvInt8ToFloat
from mmcc.ops.int16 import ConvInt16
from mmcc.ops.movement import Pad
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool, window_counts
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft

Pads = tuple[int, int, int, int]


def fold_pad(graph: Graph) -> Graph:
    """Window ops read the unpadded tensor with larger pads, where padding means the same to them."""
    draft = Draft(graph)
    for node in graph.nodes:
        pad = draft.producer.get(draft.now(node.inputs[0])) if node.inputs else None
        op = _padded(draft, node.op, pad) if pad is not None and isinstance(pad.op, Pad) else None
        if op is None or pad is None:
            draft.keep(node)
            continue
        quant = draft.tensors[node.output].quant
        draft.write(op, (pad.inputs[0], *node.inputs[1:]), node.output, pad.where + node.where, quant)
    return draft.graph()


def _padded(draft: Draft, op: Op, node: Node) -> Op | None:
    """The op with the pads of `node` added to its own; None where its result would differ."""
    pad = node.op
    assert isinstance(pad, Pad)
    x = draft.tensors[node.inputs[0]]
    if pad.mode != "constant" or len(x.shape) != 3 or pad.before[2] or pad.after[2]:
        return None
    more: Pads = (pad.before[0], pad.before[1], pad.after[0], pad.after[1])
    match op:
        case Conv() | ConvInt8() | ConvInt8ToFloat() | ConvInt16() if pad.value == _outside(op):
            return replace(op, window=grown(op.window, more))
        case AveragePool() | AveragePoolInt8() if pad.value == _outside(op):
            return replace(op, window=grown(op.window, more), counted=_sum(op.counted, more))
        case MaxPool() if _never_wins(draft, pad.value, x, grown(op.window, more)):
            return replace(op, window=grown(op.window, more))
        case _:
            return None


def _outside(op: Conv | ConvInt8 | ConvInt8ToFloat | ConvInt16 | AveragePool | AveragePoolInt8) -> int:
    """The value of samples outside the input."""
    return op.x_zero if isinstance(op, (ConvInt8, ConvInt8ToFloat, AveragePoolInt8)) else 0


def grown(window: Window, more: Pads) -> Window:
    """The window with larger pads."""
    return replace(window, pads=_sum(window.pads, more))


def _sum(a: Pads, b: Pads) -> Pads:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def _never_wins(draft: Draft, value: float, x: Tensor, window: Window) -> bool:
    """True if a sample of `value` beside x changes no maximum."""
    if window_counts(window, (0, 0, 0, 0), x.shape).min() == 0:
        return False  # a window that lies in the padding gives the value itself
    return value <= _least(draft.producer.get(x.name), x.dtype)


def _least(node: Node | None, dtype: ElementType) -> float:
    """A number that no element of the tensor `node` makes is below."""
    lowest = float(np.finfo(dtype.numpy).min if dtype.is_float else dtype.least)
    if node is None:
        return lowest
    match node.op:
        case Conv(activation=Clamp(low, _)) | Unary("clamp", (low, _)):
            return max(low, lowest)
        case op if op.traits.saturates:
            bounded: Any = op
            return float(bounded.low)
        case _:
            return lowest
