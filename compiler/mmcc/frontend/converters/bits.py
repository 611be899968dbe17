# SPDX-License-Identifier: Apache-2.0
"""ONNX operators on the bits of integers."""

from __future__ import annotations

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.tensors import dtype_of
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary, BitCast, Unary

BITWISE = {"BitwiseAnd": "bit_and", "BitwiseOr": "bit_or", "BitwiseXor": "bit_xor"}


def _integer(call: Call, k: int) -> Value:
    x = call.input(k)
    if not x.dtype.is_integer:
        raise bad_model("MM104", f"operand {k} is {x.dtype.name}, no integer")
    return x


@converts(*BITWISE, since=18, layout=Layout.ANY)
def convert_bitwise(call: Call) -> Value:
    """Bit by bit."""
    return elementwise(call.build, Binary(BITWISE[call.node.op_type]), _integer(call, 0), _integer(call, 1))


@converts("BitwiseNot", since=18, layout=Layout.ANY)
def convert_bitwise_not(call: Call) -> Value:
    """All bits inverted."""
    return unary(call.build, Unary("bit_not"), _integer(call, 0))


@converts("BitShift", since=11, layout=Layout.ANY)
def convert_bit_shift(call: Call) -> Value:
    """Shift integers; to the right, negative ones stay so."""
    direction = call.text("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise bad_model("MM103", f'direction is "{direction}"')
    function = "shift_left" if direction == "LEFT" else "shift_right"
    return elementwise(call.build, Binary(function), _integer(call, 0), _integer(call, 1))


@converts("BitCast", since=26, notes="between types of one size", layout=Layout.ANY)
def convert_bit_cast(call: Call) -> Value:
    """The same bits as another type."""
    x = call.input(0)
    dtype = dtype_of(call.integer("to"), "the result of a BitCast", call.build)
    if dtype.bits != x.dtype.bits:
        raise unsupported(f"BitCast from {x.dtype.name} to {dtype.name}, which is of another size")
    return x if dtype == x.dtype else unary(call.build, BitCast(dtype), x)
