# SPDX-License-Identifier: Apache-2.0
"""ONNX MatMulInteger and ConvInteger: sums of integers, in float where these are exact, then int32.

A sum of whole numbers in float32 is exact below 2^24: longer ones are made in parts, which are added as
integers. Weights that are constant stay integers: a layer of int8 makes the sums. What the zero point of the
other operand adds to them is taken off behind it where that is known at run time only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.convolution import conv
from mmcc.frontend.converters.matrix import dense_sums, matmul
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.converters.windows import each_sample, from_spatial, resolved_pads, sliding, spatial
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast
from mmcc.ops.int8_to_float import ConvInt8ToFloat
from mmcc.ops.movement import Concat, Expand, Reshape
from mmcc.ops.quantize import FlipSign
from mmcc.ops.window import Window

TERMS = 2**24 // 255**2  # products of 8-bit numbers less their zero points, the sum of which is exact


def _centred(call: Call, k: int, zero_at: int, axis: int) -> Value:
    """Operand k in float, less its zero point: one for all, or one along an axis."""
    build, x = call.build, call.input(k)
    if x.dtype not in (ElementType.I8, ElementType.U8):
        raise bad_model("MM104", f"operand {k} is {x.dtype.name}, not of 8 bits")
    y = unary(build, Cast(ElementType.F32), x)
    if not call.has(zero_at):
        return y
    zero = unary(build, Cast(ElementType.F32), call.input(zero_at))
    if zero.size == 1:
        zero = zero.without(range(zero.rank))
    elif zero.rank == 1 and zero.size == x.shape[axis]:
        zero = reshaped(build, zero, (zero.size, *(1,) * (x.rank - 1 - axis % x.rank)))
    return elementwise(build, Binary("sub"), y, zero)


def _added(build: Builder, parts: list[Value]) -> Value:
    """The sum of the parts as integers."""
    total = unary(build, Cast(ElementType.I32), parts[0])
    for part in parts[1:]:
        total = elementwise(build, Binary("add"), total, unary(build, Cast(ElementType.I32), part))
    return total


@converts(
    "MatMulInteger", since=10, notes="exact; constant weights stay integers, else in parts of 258 products"
)
def convert_matmul_integer(call: Call) -> Value:
    """The product of two matrices of 8-bit integers, as int32."""
    build = call.build
    left, right = call.input(0), call.input(1)
    if left.rank == 0 or right.rank == 0:
        raise bad_model("MM104", "MatMulInteger of a scalar")
    inner, down = left.shape[-1], max(right.rank - 2, 0)
    if right.shape[down] != inner:
        raise bad_model("MM104", f"cannot multiply {list(left.shape)} by {list(right.shape)}")
    made = _of_integers(call)
    if made is not None:
        return made
    a, b = _centred(call, 0, 2, -2), _centred(call, 1, 3, -1)
    parts: list[Value] = []
    for first in range(0, inner, TERMS):
        cut = first, 1, min(TERMS, inner - first)
        w = sliced(build, b, {down: cut})
        parts.append(matmul(build, sliced(build, a, {a.rank - 1: cut}), w))
    return _added(build, parts)


def _of_integers(call: Call) -> Value | None:
    """The product by layers of int8, if the second operand is a constant matrix; None if not, or if the first
    has several zero points."""
    build, weights, source = call.build, _weights(call), _source(call)
    if weights is None or source is None:
        return None
    w, zeros = weights
    x, x_zero, computed = source.x, source.zero, source.computed
    one = int(zeros[0]) if np.unique(zeros).size == 1 else 0
    several = zeros - one  # of columns that have zero points of their own
    sizes = np.abs(w.astype(np.int16) - np.int16(one)) + np.abs(several).reshape(-1, 1)
    parts: list[Value] = []
    for first, last in _exact_parts(sizes):
        some = sliced(build, x, {x.rank - 1: (first, 1, last - first)})

        def sums(columns: NDArray[np.int8], less: int, some: Value = some) -> Value:
            y = dense_sums(build, some, x.rank - 1, build.constant(columns), (x_zero, less))
            if computed is None:
                return y
            totals = (columns.sum(1, dtype=np.int64) - less * columns.shape[1]).astype(np.float32)
            off = elementwise(build, Binary("mul"), computed, build.constant(totals))
            return elementwise(build, Binary("sub"), y, off)

        y = sums(np.ascontiguousarray(w[:, first:last]), one)
        if several.any():
            inputs = sums(np.ones((1, last - first), np.int8), 0)
            more = elementwise(build, Binary("mul"), inputs, build.constant(several.astype(np.float32)))
            y = elementwise(build, Binary("sub"), y, more)
        parts.append(y)
    return _added(build, parts)


@dataclass(frozen=True, slots=True)
class _Source:
    """The first operand as int8, with its zero point; where that is known at run time only, `zero` is 0, and
    `computed` the number."""

    x: Value
    zero: int
    computed: Value | None


def _source(call: Call) -> _Source | None:
    """The first operand, if it is computed and has one zero point at most."""
    build, x = call.build, _signed(call.build, call.input(0))
    zero = call.input(2) if call.has(2) else None
    if x is None or build.is_constant(call.input(0).tensor):
        return None
    if zero is not None and (zero.size != 1 or zero.dtype != call.input(0).dtype):
        return None
    moved = 128 if call.input(0).dtype == ElementType.U8 else 0
    if zero is None:
        return _Source(x, -moved, None)
    if build.is_constant(zero.tensor):
        return _Source(x, int(build.array(zero).reshape(())) - moved, None)
    return _Source(x, 0, _number(build, zero, moved))


def _signed(build: Builder, x: Value) -> Value | None:
    """A value of 8 bits as int8, of uint8 less 128."""
    if x.dtype == ElementType.U8:
        return unary(build, FlipSign(), x)
    return x if x.dtype == ElementType.I8 else None


def _number(build: Builder, zero: Value, moved: int) -> Value:
    """A zero point as a float number, less what its tensor was moved by."""
    wide = unary(build, Cast(ElementType.F32), zero.without(range(zero.rank)))
    return (
        elementwise(build, Binary("sub"), wide, build.constant(np.array(moved, np.float32)))
        if moved
        else wide
    )


def _weights(call: Call) -> tuple[NDArray[np.int8], NDArray[np.int16]] | None:
    """The second operand [N, K] as int8, and its zero points [N]; none where those can be taken off."""
    build, given = call.build, call.input(1)
    zero = call.input(3) if call.has(3) else None
    known = [given] if zero is None else [given, zero]
    if given.rank != 2 or given.dtype not in (ElementType.I8, ElementType.U8) or not given.size:
        return None
    if not all(build.is_constant(x.tensor) for x in known):
        return None
    w = build.array(given).T.astype(np.int16)
    zeros = np.zeros(1, np.int16) if zero is None else build.array(zero).reshape(-1).astype(np.int16)
    if zeros.size not in (1, len(w)):
        return None
    centred = w - zeros.reshape(-1, 1)
    if centred.min() >= -128 and centred.max() <= 127:
        return centred.astype(np.int8), np.zeros(len(w), np.int16)
    moved = 128 if given.dtype == ElementType.U8 else 0
    return (w - moved).astype(np.int8), np.broadcast_to(zeros - moved, len(w))


def _exact_parts(sizes: NDArray[Any]) -> list[tuple[int, int]]:
    """Where to cut so that no sum passes 2^24: of 8-bit values, less a zero point, times `sizes` [N, K]."""
    cuts, first = list[tuple[int, int]](), 0
    sums = np.zeros(len(sizes), np.int64)
    for k in range(sizes.shape[1]):
        sums += sizes[:, k]
        if k > first and int(sums.max()) * 255 > 2**24:
            cuts.append((first, k))
            first, sums = k, sizes[:, k].astype(np.int64)
    return [*cuts, (first, sizes.shape[1])]


def _conv_of_integers(call: Call) -> Value | None:
    """The convolution by layers of int8; None where weights have several zero points that int8 cannot take
    off, or a sum over the taps of one channel may pass 2^24."""
    build, filters, source = call.build, _filters(call), _source(call)
    if filters is None or source is None or source.x.rank not in (3, 4):
        return None
    (w, w_zero), x, groups = filters, source.x, call.integer("group", 1)
    if x.rank != w.ndim or groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        return None
    taps = w.reshape(*w.shape[:2], -1)
    sizes = np.abs(taps.astype(np.int64) - w_zero).sum(2)
    parts = _exact_parts(sizes)
    largest = max(int(sizes[:, first:last].sum(1).max()) for first, last in parts)
    if largest * 255 > 2**24 or (len(parts) > 1 and groups > 1):
        return None
    slide = sliding(call, x, w.shape[2:])
    window = slide.window(resolved_pads(slide, x.shape[2:]))
    border = ""  # of pads that are known at run time only
    if source.computed is not None and any(window.pads):
        zero = _signed(build, call.input(2))
        assert zero is not None
        border = build.emit(Reshape((1, 1, 1)), zero.tensor).name
    op = ConvInt8ToFloat(
        replace(window, pads=(0, 0, 0, 0)) if border else window, source.zero, groups, w_zero
    )
    arrays = np.zeros(len(w), np.int32), np.ones(len(w), np.float32), np.zeros(len(w), np.float32)
    per_filter = [build.constant(array).tensor for array in arrays]
    last = np.ascontiguousarray(np.moveaxis(w.reshape(*w.shape[:2], *window.kernel), 1, 3))
    weights = [build.constant(np.ascontiguousarray(last[..., a:b])).tensor for a, b in parts]

    def sums(one: Value) -> Value:
        found: list[Value] = []
        for (first, behind), filters in zip(parts, weights, strict=True):
            some = sliced(build, one, {1: (first, 1, behind - first)}) if len(parts) > 1 else one
            taken = spatial(build, some)
            if border:
                taken = _padded(build, taken, border, window)
            y = from_spatial(build.emit(op, taken, filters, *per_filter), x.rank)
            if source.computed is not None:
                totals = build.data(filters).reshape(len(w), -1).sum(1, dtype=np.int64)
                totals = (totals - w_zero * taps.shape[2] * (behind - first)).astype(np.float32)
                channels = build.constant(totals.reshape(-1, *(1,) * (x.rank - 2)))
                y = elementwise(
                    build, Binary("sub"), y, elementwise(build, Binary("mul"), source.computed, channels)
                )
            found.append(y)
        return _added(build, found)

    return each_sample(build, x, sums)


def _padded(build: Builder, x: str, zero: str, window: Window) -> str:
    """A tensor [H, W, C] with a zero point that is known at run time only around it, as the window pads."""
    top, left, bottom, right = window.pads
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        shape = build.tensors[x].shape
        parts = [x]
        for at, count in ((0, before), (2, after)):
            if count:
                border = tuple(count if k == axis else extent for k, extent in enumerate(shape))
                parts.insert(at, build.emit(Expand(border), zero).name)
        x = build.emit(Concat(axis), *parts).name if len(parts) > 1 else x
    return x


def _filters(call: Call) -> tuple[NDArray[np.int8], int] | None:
    """The second operand [OC, C, ...] as int8, and its zero point; None where it has several that int8 cannot
    take off."""
    build, given = call.build, call.input(1)
    zero = call.input(3) if call.has(3) else None
    known = [given] if zero is None else [given, zero]
    if given.rank < 3 or given.dtype not in (ElementType.I8, ElementType.U8) or not given.size:
        return None
    if not all(build.is_constant(x.tensor) for x in known):
        return None
    w = build.array(given).astype(np.int16)
    zeros = np.zeros(1, np.int16) if zero is None else build.array(zero).reshape(-1).astype(np.int16)
    if zeros.size not in (1, len(w)):
        return None
    centred = w - zeros.reshape(-1, *(1,) * (w.ndim - 1))
    if centred.min() >= -128 and centred.max() <= 127:
        return centred.astype(np.int8), 0
    moved = 128 if given.dtype == ElementType.U8 else 0
    return ((w - moved).astype(np.int8), int(zeros[0]) - moved) if np.unique(zeros).size == 1 else None


@converts(
    "ConvInteger",
    since=10,
    notes="constant weights, which stay integers; exact",
    layout=Layout.CHANNELS_FIRST,
)
def convert_conv_integer(call: Call) -> Value:
    """A convolution of 8-bit integers, as int32."""
    build = call.build
    made = _conv_of_integers(call)
    if made is not None:
        return made
    x, w = _centred(call, 0, 2, 1), _centred(call, 1, 3, 0)
    if w.rank < 3 or x.rank != w.rank:
        raise bad_model("MM104", f"convolution weights {list(w.shape)} do not fit input {list(x.shape)}")
    taps = w.size // max(1, w.shape[0] * w.shape[1])
    channels = TERMS // taps if taps else 0
    if w.shape[1] <= channels:
        return _added(build, [conv(call, x, w, None)])
    if not channels:
        raise unsupported(f"a ConvInteger of {taps} taps, the sum of which may not be exact in float")
    if call.integer("group", 1) != 1:
        raise unsupported(f"a ConvInteger of {w.shape[1]} channels and {taps} taps in groups")
    parts: list[Value] = []
    for first in range(0, w.shape[1], channels):
        cut = {1: (first, 1, min(channels, w.shape[1] - first))}
        parts.append(conv(call, sliced(build, x, cut), sliced(build, w, cut), None))
    return _added(build, parts)
