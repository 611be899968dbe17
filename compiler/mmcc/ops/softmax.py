# SPDX-License-Identifier: Apache-2.0
"""Softmax and LogSoftmax along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops
from mmcc.ops.requantize import MAX_SHIFT, rounded, saturate


def softmax_nest(x: Shape, tables: tuple[Shape, ...] = ()) -> Nest:
    """Every output reads its whole last axis."""
    loops = output_loops(x)
    k = Loop("k", x[-1], LoopKind.REDUCE)
    return Nest(
        loops=(*loops, k),
        reads=(
            Access(0, x, (*(loop.i for loop in loops[:-1]), k.i)),
            *(Access(1 + j, t, (None,) * len(t)) for j, t in enumerate(tables)),
        ),
        writes=(Access(0, x, tuple(loop.i for loop in loops)),),
    )


@op
@dataclass(frozen=True, slots=True)
class Softmax:
    """exp(x - max) / sum exp(x - max) over the last axis, or its logarithm; float."""

    log: bool = False

    kernel: ClassVar[str] = "softmax"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return softmax_nest(inputs[0])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x = inputs[0].astype(np.float64)
        x = x - x.max(-1, keepdims=True)
        total = np.exp(x).sum(-1, keepdims=True)
        return ((x - np.log(total) if self.log else np.exp(x) / total).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "log_softmax" if self.log else "softmax"


def exp_table(x_scale: float) -> NDArray[np.uint32]:
    """exp(-d * x_scale) for d = 0..255 in units of 2^-23, so that 512 of them add up in 32 bits."""
    return np.rint(np.exp(-np.arange(256) * float(x_scale)) * 2.0**23).astype(np.uint32)


FACTOR_BITS = 30  # of what a row's exponentials are multiplied by, at most


def factor_bits(y_inverse: int) -> int:
    """Bits by which `y_inverse` is shifted before it is divided by a sum: no sum is below 2^23."""
    return min(FACTOR_BITS + 23 - y_inverse.bit_length(), MAX_SHIFT - 16)


@op
@dataclass(frozen=True, slots=True)
class SoftmaxInt8:
    """Softmax of int8 by a table of exponentials e, and one division a row.

    y = clamp(round(e * factor / 2^(16 + bits)) + y_zero), factor = round(y_inverse * 2^bits / sum e), where
    `bits` is `factor_bits`. `y_inverse` is 1 / output scale in units of 2^-16. Operands: x int8, table int32
    [256] (exp_table).
    """

    y_inverse: int
    y_zero: int

    kernel: ClassVar[str] = "softmax_int8"
    traits = OpTraits(tables=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return softmax_nest(inputs[0], inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, table = inputs
        wide = x.astype(np.int64)
        e = table.astype(np.int64)[wide.max(-1, keepdims=True) - wide]
        total = e.sum(-1, keepdims=True)
        bits = factor_bits(self.y_inverse)
        factor = ((self.y_inverse << bits) + total // 2) // total
        return (saturate(rounded(e * factor, 16 + bits), self.y_zero, -128, 127),)

    def __str__(self) -> str:
        return f"softmax_int8<->{self.y_zero}>"


EXP_BITS = 30  # behind the point of an exponential of 16 bits
POWER = (0xE2A0C, 0x51B593, 0x27A1724, 0xE34488A, 0x3D7FAAF3, 0xB17215AF)  # 2^f = 1 + f p(f), highest first


RATE_BITS = 48  # behind the point of the power of two that a step of the input is


def power_rate(step: float) -> int:
    """`rate` with e^-step = 2^(-rate / 2^RATE_BITS)."""
    return round(step / log(2) * 2.0**RATE_BITS)


def exponentials(d: NDArray[np.uint64], rate: int) -> NDArray[np.int64]:
    """2^(-d * rate / 2^RATE_BITS) in units of 2^-EXP_BITS, of 0 <= d < 2^16 and rate < 2^RATE_BITS.

    Integers all the way, with the polynomial of `mmcc_exp_bits` in runtime_c/mmcc_math.h.
    """
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    size = d * np.uint64(rate) >> np.uint64(RATE_BITS - 32)
    power = np.uint64(1 << 48) - size
    f = power & low
    p = np.zeros_like(f)
    for term in POWER:
        p = np.uint64(term) + (p * f >> half)
    p = p * f >> half
    down = np.minimum(np.uint64(1 << 16) - (power >> half), np.uint64(40))
    return (((np.uint64(1 << 32) | p) >> (down + np.uint64(1))) + np.uint64(1) >> np.uint64(1)).astype(
        np.int64
    )


@op
@dataclass(frozen=True, slots=True)
class SoftmaxInt16:
    """Softmax of int16: exponentials e by a polynomial, and one division a row.

    y = clamp(round(e * factor / 2^shift)), factor = round(y_inverse * 2^30 / sum e), e = `exponentials` of
    the distance from the largest element. y_inverse / 2^(shift - 30) is 1 / output scale.
    """

    rate: int
    y_inverse: int
    shift: int
    low: int = -(2**15)
    high: int = 2**15 - 1

    kernel: ClassVar[str] = "softmax_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return softmax_nest(inputs[0])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        wide = inputs[0].astype(np.int64)
        d = (wide.max(-1, keepdims=True) - wide).astype(np.uint64)
        e = exponentials(d, self.rate)
        total = e.sum(-1, keepdims=True)
        factor = ((self.y_inverse << EXP_BITS) + total // 2) // total
        return (np.clip(rounded(e * factor, self.shift), self.low, self.high).astype(np.int16),)

    def __str__(self) -> str:
        return f"softmax_int16<[{self.low},{self.high}]>"
