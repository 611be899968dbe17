# SPDX-License-Identifier: Apache-2.0
"""Filters for cores with DSP instructions: the best form that is exact, packed as kernels read it.

One instruction multiplies two pairs of halfwords, so that what counts is how few it takes to get bytes into
halfwords. "Scaled" weights need one for four weights (runtime_c/mmcc_arm_dsp.h); they make accumulators 256
times as large. Where those leave 32 bits, weights stay "plain".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.kernels.epilogue import Epilogue, Fields, Options, float_epilogue
from mmcc.kernels.select import Site
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.requantize import requantize

HIGH = 33  # least shift for which the high word of the product is all that counts
SCALE_BITS = 8  # of scaled weights
FIXED_SHIFT = 14  # of the bias of a filter whose output is always the same
BLOCK = {"scaled": 8, "plain": 4}  # filters made together of one pixel
PAIR = 2  # filters made together of four pixels


@dataclass(frozen=True, slots=True)
class Scales:
    """What turns accumulators into outputs."""

    bias: NDArray[np.int64]  # x_zero folded in
    multiplier: NDArray[np.int32]
    right: NDArray[np.uint8]
    zero2: int
    clamp: tuple[int, int]

    @property
    def options(self) -> Options:
        return (("full", self.clamp == (-128, 127)),)

    @property
    def fields(self) -> Fields:
        low, high = self.clamp
        limits: Fields = () if (low, high) == (-128, 127) else (("low", low), ("high", high))
        return (("zero2", self.zero2), *limits)


@dataclass(frozen=True, slots=True)
class Packed:
    """Filters ready for the kernels: weights [OC, taps] with taps in whole words."""

    form: str
    weights: NDArray[np.int8]
    scales: Scales


def scalable(w: NDArray[np.int8]) -> bool:
    """True if all pairs of weights fit a halfword as `even * 256 + odd`."""
    return not ((w[:, 0::2] == -128) & (w[:, 1::2] < 0)).any()


def scaled(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """Halfwords `even * 256 + odd`, little-endian."""
    even, odd = w[:, 0::2], w[:, 1::2]
    return np.stack((odd, even - (odd < 0)), -1).reshape(w.shape).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Filters:
    """Weights [OC, taps] less their zero point; biases with x_zero folded in; what requantizes sums.

    Biases and the bound are in units of 2^-bits products.
    """

    bits: int
    wide: NDArray[np.int64]
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    bound: NDArray[np.int64]  # of the sums


def filters_of(op: ConvInt8 | DenseInt8, site: Site) -> Filters:
    """The filters of a node. Those whose output is the same for every input become a bias alone.

    Trained networks have them, with biases so large that sums would seem to leave 32 bits.
    """
    w, b, multiplier, shift = (operand.constant() for operand in site.inputs[1:])
    wide = w.reshape(len(w), -1).astype(np.int64) - op.w_zero
    m, s = multiplier.astype(np.int64), shift.astype(np.int64)
    ends = (wide * (-128 - op.x_zero)) << op.bias_bits, (wide * (127 - op.x_zero)) << op.bias_bits
    low = b + np.minimum(*ends).sum(1)
    high = b + np.maximum(*ends).sum(1)
    outputs = [np.clip(requantize(acc, m, s) + op.y_zero, op.low, op.high) for acc in (low, high)]
    fixed = (outputs[0] == outputs[1]) & (np.maximum(abs(low), abs(high)) < 2**31)
    wide[fixed] = 0
    bias = np.where(
        fixed, outputs[0] - op.y_zero << FIXED_SHIFT, b - (op.x_zero * wide.sum(1) << op.bias_bits)
    )
    m, s = np.where(fixed, 2**30, m), np.where(fixed, 30 + FIXED_SHIFT, s)
    bound = np.where(fixed, abs(bias), np.maximum(abs(low), abs(high)))
    return Filters(op.bias_bits, wide, bias, m, s, bound)


def scales_of(
    op: ConvInt8 | DenseInt8, filters: Filters, bias: NDArray[np.int64], bits: int
) -> Scales | None:
    """Requantization of sums that are 2^bits too large, or None if it needs more than a high word."""
    right = np.where(filters.multiplier == 0, 0, filters.shift + bits - HIGH)
    if (right < 0).any():
        return None
    multiplier = filters.multiplier.astype(np.int32)
    least = np.minimum(right, 31).astype(np.uint8)
    return Scales(bias, multiplier, least, 2 * op.y_zero + 1, (op.low, op.high))


def pack(op: ConvInt8 | DenseInt8, site: Site, length: int, *, plain: bool = False) -> Packed | None:
    """Weights [OC, length] in the best form that is exact, or None if none is.

    Each filter's taps are padded with zeros to `length`.
    """
    filters = filters_of(op, site)
    wide, most = filters.wide, int(filters.bound.max(initial=0))
    if wide.min(initial=0) < -128 or wide.max(initial=0) > 127:
        return None
    flat = np.zeros((len(wide), length), np.int8)
    flat[:, : wide.shape[1]] = wide
    more = SCALE_BITS - filters.bits
    if not plain and more >= 0 and most << more < 2**31 and scalable(flat):
        start = (filters.bias << more) - 127 * flat[:, 1::2].astype(np.int64).sum(1)
        found = scales_of(op, filters, start, more)
        if found is not None:
            return Packed("scaled", scaled(flat), found)
    found = scales_of(op, filters, filters.bias, 0) if most < 2**31 and not filters.bits else None
    return None if found is None else Packed("plain", flat, found)


@dataclass(frozen=True, slots=True)
class Sums:
    """Filters of a layer with an output in float: as `Packed`, with what scales sums, [OC, 2]."""

    form: str
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    epilogue: Epilogue


def pack_sums(op: ConvInt8ToFloat | DenseInt8ToFloat, site: Site, length: int) -> Sums | None:
    """Weights [OC, length], padded with zeros; None if, less their zero point, int8 does not hold them.

    Scaled weights make sums 256 times as large. A power of two changes no rounding, so factors are made as
    much smaller, unless they would lose bits so.
    """
    w, b, factor, offset = (operand.constant() for operand in site.inputs[1:])
    wide = w.reshape(len(w), -1).astype(np.int64) - op.w_zero
    if wide.min(initial=0) < -128 or wide.max(initial=0) > 127:
        return None
    ends = wide * (-128 - op.x_zero), wide * (127 - op.x_zero)
    most = max(
        abs(b + np.minimum(*ends).sum(1)).max(initial=0), abs(b + np.maximum(*ends).sum(1)).max(initial=0)
    )
    if most >= 2**31:
        return None
    flat = np.zeros((len(wide), length), np.int8)
    flat[:, : wide.shape[1]] = wide
    bias, form = b - op.x_zero * wide.sum(1), "plain"
    normal = (factor == 0) | (abs(factor) >= np.finfo(np.float32).tiny * 2**SCALE_BITS)
    if most << SCALE_BITS < 2**31 and scalable(flat) and normal.all():
        bias = (bias << SCALE_BITS) - 127 * flat[:, 1::2].astype(np.int64).sum(1)
        form, flat, factor = "scaled", scaled(flat), (factor / 2**SCALE_BITS).astype(np.float32)
    wrapped = (bias & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return Sums(form, flat, wrapped, float_epilogue(factor, offset, op.activation))


def blocks_of(weights: NDArray[np.int8], size: int) -> NDArray[np.int32]:
    """Weights [OC, taps] in blocks of `size` filters: a word of each in turn."""
    words = weights.view("<i4")
    short = -len(words) % size
    return (
        np.pad(words, ((0, short), (0, 0))).reshape(-1, size, words.shape[1]).transpose(0, 2, 1).reshape(-1)
    )


def interleaved(packed: Packed, size: int) -> dict[str, NDArray[Any]]:
    """Block after block of `size` filters: a word of each in turn; biases, then multipliers; shifts."""
    scales = packed.scales
    scale: list[NDArray[np.int32]] = []
    right: list[NDArray[np.uint8]] = []
    for at in range(0, len(packed.weights), size):
        some = slice(at, at + size)
        short = size - len(packed.weights[some])
        bias = (scales.bias[some] & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        scale += [np.pad(bias, (0, short)), np.pad(scales.multiplier[some], (0, short))]
        right.append(np.pad(scales.right[some], (0, short)))
    return {
        "weights": blocks_of(packed.weights, size),  # as words, which align
        "scale": np.concatenate(scale),
        "shift": np.concatenate(right),
    }


def constants(site: Site, packed: Packed, size: int = 0) -> Fields:
    """The arrays of a layer, in blocks of `size` filters, and numbers that all these kernels have."""
    arrays = interleaved(packed, size or BLOCK[packed.form])
    kept = tuple((name, site.keep(name, data)) for name, data in arrays.items())
    filters, length = packed.weights.shape
    return (*kept, *packed.scales.fields, ("filters", filters), ("taps", length))
