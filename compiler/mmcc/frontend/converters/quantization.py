# SPDX-License-Identifier: Apache-2.0
"""ONNX QuantizeLinear and DequantizeLinear. They stay explicit: a pass makes integer operators of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mmcc.frontend.blocked import blocked
from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call, normal_axis
from mmcc.frontend.layouts import viewed, with_axis
from mmcc.frontend.narrow import is_widened, type_of
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import MICROSOFT, Layout, converts
from mmcc.frontend.tensors import FEW_BITS, NARROW, byte_of, dtype_of
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize, QuantizeBy

QUANTIZED = (ElementType.I8, ElementType.U8, ElementType.I16, ElementType.U16)
USED_AS_INTEGERS = (
    ElementType.I8,
    ElementType.U8,
    ElementType.I16,
    ElementType.I32,
)  # constants that integer operators can take


def check_scales(
    scale: NDArray[Any], zero: NDArray[Any] | None, dtype: ElementType, *, negative: bool = False
) -> NDArray[np.int64]:
    """The zero points, as many as scales; errors for what no quantizer writes.

    Some write `negative` scales for weights, so that the value furthest from 0 is the least integer.
    """
    if scale.dtype != np.float32 or not scale.size:
        raise bad_model("MM107", f"scales of type {scale.dtype} and shape {list(scale.shape)}")
    sound = np.isfinite(scale) & ((scale > 0) | (negative & (scale != 0)))
    if not sound.all():
        wrong = scale[~sound].reshape(-1)[0]
        raise bad_model("MM107", f"a scale is {wrong}; scales are positive and finite")
    if zero is None:
        return np.zeros(scale.shape, np.int64)
    if zero.size != scale.size:
        raise bad_model("MM107", f"{scale.size} scales and {zero.size} zero points")
    if zero.dtype != dtype.numpy:
        raise bad_model("MM107", f"zero points are of type {zero.dtype}, and the integers are {dtype.name}")
    return zero.astype(np.int64).reshape(scale.shape)


def _parameters(
    call: Call, x: Value, dtype: ElementType
) -> tuple[NDArray[Any], NDArray[np.int64], int | None]:
    """Scales, zero points and their axis (None: one for all), before blocks are spread out."""
    scale = call.needed(1, "the scale")
    weights = call.node.op_type == "DequantizeLinear" and call.build.is_constant(x.tensor)
    zero = call.constant(2, "the zero point")
    if zero is not None and type_of(call.build, call.inputs[2]) in FEW_BITS:
        zero = zero.astype(dtype.numpy)  # constants of few bits are int8, whatever their sign
    zeros = check_scales(scale, zero, dtype, negative=weights)
    if scale.size == 1:
        call.without_effect("axis", "block_size")
        return scale.reshape(-1), zeros.reshape(-1), None
    axis = normal_axis(call.integer("axis", 1), x.rank)
    block = call.integer("block_size", 0)
    if not block:
        if scale.shape != (x.shape[axis],):
            raise bad_model("MM107", f"{list(scale.shape)} scales for axis {axis} of {list(x.shape)}")
        return scale, zeros, axis
    blocks = tuple(-(-n // block) if k == axis else n for k, n in enumerate(x.shape))
    if block < 1 or scale.shape != blocks:
        raise bad_model("MM107", f"{list(scale.shape)} scales for blocks of {block} of {list(x.shape)}")
    spread = [np.repeat(a, block, axis).take(range(x.shape[axis]), axis) for a in (scale, zeros)]
    return spread[0], spread[1], axis


@converts("DequantizeLinear", domain=MICROSOFT, notes="as ONNX's", layout=Layout.ANY)
@converts(
    "DequantizeLinear",
    since=10,
    notes="per tensor, per axis, in blocks; kept for integer operators",
    layout=Layout.ANY,
)
def convert_dequantize(call: Call) -> Value:
    """(x - zero point) * scale."""
    x = call.input(0)
    if is_widened(call.build, x):
        return _dequantized_floats(call, x)
    if x.dtype == ElementType.I64 and call.build.is_constant(x.tensor):
        return _dequantized_wide(call, x)
    if x.dtype not in (*QUANTIZED, ElementType.I32):
        raise bad_model("MM104", f"DequantizeLinear of {x.dtype.name}")
    wanted = call.integer("output_dtype", 0) if call.version >= 23 else 0
    if wanted and dtype_of(wanted, "the result", call.build) not in (ElementType.F32, ElementType.F16):
        raise bad_model("MM104", f"DequantizeLinear to {wanted}")
    if not all(call.build.is_constant(call.input(k).tensor) for k in (1, 2) if call.has(k)):
        return _dequantized_by_computed(call, x)
    scale, zeros, axis = _parameters(call, x, x.dtype)
    made = dequantized(call.build, x, scale, zeros, axis)
    block = call.integer("block_size", 0) if scale.ndim == 2 else 0
    if block and axis is not None and call.build.is_constant(made.tensor):
        some = [np.take(a, range(0, x.shape[axis], block), axis) for a in (scale, zeros)]
        kept = blocked(call.build.array(x), some[0], some[1], block, axis)
        if kept is not None:
            call.build.blocked[made.tensor] = kept
    return made


def _dequantized_wide(call: Call, x: Value) -> Value:
    """Constants of int64, which ONNX does not have here: tf2onnx writes the biases of 16x8 models so."""
    call.build.warn(
        "DequantizeLinear takes no int64 in ONNX, so ONNX Runtime refuses the file as it is; "
        "a constant is read as int32 where it fits, and verify compares with the file so changed"
    )
    scale, zeros, axis = _parameters(call, x, ElementType.I64)
    if scale.ndim > 1:
        raise bad_model("MM104", "DequantizeLinear of int64 in blocks")
    integers = call.build.array(x)
    call.build.spend(integers.nbytes, "DequantizeLinear")
    least, most = ElementType.I32.least, ElementType.I32.most
    if all(((least <= a) & (a <= most)).all() for a in (integers, zeros)):
        narrow = call.build.constant(integers.astype(np.int32))
        return dequantized(call.build, narrow, scale, zeros, axis)
    steps = integers - _along(zeros, axis, x.rank)
    return call.build.constant(steps.astype(np.float32) * _along(scale, axis, x.rank))


def _dequantized_by_computed(call: Call, x: Value) -> Value:
    """With a scale or a zero point that is computed at run time, one for all elements: in float."""
    build, (scale, zero) = call.build, _computed(call, x.dtype)
    steps = unary(build, Cast(ElementType.F32), x)
    if zero is not None:
        steps = elementwise(build, Binary("sub"), steps, zero)
    return elementwise(build, Binary("mul"), steps, scale)


def _computed(call: Call, dtype: ElementType) -> tuple[Value, Value | None]:
    """The scale and the zero point of integers of that type where one is computed, as scalars of float."""
    scale = call.float_input(1)
    if scale.size != 1 or call.integer("block_size", 0):
        raise unsupported("scales (operand 1) are computed at run time, one for each channel")
    call.without_effect("axis", "block_size")
    scale = scale.without(range(scale.rank))
    if not call.has(2):
        return scale, None
    zero = call.input(2)
    if zero.size != 1:
        raise bad_model("MM107", f"1 scale and {zero.size} zero points")
    if zero.dtype != dtype:
        raise bad_model("MM107", f"the zero point is {zero.dtype.name}, and the integers are {dtype.name}")
    return scale, unary(call.build, Cast(ElementType.F32), zero.without(range(zero.rank)))


def _dequantized_floats(call: Call, x: Value) -> Value:
    """Of floats of 8 bits and fewer, whose zero point, if there is one, is 0: one scale, or one a channel."""
    scale = call.needed(1, "the scale")
    zero = call.constant(2, "the zero point")
    if zero is not None and zero.any():
        raise bad_model("MM107", "a zero point of floats that is not 0")
    if scale.size == 1:
        call.without_effect("axis")
        return elementwise(call.build, Binary("mul"), x, call.build.constant(scale.reshape(())))
    axis = normal_axis(call.integer("axis", 1), x.rank)
    if scale.shape != (x.shape[axis],):
        raise bad_model("MM107", f"{list(scale.shape)} scales for axis {axis} of {list(x.shape)}")
    factor = call.build.constant(_along(scale, axis, x.rank))
    return elementwise(call.build, Binary("mul"), x, factor)


def dequantized(
    build: Builder, x: Value, scale: NDArray[Any], zeros: NDArray[np.int64], axis: int | None
) -> Value:
    """What the integers of `x` mean. Constants stay integers where an integer operator can use them."""
    if build.is_constant(x.tensor):
        if scale.ndim == 1 and x.dtype in USED_AS_INTEGERS and (scale > 0).all():
            return _dequantized_constant(build, x, scale, zeros, axis)
        build.spend(8 * x.size, "DequantizeLinear")
        scale, zeros = (_along(a, axis, x.rank) for a in (scale, zeros))
        integers = build.array(x).astype(np.int64)
        return build.constant((integers - zeros).astype(np.float32) * scale)
    _warn_of_width(build, x.dtype, plain=scale.size == 1 and not zeros.any())
    if scale.size == 1:
        return unary(build, Dequantize(float(scale[0]), int(zeros[0])), x)
    y = unary(build, Cast(ElementType.F32), x)
    for function, array in (("sub", zeros.astype(np.float32)), ("mul", scale)):
        if array.any():
            y = elementwise(build, Binary(function), y, build.constant(_along(array, axis, x.rank)))
    return y


def _warn_of_width(build: Builder, dtype: ElementType, *, plain: bool) -> None:
    """Say that an activation has no integer kernels; `plain` is one scale and a zero point of 0."""
    if dtype == ElementType.U16 or (dtype == ElementType.I16 and not plain):
        is_int16 = dtype == ElementType.I16
        kind = "int16 with zero points or several scales" if is_int16 else "uint16"
        but = ", but for functions of one tensor with one scale" if is_int16 else ""
        build.warn(
            f"an activation is quantized to {kind}, and integer kernels take int8, or int16 with a zero "
            f"point of 0: what reads or makes it is computed in float, 4 bytes an element{but}"
        )


def _dequantized_constant(
    build: Builder, x: Value, scale: NDArray[Any], zeros: NDArray[np.int64], axis: int | None
) -> Value:
    if axis is not None and x.axes[axis] and len(x.axes[axis]) == 1:
        x, at = with_axis(build, x, axis)
    else:
        at = None
        if axis is not None:
            build.spend(x.dtype.bytes(x.size), "DequantizeLinear")
            x, at = build.constant(build.array(x)), axis
    op = DequantizeConstant(tuple(map(float, scale)), tuple(map(int, zeros)), at)
    made = build.emit(op, viewed(build, x))
    return Value(made.name, ElementType.F32, made.shape, x.axes)


def _along(array: NDArray[Any], axis: int | None, rank: int) -> NDArray[Any]:
    """A vector along an axis, ready to broadcast; anything else as it is."""
    if array.ndim != 1:
        return array
    return array.reshape(
        tuple(-1 if k == axis else 1 for k in range(rank)) if axis is not None else (1,) * rank
    )


@converts("QuantizeLinear", domain=MICROSOFT, notes="as ONNX's", layout=Layout.ANY)
@converts("QuantizeLinear", since=10, notes="per tensor, per axis; to 8 and 16 bits", layout=Layout.ANY)
def convert_quantize(call: Call) -> Value:
    """Round to integers and saturate."""
    x = call.float_input(0)
    number = TensorProto.UINT8
    if call.has(2):
        number = type_of(call.build, call.inputs[2])
    elif call.version >= 21 and call.integer("output_dtype", 0):
        number = call.integer("output_dtype")
    if number in NARROW:
        return _quantized_floats(call, x, NARROW[number])
    dtype = FEW_BITS.get(number) or dtype_of(number, "the result", call.build)
    if dtype not in (*QUANTIZED, *FEW_BITS.values()):
        raise unsupported(f"QuantizeLinear to {dtype.name}", code="MM203")
    if number in FEW_BITS and not call.build.is_constant(call.input(1).tensor):
        raise unsupported("scales (operand 1) are computed at run time", code="MM202")
    if not all(call.build.is_constant(call.input(k).tensor) for k in (1, 2) if call.has(k)):
        return _quantized_by_computed(call, x, dtype)
    build, byte = call.build, byte_of(dtype) if number in FEW_BITS else dtype
    scale, zeros, axis = _parameters(call, x, byte)
    if scale.size == 1 and dtype == byte:
        return quantized(build, x, float(scale[0]), int(zeros[0]), dtype)
    steps = elementwise(build, Binary("div"), x, build.constant(_along(scale, axis, x.rank)))
    steps = unary(build, Unary("round"), steps)
    if zeros.any():
        zero = build.constant(_along(zeros.astype(np.float32), axis, x.rank))
        steps = elementwise(build, Binary("add"), steps, zero)
    made = _saturated(build, steps, dtype, byte)
    if number in FEW_BITS:
        build.stored[made.tensor] = number
    return made


def _quantized_floats(call: Call, x: Value, dtype: ElementType) -> Value:
    """To floats of 8 bits and fewer: x / scale, rounded once."""
    scale = call.needed(1, "the scale")
    axis = normal_axis(call.integer("axis", 1), x.rank) if scale.size > 1 else None
    if scale.ndim > 1 or (axis is not None and scale.size != x.shape[axis]):
        raise unsupported(f"QuantizeLinear to {dtype.name} with scales of shape {list(scale.shape)}")
    call.without_effect("axis", "block_size", "output_dtype")
    factor = call.build.constant(_along(scale.reshape(-1), axis, x.rank))
    steps = elementwise(call.build, Binary("div"), x, factor)
    return unary(call.build, Cast(dtype, bool(call.integer("saturate", 1))), steps)


def _quantized_by_computed(call: Call, x: Value, dtype: ElementType) -> Value:
    """With a scale or a zero point that is computed at run time, one for all elements."""
    build, (scale, zero) = call.build, _computed(call, dtype)
    zero = build.constant(np.zeros((), np.float32)) if zero is None else zero
    return elementwise(build, QuantizeBy(dtype), x, scale, zero)


def _saturated(build: Builder, steps: Value, dtype: ElementType, held: ElementType) -> Value:
    """Whole steps as integers of a type, which `held` holds; NaN as Quantize has it."""
    bounded = unary(build, Unary("saturate", (float(dtype.least), float(dtype.most))), steps)
    return unary(build, Cast(held), bounded)


def quantized(build: Builder, x: Value, scale: float, zero: int, dtype: ElementType) -> Value:
    """Quantize a whole tensor."""
    return unary(build, Quantize(scale, zero, dtype), x)
