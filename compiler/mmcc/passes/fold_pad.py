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
from mmcc.ops.movement import Pad, Reshape
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool, window_counts
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft

Pads = tuple[int, int, int, int]
WINDOWS = (Conv, ConvInt8, ConvInt8ToFloat, ConvInt16, AveragePool, AveragePoolInt8, MaxPool)


def fold_pad(graph: Graph) -> Graph:
    """Window ops read the unpadded tensor with larger pads, where padding means the same to them."""
    draft = Draft(graph)
    for node in graph.nodes:
        seen = _behind_view(draft, node)
        pad = draft.producer.get(draft.now(seen.inputs[0])) if seen.inputs else None
        op = _padded(draft, node.op, pad) if pad is not None and isinstance(pad.op, Pad) else None
        if op is None or pad is None:
            draft.keep(node)
            continue
        quant = draft.tensors[node.output].quant
        draft.write(op, (pad.inputs[0], *node.inputs[1:]), node.output, pad.where + node.where, quant)
    return draft.graph()


def _behind_view(draft: Draft, node: Node) -> Node:
    """A node that reads a padded tensor with another number of axes: it reads one that is padded as the last
    thing before it, if the axes that differ have extent 1 and no padding."""
    x = draft.now(node.inputs[0]) if node.inputs else ""
    view = draft.producer.get(x)
    pad = draft.producer.get(view.inputs[0]) if view is not None and isinstance(view.op, Reshape) else None
    if view is None or pad is None or not isinstance(pad.op, Pad) or not isinstance(node.op, WINDOWS):
        return node
    old, new = draft.tensors[view.inputs[0]].shape, draft.tensors[x].shape
    long = [k for k, extent in enumerate(old) if extent > 1]
    places = [k for k, extent in enumerate(new) if extent > 1]
    padded = [k for k in range(len(old)) if pad.op.before[k] or pad.op.after[k]]
    if [old[k] for k in long] != [new[k] for k in places] or not set(padded) <= set(long):
        return node
    before, after, shape = [0] * len(new), [0] * len(new), list(new)
    for here, there in zip(long, places, strict=True):
        before[there], after[there] = pad.op.before[here], pad.op.after[here]
        shape[there] -= before[there] + after[there]
    where, quant = pad.where + view.where, draft.tensors[x].quant
    bare = draft.add(Reshape(tuple(shape)), (pad.inputs[0],), f"{x}_bare", where, quant)
    op = replace(pad.op, before=tuple(before), after=tuple(after))
    return replace(node, inputs=(draft.add(op, (bare,), f"{x}_padded", where, quant), *node.inputs[1:]))


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
