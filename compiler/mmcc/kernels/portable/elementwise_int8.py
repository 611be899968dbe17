# SPDX-License-Identifier: Apache-2.0
"""Elementwise int8 operators: the geometry of the output, operands with broadcast strides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import RAISED, Fields, Options, epilogue
from mmcc.kernels.select import Site, layer
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8
from mmcc.ops.quantize import FlipSign

WORD = 2**31
SHORT_BITS = (21, 20, 22, 19)  # fraction bits of sums in 32 bits, in the order in which they are tried


@layer(Lookup)
def lookup(op: Lookup, site: Site) -> KernelUse:
    """One table look-up an element."""
    return KernelUse(
        "lookup",
        (),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("table", site.keep("table", site.inputs[1].constant())),
            ("channels", site.output.geometry[2]),
        ),
    )


@layer(FlipSign)
def flip_sign(op: FlipSign, site: Site) -> KernelUse:
    """The top bit of every byte."""
    fields = (("x", site.read(0)), ("y", site.output.where()), ("channels", site.output.geometry[2]))
    return KernelUse("flip_sign", (), fields)


@dataclass(frozen=True, slots=True)
class ShortSum:
    """y = clamp((a * times_a + b * times_b + offset) >> bits), no part of which leaves 32 bits."""

    times_a: int
    times_b: int
    offset: int
    bits: int

    def fields(self, raised: int = 0) -> Fields:
        """The numbers of a kernel whose results are `raised` too high; it subtracts that as it stores."""
        return (
            ("a_multiplier", self.times_a),
            ("b_multiplier", self.times_b),
            ("offset", self.offset + (raised << self.bits)),
        )


@cache
def short_sum(op: AddInt8) -> ShortSum | None:
    """An addition in 32 bits that is right for every pair of values, if there is one.

    Multipliers are cut to so many bits, or one off; then each of the 65,536 pairs says between which limits
    the offset must be for its result to be right.
    """
    a = np.arange(-128, 128, dtype=np.int64)[:, None]
    b = a.T
    (a_zero, b_zero), (a_times, b_times) = op.zeros, op.multipliers
    exact = ((a - a_zero) * a_times + (b - b_zero) * b_times + (1 << (op.shift - 1)) >> op.shift) + op.y_zero
    want = np.clip(exact, op.low, op.high)
    for bits in SHORT_BITS:
        low = np.where(exact > op.low, want << bits, -WORD)  # what is clamped may be less or more still
        high = np.where(exact < op.high, (want + 1 << bits) - 1, WORD)
        near = [((m << bits) + (1 << (op.shift - 1))) >> op.shift for m in op.multipliers]
        for da, db in sorted(product((-1, 0, 1), repeat=2), key=lambda off: abs(off[0]) + abs(off[1])):
            times = near[0] + da, near[1] + db
            sums = a * times[0] + b * times[1]
            least, most = int((low - sums).max()), int((high - sums).min())
            offset = (least + most) // 2
            reach = 128 * (abs(times[0]) + abs(times[1])) + abs(offset) + (RAISED << bits)
            if least <= most and reach < WORD:
                return ShortSum(*times, offset, bits)
    return None


@layer(AddInt8)
def add_int8(op: AddInt8, site: Site) -> KernelUse:
    """In 32 bits where that is exact; else in 64, zero points and the rounding in one constant."""
    full, short = (op.low, op.high) == (-128, 127), short_sum(op)
    common: Fields = (
        ("a", site.read(0)),
        ("b", site.read(1)),
        ("y", site.output.where()),
        ("channels", site.output.geometry[2]),
        *(() if full else (("low", op.low + RAISED), ("high", op.high + RAISED))),
    )
    options: Options = (
        ("bits", 0 if short is None else short.bits),
        ("full", full),
        ("a_channel_stride", site.channel_stride(0)),
        ("b_channel_stride", site.channel_stride(1)),
    )
    if short is not None:
        return KernelUse("add_int8", options, (*common, *short.fields(RAISED)))
    zeros = sum(zero * multiplier for zero, multiplier in zip(op.zeros, op.multipliers, strict=True))
    offset = (1 << (op.shift - 1)) - zeros
    fields: Fields = (
        *common,
        ("a_multiplier", op.multipliers[0]),
        ("b_multiplier", op.multipliers[1]),
        ("offset_high", offset >> 32),
        ("offset_low", offset & 0xFFFFFFFF),
        ("shift", op.shift),
        ("zero", op.y_zero + RAISED),
    )
    return KernelUse("add_int8", options, fields)


@layer(MulInt8)
def mul_int8(op: MulInt8, site: Site) -> KernelUse:
    """One product and one requantization an element."""
    a, b = (max(127 - zero, zero + 128) for zero in op.zeros)
    scale = (np.array([op.multiplier], np.int32), np.array([op.shift], np.int8))
    end = epilogue(a * b, *scale, op.y_zero, (op.low, op.high))
    return KernelUse(
        "mul_int8",
        (
            *end.options,
            ("a_channel_stride", site.channel_stride(0)),
            ("b_channel_stride", site.channel_stride(1)),
        ),
        (
            ("a", site.read(0)),
            ("b", site.read(1)),
            ("y", site.output.where()),
            ("multiplier", op.multiplier),
            *end.fields,
            ("channels", site.output.geometry[2]),
            ("shift", int(end.tail[0])),
            ("a_zero", op.zeros[0]),
            ("b_zero", op.zeros[1]),
        ),
    )
