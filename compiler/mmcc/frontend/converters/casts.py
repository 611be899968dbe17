# SPDX-License-Identifier: Apache-2.0
"""ONNX Cast and CastLike."""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.narrow import rounded_constant
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.tensors import FEW_BITS, KINDS, NARROW, byte_of, dtype_of
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType, Kind
from mmcc.ops.elementwise import Binary, Cast


@converts("Cast", notes="between the supported element types", layout=Layout.ANY)
def convert_cast(call: Call) -> Value:
    """Conversion to another element type."""
    x = call.input(0)
    to = call.integer("to") if call.version >= 6 else KINDS.get(call.text("to"), 0)
    call.without_effect("round_mode")  # of a type that mmcc does not have
    saturates = bool(call.integer("saturate", 1)) if call.version >= 19 else True
    if to in NARROW and call.build.is_constant(x.tensor):
        return rounded_constant(call.build, x, to, saturates)
    dtype = dtype_of(to, "the result of a Cast", call.build)
    if to in FEW_BITS:
        return _low_bits(call, x, to)
    return _cast(call, x, dtype, saturates)


@converts("CastLike", notes="between the supported element types", layout=Layout.ANY)
def convert_cast_like(call: Call) -> Value:
    """Conversion to the type of another operand."""
    call.without_effect("round_mode")
    x, like = call.input(0), call.input(1)
    number = call.build.stored.get(like.tensor, 0)
    if number in FEW_BITS:
        return _low_bits(call, x, number)
    return _cast(call, x, like.dtype, saturates=True)


def _cast(call: Call, x: Value, dtype: ElementType, saturates: bool) -> Value:
    """A value of its own where only the model's type changes: what is known of it goes with the tensor."""
    if x.dtype != dtype or (x.tensor in call.build.stored and not call.build.is_constant(x.tensor)):
        return unary(call.build, Cast(dtype, saturates), x)
    return call.build.constant(call.build.array(x)) if x.tensor in call.build.stored else x


def _low_bits(call: Call, x: Value, number: int) -> Value:
    """The low bits of what an integer of 8 bits becomes, one value a byte."""
    build, dtype = call.build, FEW_BITS[number]
    made = x if x.dtype == ElementType.I8 else unary(build, Cast(ElementType.I8), x)
    sign = 1 << (dtype.bits - 1)
    steps = [("bit_and", 2 * sign - 1)]
    steps += [("bit_xor", sign), ("sub", sign)] if dtype.kind is Kind.SIGNED else []
    for function, value in steps:
        made = elementwise(build, Binary(function), made, build.constant(np.array(value, np.int8)))
    if byte_of(dtype) == ElementType.U8:
        made = unary(build, Cast(ElementType.U8), made)
    build.stored[made.tensor] = number
    return made
