# SPDX-License-Identifier: Apache-2.0
"""ONNX MatMulInteger and ConvInteger: sums of integers, in float where these are exact, then int32.

A sum of whole numbers in float32 is exact below 2^24: longer ones are made in parts, which are added as
integers.
"""

from __future__ import annotations

import numpy as np

from mmcc.frontend.blocked import blocked
from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.convolution import conv
from mmcc.frontend.converters.matrix import matmul
from mmcc.frontend.converters.parts import sliced
from mmcc.frontend.layouts import reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast

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


@converts("MatMulInteger", since=10, notes="exact, in parts of 258 products; weights stay of 8 bits")
def convert_matmul_integer(call: Call) -> Value:
    """The product of two matrices of 8-bit integers, as int32."""
    build = call.build
    a, b = _centred(call, 0, 2, -2), _centred(call, 1, 3, -1)
    if a.rank == 0 or b.rank == 0:
        raise bad_model("MM104", "MatMulInteger of a scalar")
    inner, down = a.shape[-1], max(b.rank - 2, 0)
    if b.shape[down] != inner:
        raise bad_model("MM104", f"cannot multiply {list(a.shape)} by {list(b.shape)}")
    parts: list[Value] = []
    for first in range(0, inner, TERMS):
        cut = first, 1, min(TERMS, inner - first)
        w = sliced(build, b, {down: cut})
        _keep_integers(call, w, first)
        parts.append(matmul(build, sliced(build, a, {a.rank - 1: cut}), w))
    return _added(build, parts)


def _keep_integers(call: Call, w: Value, first: int) -> None:
    """Note of weights in float, the rows from `first` on of operand 1, that they are integers of 8 bits."""
    build, given = call.build, call.input(1)
    zero = call.input(3) if call.has(3) else None
    known = [given] if zero is None else [given, zero]
    if given.rank != 2 or not all(build.is_constant(x.tensor) for x in (*known, w)):
        return
    integers = build.array(given)[first : first + w.shape[0]]
    zeros = np.zeros(1) if zero is None else build.array(zero).reshape(-1)
    shape = 1, integers.shape[1]
    if zeros.size not in (1, shape[1]):
        return
    kept = blocked(integers, np.ones(shape), np.broadcast_to(zeros, shape), len(integers), 0)
    if kept is not None:
        build.blocked[w.tensor] = kept


@converts("ConvInteger", since=10, notes="constant weights; exact", layout=Layout.CHANNELS_FIRST)
def convert_conv_integer(call: Call) -> Value:
    """A convolution of 8-bit integers, as int32."""
    build = call.build
    x, w = _centred(call, 0, 2, 1), _centred(call, 1, 3, 0)
    if w.rank < 3 or x.rank != w.rank:
        raise bad_model("MM104", f"convolution weights {list(w.shape)} do not fit input {list(x.shape)}")
    taps = w.size // max(1, w.shape[0] * w.shape[1])
    channels = TERMS // taps if taps else 0
    if w.shape[1] <= channels:
        return _added(build, [conv(call, x, w, None)])
    if not channels or call.integer("group", 1) != 1:
        raise unsupported(f"a ConvInteger of {w.shape[1]} channels and {taps} taps in groups")
    parts: list[Value] = []
    for first in range(0, w.shape[1], channels):
        cut = {1: (first, 1, min(channels, w.shape[1] - first))}
        parts.append(conv(call, sliced(build, x, cut), sliced(build, w, cut), None))
    return _added(build, parts)
