# SPDX-License-Identifier: Apache-2.0
"""QONNX's operators (https://github.com/fastmachinelearning/qonnx), as Brevitas and others export them.

All of them take floats and give floats that are multiples of a scale: Quant, IntQuant, BipolarQuant, Trunc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.converters.quantization import dequantized, quantized
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.qonnx_nodes import DOMAINS, NEAREST, ROUNDINGS
from mmcc.frontend.registry import Layout, Result, converts
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Unary, Where
from mmcc.ops.quantize import Dequantize

MOST_BITS = 32
BYTE_BITS = 8
INTEGER_BITS = 16  # that have kernels
Convert = TypeVar("Convert", bound=Callable[[Call], Result])


@dataclass(frozen=True, slots=True)
class Integers:
    """What a Quant rounds to: integers from `low` to `high`, in steps of `scale` from `zero` on."""

    scale: NDArray[np.float32]
    zero: NDArray[np.float32]
    bits: int
    signed: bool
    low: int
    high: int
    rounding: str

    @property
    def bipolar(self) -> bool:
        """True for -1 and 1, which is what one signed bit means to QONNX."""
        return self.signed and self.bits == 1

    @property
    def dtype(self) -> ElementType | None:
        """The smallest type with kernels that has them all; None if none has."""
        if self.bits > INTEGER_BITS:
            return None
        if self.bits <= BYTE_BITS:
            return ElementType.I8 if self.signed else ElementType.U8
        return ElementType.I16 if self.signed or self.bits < INTEGER_BITS else ElementType.U16


def _of_qonnx(op: str, notes: str) -> Callable[[Convert], Convert]:
    """Register a converter for an operator in each domain that it is exported with."""

    def register(function: Convert) -> Convert:
        for domain in DOMAINS:
            converts(op, domain=domain, notes=notes, layout=Layout.ANY)(function)
        return function

    return register


@_of_qonnx("Quant", "up to 32 bits; integers up to 16 with one scale, rounded to the nearest")
@_of_qonnx("IntQuant", "as Quant")
def convert_quant(call: Call) -> Value:
    """Round to integers, clamp to their range, and scale back: a quantized tensor and what it means.

    Where a zero point is odd, halves of a step are rounded to the other side, as QuantizeLinear does it.
    """
    build, x, to = call.build, call.float_input(0), _integers(call)
    if build.is_constant(x.tensor):
        return _constant(call, x, to)
    dtype = to.dtype
    whole = to.scale.size == to.zero.size == 1 and float(to.zero.reshape(())).is_integer()
    if to.bipolar or dtype is None or not whole or to.rounding not in NEAREST:
        return _computed(call, x, to)
    step, zero = float(to.scale.reshape(())), int(to.zero.reshape(()))
    if not to.low <= zero <= to.high:
        raise bad_model("MM107", f"the zero point {zero} is outside [{to.low}, {to.high}]")
    if (to.low, to.high) != (dtype.least, dtype.most):
        x = unary(build, Unary("clamp", (step * (to.low - zero), step * (to.high - zero))), x)
    return unary(build, Dequantize(step, zero), quantized(build, x, step, zero, dtype))


@_of_qonnx("BipolarQuant", "computed in float")
def convert_bipolar_quant(call: Call) -> Value:
    """The scale where an element is not negative, its opposite where it is."""
    x, scale = call.float_input(0), _scale(call, 1)
    if call.build.is_constant(x.tensor):
        real = call.build.array(x)
        _check_shapes(real, scale)
        call.build.spend(x.dtype.bytes(x.size), "BipolarQuant")
        return _kept(call, np.where(real >= 0, 1, -1), scale, np.zeros(1, np.float32), ElementType.I8)
    return elementwise(call.build, Binary("mul"), _sign(call, x), call.build.constant(scale))


@_of_qonnx("Trunc", "computed in float")
def convert_trunc(call: Call) -> Value:
    """Integers with fewer of their low bits: five operands in QONNX's first version, six in the second."""
    build, x = call.build, call.float_input(0)
    scale, zero = _parameters(call)
    first = not call.has(5)
    width = _bits(call, 4 if first else 5)
    rounding = _rounding(call, "FLOOR")
    if first:
        dropped, shift, step = 2.0 ** (_bits(call, 3) - width), zero, scale
    else:
        step = _scale(call, 4)
        dropped = 2.0 ** np.rint(np.log2(step / scale))
        shift = (zero / dropped).astype(np.float32)
    y = unary(build, Unary("round"), _steps(call, x, scale, zero))
    y = _with(call, "div", y, dropped)
    if not first:
        low, high = _ends(width, bool(call.integer("signed", 1)), bool(call.integer("narrow", 0)))
        y = unary(build, Unary("clamp", (float(low), float(high))), y)
    return _scaled(call, _rounded(call, y, rounding), step, shift)


def _integers(call: Call) -> Integers:
    scale, zero = _parameters(call)
    bits = _bits(call, 3)
    signed, narrow = bool(call.integer("signed", 1)), bool(call.integer("narrow", 0))
    ends = (-1, 1) if signed and bits == 1 else _ends(bits, signed, narrow)
    return Integers(scale, zero, bits, signed, *ends, _rounding(call, "ROUND"))


def _parameters(call: Call) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scale = _scale(call, 1)
    zero = call.needed(2, "the zero point").astype(np.float32)
    if not np.isfinite(zero).all():
        raise bad_model("MM107", f"the zero points of {call.node.op_type} are finite")
    return scale, zero


def _scale(call: Call, index: int) -> NDArray[np.float32]:
    scale = call.needed(index, "the scale").astype(np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise bad_model("MM107", f"the scales of {call.node.op_type} are positive and finite")
    return scale


def _bits(call: Call, index: int) -> int:
    """An operand that says of how many bits integers are; one number, though it may be repeated."""
    width = call.needed(index, "the number of bits").astype(np.float64).reshape(-1)
    if not width.size or (width != width[0]).any() or not width[0].is_integer():
        raise unsupported(f"{call.node.op_type} whose numbers of bits are {width[:4].tolist()}")
    if not 1 <= width[0] <= MOST_BITS:
        raise unsupported(f"{call.node.op_type} to {width[0]:.0f} bits; 1 to {MOST_BITS} are known")
    return int(width[0])


def _rounding(call: Call, default: str) -> str:
    mode = call.text("rounding_mode", default).upper()
    if mode not in ROUNDINGS:
        known = ", ".join(ROUNDINGS)
        raise bad_model("MM107", f"{call.node.op_type} with rounding_mode {mode}, not one of {known}")
    return mode


def _ends(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """The least and the largest integer of so many bits, or without the one furthest from 0."""
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def _constant(call: Call, x: Value, to: Integers) -> Value:
    """Weights: their integers, with scales for the whole or along one axis, or the floats that they mean."""
    call.build.spend(8 * x.size, call.node.op_type)
    real = call.build.array(x).astype(np.float64)
    _check_shapes(real, to.scale, to.zero)
    steps = real / to.scale + to.zero
    if to.bipolar:
        steps = np.where(steps >= 0, 1.0, -1.0)
    else:
        steps = ROUNDINGS[to.rounding](np.clip(steps, to.low, to.high))
    dtype = to.dtype
    if to.bits <= BYTE_BITS and dtype is not None and (to.zero == np.rint(to.zero)).all():
        return _kept(call, steps, to.scale, to.zero, dtype)
    return call.build.constant(((steps - to.zero) * to.scale).astype(np.float32))


def _check_shapes(real: NDArray[Any], *parameters: NDArray[Any]) -> None:
    """CompileError (MM104) if scales or zero points do not broadcast to the shape of a constant."""
    for each in parameters:
        last = real.shape[real.ndim - each.ndim :] if each.ndim <= real.ndim else ()
        if len(last) < each.ndim or any(n not in (1, m) for n, m in zip(each.shape, last, strict=True)):
            raise bad_model("MM104", f"{list(each.shape)} scales or zero points for {list(real.shape)}")


def _kept(
    call: Call, steps: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[np.float32], dtype: ElementType
) -> Value:
    """Constant integers, as DequantizeLinear reads them."""
    build, integers = call.build, steps.astype(dtype.numpy)
    zeros = np.rint(zero).astype(np.int64)
    if scale.size == 1 and zeros.size == 1:
        return dequantized(build, build.constant(integers), scale.reshape(1), zeros.reshape(1), None)
    shape = (1,) * (steps.ndim - scale.ndim) + scale.shape
    axes = [k for k, extent in enumerate(shape) if extent != 1]
    if len(axes) != 1 or zeros.size not in (1, scale.size):
        return build.constant(((steps - zero) * scale).astype(np.float32))
    zeros = np.broadcast_to(zeros.reshape(-1), (scale.size,))
    return dequantized(build, build.constant(integers), scale.reshape(-1), zeros, axes[0])


def _computed(call: Call, x: Value, to: Integers) -> Value:
    """In float, for what no integer kernel has."""
    steps = _steps(call, x, to.scale, to.zero)
    if to.bipolar:
        steps = _sign(call, steps)
    else:
        bounded = unary(call.build, Unary("clamp", (float(to.low), float(to.high))), steps)
        steps = _rounded(call, bounded, to.rounding)
    return _scaled(call, steps, to.scale, to.zero)


def _steps(call: Call, x: Value, scale: NDArray[np.float32], zero: NDArray[np.float32]) -> Value:
    y = _with(call, "div", x, scale)
    return _with(call, "add", y, zero) if zero.any() else y


def _scaled(call: Call, steps: Value, scale: NDArray[np.float32], zero: NDArray[np.float32]) -> Value:
    y = _with(call, "sub", steps, zero) if zero.any() else steps
    return _with(call, "mul", y, scale)


def _sign(call: Call, x: Value) -> Value:
    """1 where an element is at least 0, -1 elsewhere."""
    one, less, zero = (call.build.constant(np.array(number, np.float32)) for number in (1, -1, 0))
    positive = elementwise(call.build, Binary("greater_equal"), x, zero)
    return elementwise(call.build, Where(), positive, one, less)


def _rounded(call: Call, x: Value, mode: str) -> Value:
    build = call.build
    if mode in NEAREST:
        return unary(build, Unary("round"), x)
    if mode in ("FLOOR", "CEIL"):
        return unary(build, Unary(mode.lower()), x)
    size = unary(build, Unary("abs"), x)
    if mode == "HALF_UP":
        size = _with(call, "add", size, np.float32(0.5))
    elif mode == "HALF_DOWN":
        size = _with(call, "sub", size, np.float32(0.5))
    size = unary(build, Unary("ceil" if mode in ("UP", "HALF_DOWN") else "floor"), size)
    return elementwise(build, Binary("mul"), unary(build, Unary("sign"), x), size)


def _with(call: Call, function: str, x: Value, number: Any) -> Value:
    """An operation with a constant."""
    return elementwise(call.build, Binary(function), x, call.build.constant(np.asarray(number, np.float32)))
