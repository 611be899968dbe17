# SPDX-License-Identifier: Apache-2.0
"""What an op becomes where another axis of its tensors is outermost: one rule for each kind of op.

The *leading* axis of a tensor is the one that is moved to the front: [H, W, C] led by axis 1 is [W, H, C]. It
is never the last one, the channels. An op computes the same elements then, in integers and in floats to the
bit: a rule gives nothing where a sum of floats would be added up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from mmcc.ir.op import Op
from mmcc.ir.types import Shape, Tensor
from mmcc.ops.affine import AffineInt8
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat
from mmcc.ops.int16 import ConvInt16, MeanInt16
from mmcc.ops.layer_norm import LayerNorm, LayerNormInt8, LayerNormInt16
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool
from mmcc.ops.reduce import ArgMax, MeanInt8, Reduce
from mmcc.ops.resize import ResizeInt8, ResizeNearest
from mmcc.ops.softmax import Softmax, SoftmaxInt8, SoftmaxInt16
from mmcc.ops.stream import ReadRows, WriteRows
from mmcc.ops.window import Window

Perm = tuple[int, ...]
Leads = Sequence[int | None]
Rule = Callable[[Any, Sequence[Tensor], Leads, Tensor], "Turned | None"]

SWAPPED: Perm = (1, 0, 2)  # rows and columns
KERNEL: Perm = (0, 2, 1, 3)  # those of weights [OC, KH, KW, IC]


@dataclass(frozen=True, slots=True)
class Turned:
    """An op on tensors with other axes outermost.

    `operands`: for each operand of the new op, which one of the old op's it is, and the order of its axes,
    None if they stay; `result`: the order of the result's, None if they stay.
    """

    op: Op
    operands: tuple[tuple[int, Perm | None], ...]
    result: Perm | None


def front(rank: int, axis: int) -> Perm:
    """The order of axes in which `axis` comes first and the others stay in theirs."""
    return (axis, *(k for k in range(rank) if k != axis))


def turned(op: Op, inputs: Sequence[Tensor], leads: Leads, output: Tensor) -> Turned | None:
    """The op where its operands are led by other axes; None if it cannot be had so.

    `leads` has each operand's axis, None for one that is as it was, and for all of them where a window is
    asked whether its columns may be its rows. Callers bring and take the rows that the model has.
    """
    rule = RULES.get(type(op))
    if rule is None and op.traits.elementwise and not isinstance(op, (ReadRows, WriteRows)):
        rule = _elementwise
    return rule(op, inputs, leads, output) if rule is not None else None


def is_window(op: Op) -> bool:
    """True of an op that has rows and columns, and so decides which are which."""
    return type(op) in WINDOWS


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.is_float


def _swapped(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[1], pair[0]


def _swapped_pads(pads: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return pads[1], pads[0], pads[3], pads[2]


def _swapped_window(window: Window, *, ordered: bool) -> Window:
    """The window with rows for columns; `ordered`: its taps are gone over in the order that they had."""
    return Window(
        _swapped(window.kernel),
        _swapped(window.strides),
        _swapped(window.dilations),
        _swapped_pads(window.pads),
        ordered and min(window.kernel) > 1 and not window.columns_first,
    )


def _with_weights(op: Any, inputs: Sequence[Tensor], _: Leads, __: Tensor) -> Turned | None:
    """Convolutions. Of transposed ones in float, those that add up taps of one row or column only."""
    changed: dict[str, Any] = {"window": _swapped_window(op.window, ordered=isinstance(op, Conv))}
    if hasattr(op, "size"):
        changed["size"] = op.size[::-1]
    if isinstance(op, ConvTranspose) and min(op.window.kernel) > 1:
        return None
    operands = ((0, SWAPPED), (1, KERNEL), *((k, None) for k in range(2, len(inputs))))
    return Turned(replace(op, **changed), operands, SWAPPED)


def _pool(op: Any, inputs: Sequence[Tensor], _: Leads, __: Tensor) -> Turned | None:
    changed: dict[str, Any] = {"window": _swapped_window(op.window, ordered=_is_float(inputs[0]))}
    if hasattr(op, "counted"):
        changed["counted"] = _swapped_pads(op.counted)
    operands = ((0, SWAPPED), *((k, None) for k in range(1, len(inputs))))
    return Turned(replace(op, **changed), operands, SWAPPED)


def _nearest(op: ResizeNearest, _: object, __: object, ___: object) -> Turned:
    return Turned(ResizeNearest(op.cols, op.rows), ((0, SWAPPED),), SWAPPED)


def _linear(op: ResizeInt8, _: object, __: object, ___: object) -> Turned:
    """The weight of a tap is a product of its row's and its column's, and sums are exact."""
    made = replace(op, row_first=op.col_first, col_first=op.row_first)
    return Turned(made, ((0, SWAPPED), (2, None), (1, None)), SWAPPED)


def _elementwise(_: Op, inputs: Sequence[Tensor], leads: Leads, output: Tensor) -> Turned | None:
    """Operands of fewer axes are as if they had more in front, of extent 1."""
    rank = len(output.shape)
    lead = _common(inputs, leads, rank)
    if lead is None or lead == rank - 1:
        return None
    return Turned(_, tuple((k, _led(t.shape, rank, lead)) for k, t in enumerate(inputs)), front(rank, lead))


def _common(inputs: Sequence[Tensor], leads: Leads, rank: int) -> int | None:
    """The axis of the result that leads the first operand that another axis leads."""
    found = (lead + rank - len(t.shape) for t, lead in zip(inputs, leads, strict=True) if lead is not None)
    return next(found, None)


def _led(shape: Shape, rank: int, lead: int) -> Perm | None:
    """The order of an operand's axes, as of one with `rank` axes; None if it has none from `lead` on down."""
    return None if len(shape) < rank - lead else front(rank, lead)


def _last_axis(op: Op, inputs: Sequence[Tensor], leads: Leads, _: Tensor) -> Turned | None:
    """What is done to each line of channels by itself, with parameters for these."""
    rank, lead = len(inputs[0].shape), leads[0]
    if lead is None or lead == rank - 1 or any(other is not None for other in leads[1:]):
        return None
    order = front(rank, lead)
    return Turned(op, ((0, order), *((k, None) for k in range(1, len(inputs)))), order)


def _reduce(op: Any, inputs: Sequence[Tensor], leads: Leads, _: Tensor) -> Turned | None:
    (x,), lead = inputs, leads[0]
    axes = (op.axis,) if isinstance(op, ArgMax) else op.axes
    several = sum(x.shape[axis] > 1 for axis in axes) > 1
    if lead is None or (lead in axes and several and _is_float(x)):
        return None
    order = front(len(x.shape), lead)
    now = tuple(sorted(order.index(axis) for axis in axes))
    made = replace(op, axis=now[0]) if isinstance(op, ArgMax) else replace(op, axes=now)
    return Turned(made, ((0, order),), order)


def _concat(op: Concat, inputs: Sequence[Tensor], leads: Leads, output: Tensor) -> Turned | None:
    rank = len(output.shape)
    lead = _common(inputs, leads, rank)
    if lead is None or lead == rank - 1:
        return None
    order = front(rank, lead)
    return Turned(Concat(order.index(op.axis)), tuple((k, order) for k in range(len(inputs))), order)


def _by_axis(op: Any, _: Sequence[Tensor], leads: Leads, output: Tensor) -> Turned | None:
    """Ops with a number for each axis."""
    (lead,) = leads
    if lead is None:
        return None
    order = front(len(output.shape), lead)
    match op:
        case Gather():
            made: Op = replace(op, axis=order.index(op.axis))
        case Slice():
            starts, steps, shape = (tuple(v[k] for k in order) for v in (op.starts, op.steps, op.shape))
            made = Slice(starts, steps, shape)
        case Expand():
            made = Expand(tuple(op.shape[k] for k in order))
        case _:
            before, after = (tuple(v[k] for k in order) for v in (op.before, op.after))
            made = replace(op, before=before, after=after)
    return Turned(made, ((0, order),), order)


def _transpose(op: Transpose, inputs: Sequence[Tensor], leads: Leads, _: Tensor) -> Turned | None:
    """Where the leading axis becomes the first, this may be no transposition any more."""
    lead, rank = leads[0], len(op.perm)
    if lead is None:
        return None
    order = front(rank, lead)
    at = op.perm.index(lead)
    result = front(rank, at) if 0 < at < rank - 1 else None
    axes = tuple(op.perm[k] for k in result or range(rank))
    perm = tuple(map(order.index, axes))
    shape = tuple(inputs[0].shape[axis] for axis in axes)
    made = Reshape(shape) if perm == tuple(range(rank)) else Transpose(perm)
    return Turned(made, ((0, order),), result)


def _reshape(op: Reshape, inputs: Sequence[Tensor], leads: Leads, _: Tensor) -> Turned | None:
    """Where the leading axis stays one, the other axes are reshaped among themselves."""
    (x,), lead = inputs, leads[0]
    if lead is None:
        return None
    before, extent = prod(x.shape[:lead]), x.shape[lead]
    at = [k for k, n in enumerate(op.shape) if n == extent and prod(op.shape[:k]) == before]
    if not at or at[0] == len(op.shape) - 1:
        return None
    order = front(len(op.shape), at[0])
    made = Reshape(tuple(op.shape[k] for k in order))
    return Turned(made, ((0, front(len(x.shape), lead)),), order if at[0] else None)


_CONVOLUTIONS = (
    Conv,
    ConvInt8,
    ConvInt8ToFloat,
    ConvInt16,
    ConvTranspose,
    ConvTransposeInt8,
    ConvTransposeInt8ToFloat,
)
_POOLS = MaxPool, AveragePool, AveragePoolInt8
WINDOWS: frozenset[type[Op]] = frozenset((*_CONVOLUTIONS, *_POOLS, ResizeNearest, ResizeInt8))
RULES: dict[type[Op], Rule] = {
    **dict.fromkeys(_CONVOLUTIONS, _with_weights),
    **dict.fromkeys(_POOLS, _pool),
    ResizeNearest: _nearest,
    ResizeInt8: _linear,
    **dict.fromkeys(
        (Softmax, SoftmaxInt8, SoftmaxInt16, LayerNorm, LayerNormInt8, LayerNormInt16, AffineInt8), _last_axis
    ),
    **dict.fromkeys((Reduce, MeanInt8, MeanInt16, ArgMax), _reduce),
    Concat: _concat,
    **dict.fromkeys((Slice, Expand, Pad, Gather), _by_axis),
    Transpose: _transpose,
    Reshape: _reshape,
}
