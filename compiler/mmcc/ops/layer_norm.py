# SPDX-License-Identifier: Apache-2.0
"""LayerNormalization and RMSNormalization along the last axis, in float and in integers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops
from mmcc.ops.requantize import rounded, saturate

ROOT_BITS = 30  # of a reciprocal root: at least 1, below 2
NEWTON_STEPS = 4  # from 7 % off to the last bit of 2^-29
FIRST = (2362232012, 1395864371)  # 2.2 and 1.3 in units of 2^-30: 2.2 - 1.3 t is near 1/sqrt(t), 1/4 <= t < 1


def _check(inputs: tuple[Tensor, ...]) -> None:
    x = inputs[0].shape
    if not x or not x[-1] or any(tensor.shape != x[-1:] for tensor in inputs[1:]):
        raise ShapeError(f"parameters do not fit the last axis of {list(x)}")


def _nest(x: Shape, parameters: tuple[Shape, ...]) -> Nest:
    """Every output reads its whole last axis, and the parameters of its own place in it."""
    loops = output_loops(x)
    k = Loop("k", x[-1], LoopKind.REDUCE)
    here = tuple(loop.i for loop in loops)
    return Nest(
        loops=(*loops, k),
        reads=(
            Access(0, x, (*here[:-1], k.i)),
            *(Access(1 + j, shape, (here[-1],)) for j, shape in enumerate(parameters)),
        ),
        writes=(Access(0, x, here),),
    )


@op
@dataclass(frozen=True, slots=True)
class LayerNorm:
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias along the last axis, float.

    Without `centred`, RMSNormalization: x / sqrt(mean of x^2 + epsilon) * scale. Operands: x [.., C],
    scale [C], bias [C] or none.
    """

    epsilon: float
    centred: bool = True

    kernel: ClassVar[str] = "layer_norm"
    traits = OpTraits(normalizes=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _check(inputs)
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(inputs[0], inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, scale, *bias = (each.astype(np.float64) for each in inputs)
        if self.centred:
            x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * scale
        return ((y + bias[0] if bias else y).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "layer_norm" if self.centred else "rms_norm"


def normal_bits(length: int, centred: bool) -> int:
    """Bits of fraction that normalized values of a row of `length` are kept with: below 2^29 in all.

    Less its mean and divided by its deviation no value of a row reaches sqrt(length); divided by the root of
    the sum of squares none is above 1.
    """
    return 29 - ceil(log2(length) / 2) if centred else 28


def reciprocal_roots(t: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """1 / sqrt(t / 2^32) in units of 2^-30, below 2^31, of 2^30 <= t < 2^32: integers all the way."""
    y = np.uint64(FIRST[0]) - (np.uint64(FIRST[1]) * t >> np.uint64(32))
    for _ in range(NEWTON_STEPS):
        square = y * y >> np.uint64(31)
        y = y * (np.uint64(3 << 29) - (square * t >> np.uint64(32))) >> np.uint64(30)
    return np.minimum(y, np.uint64(2**31 - 1))


def normalized(
    x: NDArray[np.int64], centred: bool, x_zero: int, epsilon: int, fraction: int
) -> NDArray[np.int64]:
    """Lines of integers over their deviation, with `normal_bits` behind the point.

    With N values x of a line, c = N x - sum x and V = N sum x^2 - (sum x)^2 (without `centred`:
    c = x - x_zero and V = sum c^2): c / sqrt(V + epsilon), with `epsilon` in units of 2^-fraction.
    """
    length = x.shape[-1]
    if centred:
        c = length * x - x.sum(-1, keepdims=True)
        v = length * (x * x).sum(-1, keepdims=True) - x.sum(-1, keepdims=True) ** 2
    else:
        c = x - x_zero
        v = (c * c).sum(-1, keepdims=True)
    w = np.maximum((v.astype(np.uint64) << np.uint64(fraction)) + np.uint64(epsilon), 1)
    up = np.array([(64 - int(each).bit_length()) & ~1 for each in w.reshape(-1)], np.uint64)
    up = up.reshape(w.shape)
    root = reciprocal_roots((w << up) >> np.uint64(32)).astype(np.int64)
    down = 62 - (fraction + up.astype(np.int64)) // 2 - normal_bits(length, centred)
    root >>= np.minimum(np.maximum(down - 32, 0), 63)
    down = np.clip(down, 1, 32)  # below 1 only where all values of a row are 0
    return (c << (32 - down)) * root >> 32


@op
@dataclass(frozen=True, slots=True)
class LayerNormInt8:
    """LayerNorm in integers: exact sums of x and x^2, one reciprocal root a row, one rounding.

    y = clamp(((`normalized` * scale >> 32) + bias) >> shift). Operands: x int8 [.., C], scale and bias int32
    [C]; the bias has the zero point of the output in it, and one half.
    """

    centred: bool
    x_zero: int
    epsilon: int
    fraction: int
    shift: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "layer_norm_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _check(inputs)
        return ((inputs[0].shape, ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(inputs[0], inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, scale, bias = (each.astype(np.int64) for each in inputs)
        normal = normalized(x, self.centred, self.x_zero, self.epsilon, self.fraction)
        half = np.int64(1) << (self.shift - 1)
        exact = (normal * scale >> 32) + bias - half
        return (saturate(rounded(exact, self.shift), 0, self.low, self.high),)

    def __str__(self) -> str:
        return f"{'layer' if self.centred else 'rms'}_norm_int8"


@op
@dataclass(frozen=True, slots=True)
class LayerNormInt16:
    """As LayerNormInt8, of int16 with a zero point of 0, in 64 bits.

    y = clamp((normalized * scale + bias * 2^up + half) >> shift).
    """

    centred: bool
    epsilon: int
    fraction: int
    up: int
    shift: int
    low: int = -(2**15)
    high: int = 2**15 - 1

    kernel: ClassVar[str] = "layer_norm_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _check(inputs)
        return ((inputs[0].shape, ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(inputs[0], inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, scale, bias = (each.astype(np.int64) for each in inputs)
        normal = normalized(x, self.centred, 0, self.epsilon, self.fraction)
        value = rounded(normal * scale + (bias << self.up), self.shift)
        return (np.clip(value, self.low, self.high).astype(np.int16),)

    def __str__(self) -> str:
        return f"{'layer' if self.centred else 'rms'}_norm_int16"
