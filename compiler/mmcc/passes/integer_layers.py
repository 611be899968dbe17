# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers in integers: weights, bias, scales, and a bound on their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Node
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.dense import Dense, DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.layers import FloatLayer
from mmcc.ops.quantize import DequantizeConstant
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.passes.draft import Draft
from mmcc.passes.quantized import INT32, Form, Source, StaysFloat, Target, real, source_of

SAME_SCALE = 2.0**-18  # bias scales closer than this (relative) to x_scale * w_scale are taken as equal
MOST_BIAS_BITS = 16
UNSEEN = 2.0**-22  # of an output's step: a bias this near changes fewer outputs than float rounding does


@dataclass(frozen=True, slots=True)
class Products:
    """What a layer sums up in integers: (x - x_zero) * (w - w_zero), in units of `unit` [OC]."""

    x: Source
    w: NDArray[np.int8]
    w_zero: int
    unit: NDArray[np.float64]

    def bound(self, b: NDArray[np.int64], bits: int = 0) -> int:
        """The `accumulator_bound` of these products and a bias."""
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
    w, w_zero, w_scales = layer_weights(draft, node.inputs[1])
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
    exact = bias_in_products(draft, node.inputs[2], products.unit)
    b, bits = _rounded(products, exact, scales)
    multiplier, shift = multipliers_and_shifts(scales / 2.0**bits)
    numbers = {"bias": b.astype(np.int32), "multiplier": multiplier, "shift": shift}
    return Layer(products, bits, products.operands(draft, node, **numbers))


def layer_weights(draft: Draft, name: str) -> tuple[NDArray[np.int8], int, NDArray[np.float64]]:
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


def bias_in_products(draft: Draft, name: str, unit: NDArray[np.float64]) -> NDArray[np.float64]:
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


def conv_form(draft: Draft, node: Node, target: Target) -> Form:
    """A convolution in integers; raises StaysFloat."""
    op, layer = node.op, _layer(draft, node, target)
    assert isinstance(op, Conv)
    products, zeros = layer.products, (layer.products.x.quant.zero_point, target.quant.zero_point)
    limits = target.low, target.high
    form = ConvInt8(op.window, *zeros, op.groups, products.w_zero, *limits, layer.bias_bits)
    return form, layer.names


def conv_transpose_form(draft: Draft, node: Node, target: Target) -> Form:
    """A transposed convolution in integers; raises StaysFloat."""
    op, layer = node.op, _layer(draft, node, target)
    assert isinstance(op, ConvTranspose)
    products, zeros = layer.products, (layer.products.x.quant.zero_point, target.quant.zero_point)
    limits = target.low, target.high
    form = ConvTransposeInt8(op.window, op.size, *zeros, op.groups, products.w_zero, *limits, layer.bias_bits)
    return form, layer.names


def dense_form(draft: Draft, node: Node, target: Target) -> Form:
    """A dense layer in integers; raises StaysFloat."""
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
