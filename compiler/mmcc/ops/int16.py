# SPDX-License-Identifier: Apache-2.0
"""Integers of 16 bits by weights of 8 (16x8): layers, sums, products, and other scales. Zero points are 0.

Sums of products stay within 32 bits, which whoever makes these operators has shown; one rounding each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape
from mmcc.ops.conv import conv_nest, conv_products, conv_shape
from mmcc.ops.dense import dense_nest, dense_products, dense_shape
from mmcc.ops.reduce import MeanInt8, Reduce, reduce_nest, reduced_shape
from mmcc.ops.requantize import requantize, rounded
from mmcc.ops.window import Window

Array = NDArray[Any]

LEAST, MOST = -(2**15), 2**15 - 1
SUMMED = 2**16 - 1  # elements of 16 bits whose sum has 32


def _clamped(values: NDArray[np.int64], low: int, high: int) -> NDArray[np.int16]:
    return np.clip(values, low, high).astype(np.int16)


@op
@dataclass(frozen=True, slots=True)
class ConvInt16:
    """y = clamp(requantize(b + sum x * w)), samples outside x count as 0.

    Operands: x int16 [H,W,IC], w int8 [OC,KH,KW,IC/groups], b int32 [OC], multiplier int32 [OC], shift int8
    [OC].
    """

    window: Window
    groups: int = 1
    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "conv_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, *per_channel = inputs
        shapes = tuple(t.shape for t in per_channel)
        return ((conv_shape(self.window, self.groups, x.shape, w.shape, shapes), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, *per_channel = inputs
        y = conv_shape(self.window, self.groups, x, w, tuple(per_channel))
        return conv_nest(self.window, self.groups, y, x, w, len(per_channel))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w, b, multiplier, shift = inputs
        acc = conv_products(self.window, self.groups, x, 0, w, 0) + b
        return (_clamped(requantize(acc, multiplier, shift), self.low, self.high),)

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"conv_int16<{self.window}{groups} [{self.low},{self.high}]>"


@op
@dataclass(frozen=True, slots=True)
class DenseInt16:
    """As ConvInt16: x int16 [K] or [M,K], w int8 [N,K], b int32, multiplier int32, shift int8 [N]."""

    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "conv_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((dense_shape(inputs[0].shape, inputs[1].shape), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return dense_nest(inputs[0], inputs[1], len(inputs) - 2)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w, b, multiplier, shift = inputs
        acc = dense_products(x, 0, w, 0) + b
        return (_clamped(requantize(acc, multiplier, shift), self.low, self.high),)

    def __str__(self) -> str:
        return f"dense_int16<[{self.low},{self.high}]>"


@op
@dataclass(frozen=True, slots=True)
class AddInt16:
    """y = clamp((a * ma + b * mb + 2^(shift-1)) >> shift), in 64 bits; the second may be negative."""

    multipliers: tuple[int, int]
    shift: int
    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "elementwise_int16"
    traits = OpTraits(elementwise=True, broadcasts=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = (x.astype(np.int64) * m for x, m in zip(inputs, self.multipliers, strict=True))
        return (_clamped(rounded(a + b, self.shift), self.low, self.high),)

    def __str__(self) -> str:
        return f"add_int16<[{self.low},{self.high}]>"


@op
@dataclass(frozen=True, slots=True)
class MulInt16:
    """y = clamp(requantize(a * b))."""

    multiplier: int
    shift: int
    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "elementwise_int16"
    traits = OpTraits(elementwise=True, broadcasts=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = (x.astype(np.int64) for x in inputs)
        return (_clamped(requantize(a * b, self.multiplier, self.shift), self.low, self.high),)

    def __str__(self) -> str:
        return f"mul_int16<[{self.low},{self.high}]>"


@op
@dataclass(frozen=True, slots=True)
class RescaleInt16:
    """y = clamp(requantize(x)): another scale, or just bounds with a multiplier of 2^30 and a shift of 30."""

    multiplier: int
    shift: int
    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "elementwise_int16"
    traits = OpTraits(elementwise=True, broadcasts=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (_clamped(requantize(inputs[0], self.multiplier, self.shift), self.low, self.high),)

    def __str__(self) -> str:
        return f"rescale_int16<[{self.low},{self.high}]>"


@op
@dataclass(frozen=True, slots=True)
class MeanInt16:
    """Mean or sum over axes, which stay with extent 1: y = clamp(requantize(sum x)).

    1/N is in the multiplier. At most SUMMED elements, whose sum has 32 bits.
    """

    axes: tuple[int, ...]
    multiplier: int
    shift: int
    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "mean_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((reduced_shape(inputs[0].shape, self.axes), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return reduce_nest(inputs[0], self.axes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        total = inputs[0].astype(np.int64).sum(self.axes, keepdims=True)
        return (_clamped(requantize(total, self.multiplier, self.shift), self.low, self.high),)

    def __str__(self) -> str:
        return f"mean_int16<axes {list(self.axes)} [{self.low},{self.high}]>"


OVER_AXES = (Reduce, MeanInt8, MeanInt16)  # reductions; their `axes` stay, with extent 1
