# SPDX-License-Identifier: Apache-2.0
"""The integer form of one float op between Dequantize and Quantize, with all its constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Node
from mmcc.ir.op import Op
from mmcc.ir.types import Quant
from mmcc.ops.activation import Activation, Clamp
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.dense import Dense, DenseInt8
from mmcc.ops.elementwise import Binary
from mmcc.ops.elementwise_int8 import AddInt8, MulInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.layers import FloatLayer
from mmcc.ops.pool import AveragePool, AveragePoolInt8, window_counts
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize
from mmcc.ops.reduce import MeanInt8, Reduce
from mmcc.ops.requantize import MAX_SHIFT, MIN_SHIFT, multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.resize import LINEAR_TAPS, ROW_BITS, ResizeInt8, ResizeLinear
from mmcc.ops.softmax import Softmax, SoftmaxInt8, exp_table
from mmcc.passes.draft import Draft

SAME_SCALE = 2.0**-18  # bias scales closer than this (relative) to x_scale * w_scale are taken as equal
INT32 = 2**31 - 1
MOST_BIAS_BITS = 16
UNSEEN = 2.0**-22  # of an output's step: a bias this near changes fewer outputs than float rounding does

Form = tuple[Op, tuple[str, ...]]


class StaysFloat(Exception):
    """Why an op has no integer form here, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Source:
    """An int8 tensor, and what its integers mean."""

    name: str
    quant: Quant


@dataclass(frozen=True, slots=True)
class Target:
    """What the integer form must give: quantization and bounds of its output."""

    quant: Quant
    low: int = -128
    high: int = 127


def integer_form(draft: Draft, node: Node, quantize: Quantize, clamps: list[Clamp]) -> Form:
    """The op and operands that compute node, clamps and quantize at once; raises StaysFloat."""
    convert = FORMS.get(type(node.op))
    if convert is None:
        raise StaysFloat(f"there is no integer form of {node.op}")
    activation: Activation | None = getattr(node.op, "activation", None)
    if activation is not None and not isinstance(activation, Clamp):
        raise StaysFloat(f"the model does not quantize between it and its {activation}")
    inner = [activation] if activation is not None else []
    target = Target(Quant(quantize.scale, quantize.zero_point), *clamp_range(quantize, [*inner, *clamps]))
    try:
        return convert(draft, node, target)
    except ValueError as error:  # from multiplier_and_shift
        raise StaysFloat(str(error)) from None


def clamp_range(quantize: Quantize, clamps: list[Clamp]) -> tuple[int, int]:
    """What the clamps' bounds become when quantized; exact, since quantizing never changes an order."""
    low, high = -128, 127
    for clamp in clamps:
        (ends,) = quantize.reference(np.array([clamp.low, clamp.high], np.float32))
        low, high = (min(max(bound, int(ends[0])), int(ends[1])) for bound in (low, high))
    return low, high


def source_of(draft: Draft, name: str) -> Source:
    """The int8 tensor or constant behind a float tensor."""
    node = draft.producer.get(draft.now(name))
    if node is None or not isinstance(node.op, (Dequantize, DequantizeConstant)):
        raise StaysFloat(f"%{name} is not quantized")
    dtype = draft.tensors[node.inputs[0]].dtype
    if isinstance(node.op, Dequantize):
        if dtype != ElementType.I8:
            raise StaysFloat(f"%{name} is quantized to {dtype.ctype}, and only int8 has integer kernels")
        return Source(node.inputs[0], Quant(node.op.scale, node.op.zero_point))
    if len(node.op.scales) != 1 or len(node.op.zero_points) != 1 or dtype != ElementType.I8:
        raise StaysFloat(f"the constant %{name} is not quantized to int8 with one scale")
    return Source(node.inputs[0], Quant(node.op.scales[0], node.op.zero_points[0]))


def real(scale: float) -> float:
    """A scale as the float32 it is in the model."""
    return float(np.float32(scale))


@dataclass(frozen=True, slots=True)
class Products:
    """What a layer sums up in integers: (x - x_zero) * (w - w_zero), in units of `unit` [OC]."""

    x: Source
    w: NDArray[np.int8]
    w_zero: int
    unit: NDArray[np.float64]

    def bound(self, b: NDArray[np.int64], bits: int = 0) -> int:
        """As `accumulator_bound`."""
        return accumulator_bound(self.w, self.w_zero, b, self.x.quant.zero_point, bits)

    def operands(self, draft: Draft, node: Node, **more: NDArray[Any]) -> tuple[str, ...]:
        """The names of x, the weights, and constants for each output channel."""
        source = draft.producer[draft.now(node.inputs[1])].inputs[0]
        same = np.array_equal(draft.constants[source], self.w) and draft.constants[source].dtype == np.int8
        w = source if same else draft.constant(self.w, f"{node.inputs[1]}_int8")
        constants = (draft.constant(data, f"{node.output}_{what}") for what, data in more.items())
        return (self.x.name, w, *constants)


def _products(draft: Draft, node: Node) -> Products:
    x = source_of(draft, node.inputs[0])
    w, w_zero, w_scales = _weights(draft, node.inputs[1])
    return Products(x, w, w_zero, np.broadcast_to(real(x.quant.scale) * w_scales, (w.shape[0],)))


@dataclass(frozen=True, slots=True)
class Layer:
    """Products, what is added to them, and how they are scaled: the operands of a layer in integers."""

    products: Products
    bias_bits: int
    names: tuple[str, ...]


def _layer(draft: Draft, node: Node, target: Target) -> Layer:
    products = _products(draft, node)
    scales = products.unit / real(target.quant.scale)
    exact = _bias(draft, node.inputs[2], products.unit)
    b, bits = _rounded(products, exact, scales)
    multiplier, shift = multipliers_and_shifts(scales / 2.0**bits)
    numbers = {"bias": b.astype(np.int32), "multiplier": multiplier, "shift": shift}
    return Layer(products, bits, products.operands(draft, node, **numbers))


def _weights(draft: Draft, name: str) -> tuple[NDArray[np.int8], int, NDArray[np.float64]]:
    """Weights as int8, their zero point, and their scales (one, or one an output channel)."""
    node = draft.producer.get(draft.now(name))
    if node is None or not isinstance(node.op, DequantizeConstant):
        raise StaysFloat("its weights are not quantized")
    stored = draft.constants[node.inputs[0]].astype(np.int64)
    if node.op.axis not in (0, None):
        raise StaysFloat("its weights have a scale for each input channel")
    scales = np.array(node.op.scales, np.float32).astype(np.float64)
    zeros = np.array(node.op.zero_points, np.int64)
    centred = stored - zeros.reshape(-1, *(1,) * (stored.ndim - 1))
    if centred.min() >= -128 and centred.max() <= 127:
        return centred.astype(np.int8), 0, scales
    if stored.min() < -128 or stored.max() > 127 or (zeros != zeros[0]).any():
        raise StaysFloat("its weights do not fit int8 with one zero point")
    return stored.astype(np.int8), int(zeros[0]), scales


def _bias(draft: Draft, name: str, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bias in units of products, one an output channel; not rounded."""
    name = draft.now(name)
    if draft.is_constant(name):
        return draft.constants[name].astype(np.float64) / unit
    stored, scales = _quantized_bias(draft, name)
    ratio = scales / unit
    return stored.astype(np.float64) * (1 if (np.abs(ratio - 1) < SAME_SCALE).all() else ratio)


def _quantized_bias(draft: Draft, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The integers of a bias, and their scales."""
    node = draft.producer.get(name)
    if node is None or not isinstance(node.op, DequantizeConstant):
        raise StaysFloat("its bias is not constant")
    stored = draft.constants[node.inputs[0]].astype(np.int64) - np.array(node.op.zero_points, np.int64)
    return stored, np.array(node.op.scales, np.float32).astype(np.float64)


def _rounded(
    products: Products, bias: NDArray[np.float64], scales: NDArray[np.float64]
) -> tuple[NDArray[np.int64], int]:
    """The bias in units of 2^-bits products, and bits.

    0 bits where the bias is a whole number of products, as quantizers write it. Of a float bias as many as it
    takes to be exact for all that outputs show, or as fit 32 bits.
    """
    found: tuple[NDArray[np.int64], int] | None = None
    for bits in range(MOST_BIAS_BITS + 1):
        fine = bias * 2.0**bits
        if not np.isfinite(fine).all() or np.abs(fine).max(initial=0) > INT32:
            break
        b = np.rint(fine).astype(np.int64)
        bound = products.bound(b, bits)
        if bound > INT32:
            if not bits:
                raise StaysFloat(f"its sums may reach {bound}, which does not fit 32 bits")
            break
        found = b, bits
        if (np.abs(fine - b) * scales).max(initial=0) <= UNSEEN * 2.0**bits:
            break
    if found is None:
        raise StaysFloat("its bias does not fit 32 bits at the scale of its products")
    return found


def accumulator_bound(w: NDArray[Any], w_zero: int, b: NDArray[Any], x_zero: int, bits: int = 0) -> int:
    """The largest value, of any sign, that a sum may reach on the way, in whichever order it is taken.

    Kernels may subtract the zero points from x and w first, or multiply what is stored and correct the
    bias; both are covered. With `bits`, b is in units of 2^-bits products: its whole part is summed up with
    them, the sum is shifted left, and the rest is added.
    """
    rows = w.reshape(w.shape[0], -1).astype(np.int64)
    centred = rows - w_zero
    largest = max(127 - x_zero, x_zero + 128)
    whole = b >> bits
    direct = np.abs(centred).sum(1) * largest + np.abs(whole)
    correction = np.abs(whole - x_zero * centred.sum(1)) + abs(w_zero) * 128 * rows.shape[1]
    on_the_way = np.abs(rows).sum(1) * 128 + correction
    shifted = (direct + (bits > 0)) << bits
    return int(np.maximum(shifted, on_the_way).max(initial=0))


def _conv(draft: Draft, node: Node, target: Target) -> Form:
    op, layer = node.op, _layer(draft, node, target)
    assert isinstance(op, Conv)
    products, zeros = layer.products, (layer.products.x.quant.zero_point, target.quant.zero_point)
    limits = target.low, target.high
    form = ConvInt8(op.window, *zeros, op.groups, products.w_zero, *limits, layer.bias_bits)
    return form, layer.names


def _conv_transpose(draft: Draft, node: Node, target: Target) -> Form:
    op, layer = node.op, _layer(draft, node, target)
    assert isinstance(op, ConvTranspose)
    products, zeros = layer.products, (layer.products.x.quant.zero_point, target.quant.zero_point)
    limits = target.low, target.high
    form = ConvTransposeInt8(op.window, op.size, *zeros, op.groups, products.w_zero, *limits, layer.bias_bits)
    return form, layer.names


def _dense(draft: Draft, node: Node, target: Target) -> Form:
    layer = _layer(draft, node, target)
    products, zeros = layer.products, (layer.products.x.quant.zero_point, target.quant.zero_point)
    return DenseInt8(*zeros, products.w_zero, target.low, target.high, layer.bias_bits), layer.names


def float_form(draft: Draft, node: Node) -> Form:
    """The op and operands of a layer of int8 operands whose result is float; raises StaysFloat."""
    op = node.op
    if not isinstance(op, FloatLayer):
        raise StaysFloat(f"there is no form of {op} that reads int8")
    products = _products(draft, node)
    none = np.zeros(len(products.w), np.int64)
    bias = draft.now(node.inputs[2])
    if draft.is_constant(bias):
        b, offset = none, draft.constants[bias].astype(np.float32)
    else:
        b, scales = _quantized_bias(draft, bias)
        offset = none.astype(np.float32)
        if not (np.abs(scales / products.unit - 1) < SAME_SCALE).all():
            b, offset = none, (b * scales).astype(np.float32)
    bound = products.bound(b)
    if bound > INT32:
        raise StaysFloat(f"its sums may reach {bound}, which does not fit 32 bits")
    factor = products.unit.astype(np.float32)
    names = products.operands(draft, node, bias=b.astype(np.int32), factor=factor, offset=offset)
    zeros = products.x.quant.zero_point, op.groups if not isinstance(op, Dense) else 1, products.w_zero
    match op:
        case Conv():
            return ConvInt8ToFloat(op.window, *zeros, op.activation), names
        case ConvTranspose():
            return ConvTransposeInt8ToFloat(op.window, op.size, *zeros, op.activation), names
        case Dense():
            return DenseInt8ToFloat(zeros[0], zeros[2], op.activation), names


def _average_pool(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, AveragePool)
    x = source_of(draft, node.inputs[0])
    ratio = real(x.quant.scale) / real(target.quant.scale)
    found = window_counts(op.window, op.counted, draft.tensors[x.name].shape)
    if found.min() == 0:
        raise StaysFloat("one of its windows lies in the padding")
    counts = np.arange(1, prod(op.window.kernel) + 1)
    if found.min() == found.max():
        counts = found.reshape(-1)[:1]
    multiplier, shift = multipliers_and_shifts(ratio / counts)
    zeros = x.quant.zero_point, target.quant.zero_point
    form = AveragePoolInt8(op.window, *zeros, op.counted, target.low, target.high)
    names = (
        draft.constant(multiplier, f"{node.output}_multiplier"),
        draft.constant(shift, f"{node.output}_shift"),
    )
    return form, (x.name, *names)


def _reduce(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Reduce)
    if op.function not in ("mean", "sum"):
        raise StaysFloat(f"there is no integer form of {op}")
    x = source_of(draft, node.inputs[0])
    count = prod(draft.tensors[x.name].shape[axis] for axis in op.axes)
    if count * 255 > INT32:
        raise StaysFloat(f"the sum of {count} elements may not fit 32 bits")
    ratio = real(x.quant.scale) / real(target.quant.scale)
    multiplier, shift = multiplier_and_shift(ratio / count if op.function == "mean" else ratio)
    zeros = x.quant.zero_point, target.quant.zero_point
    return MeanInt8(op.axes, *zeros, multiplier, shift, target.low, target.high), (x.name,)


def _binary(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Binary)
    if op.function not in ("add", "sub", "mul"):
        raise StaysFloat(f"there is no integer form of {op} on two tensors")
    a, b = (source_of(draft, name) for name in node.inputs)
    zeros = a.quant.zero_point, b.quant.zero_point
    y_scale = real(target.quant.scale)
    if op.function == "mul":
        multiplier, shift = multiplier_and_shift(real(a.quant.scale) * real(b.quant.scale) / y_scale)
        form: Op = MulInt8(zeros, multiplier, shift, target.quant.zero_point, target.low, target.high)
        return form, (a.name, b.name)
    sign = -1 if op.function == "sub" else 1
    scales = real(a.quant.scale) / y_scale, sign * real(b.quant.scale) / y_scale
    multipliers, shift = common_shift(*scales)
    form = AddInt8(zeros, multipliers, shift, target.quant.zero_point, target.low, target.high)
    return form, (a.name, b.name)


def common_shift(first: float, second: float) -> tuple[tuple[int, int], int]:
    """Two multipliers over one power of two: as many bits as int32 has for the larger one."""
    _, shift = multiplier_and_shift(max(abs(first), abs(second)))
    shift = min(max(shift, MIN_SHIFT), MAX_SHIFT)
    return (round(first * 2.0**shift), round(second * 2.0**shift)), shift


def _softmax(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Softmax)
    if op.log:
        raise StaysFloat(f"there is no integer form of {op}")
    x = source_of(draft, node.inputs[0])
    y_inverse = round(2**16 / real(target.quant.scale))
    if not 0 < y_inverse <= INT32 or draft.tensors[x.name].shape[-1] > 512:
        raise StaysFloat("its output scale is too small or its last axis longer than 512")
    if (target.low, target.high) != (-128, 127):
        raise StaysFloat("it is clamped")
    table = draft.constant(exp_table(real(x.quant.scale)).astype(np.int32), f"{node.output}_exp")
    return SoftmaxInt8(y_inverse, target.quant.zero_point), (x.name, table)


def _resize(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, ResizeLinear)
    if op.taps != LINEAR_TAPS:
        raise StaysFloat("cubic Resize has no integer form")
    x = source_of(draft, node.inputs[0])
    row_weight, col_weight = (draft.constants.get(draft.now(name)) for name in node.inputs[1:])
    if row_weight is None or col_weight is None:
        raise StaysFloat("its weights are not constant")
    scaled = col_weight.astype(np.float64) * (real(x.quant.scale) / real(target.quant.scale))
    shift = ROW_BITS - frexp(float(np.abs(scaled).max()))[1]
    if not 1 <= shift <= MAX_SHIFT or np.abs(row_weight).max() >= 2:
        raise StaysFloat("the scales of its input and output are too far apart")
    rows = np.rint(row_weight.astype(np.float64) * 2.0**ROW_BITS).astype(np.int32)
    cols = np.rint(scaled * 2.0**shift).astype(np.int32)
    zeros = x.quant.zero_point, target.quant.zero_point
    form = ResizeInt8(op.row_first, op.col_first, *zeros, shift, target.low, target.high)
    names = (draft.constant(rows, f"{node.output}_rows"), draft.constant(cols, f"{node.output}_columns"))
    return form, (x.name, *names)


FORMS: dict[type[Any], Callable[[Draft, Node, Target], Form]] = {
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Dense: _dense,
    AveragePool: _average_pool,
    Reduce: _reduce,
    Binary: _binary,
    ResizeLinear: _resize,
    Softmax: _softmax,
}
