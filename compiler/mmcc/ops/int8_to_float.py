# SPDX-License-Identifier: Apache-2.0
"""Layers of int8 operands with a float result: the last layer of a model, or one before a float operator.

Sums of products are the integers of ConvInt8 and its like; each is then scaled once, in float:
y = act(factor * (b + sum (x - x_zero) * (w - w_zero)) + offset).
Operands: x int8, w int8, b int32 [OC], factor float [OC], offset float [OC].
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
from mmcc.ops.activation import Activation, activate
from mmcc.ops.conv import conv_nest, conv_products, conv_shape
from mmcc.ops.conv_transpose import transposed_nest, transposed_products, transposed_shape
from mmcc.ops.dense import dense_nest, dense_products, dense_shape
from mmcc.ops.window import Window


def scaled(
    products: NDArray[np.int64], per_channel: tuple[NDArray[Any], ...], activation: Activation | None
) -> NDArray[np.float32]:
    """Scale sums to float: a product and a sum, which are rounded once where the target fuses them."""
    b, factor, offset = per_channel
    wide = (products + b).astype(np.float32).astype(np.float64) * factor + offset
    return activate(wide.astype(np.float32), activation)


def _named(name: str, activation: Activation | None) -> str:
    return f"{name} {activation}" if activation else name


@op
@dataclass(frozen=True, slots=True)
class ConvInt8ToFloat:
    """A convolution; samples outside x count as x_zero."""

    window: Window
    x_zero: int
    groups: int = 1
    w_zero: int = 0
    activation: Activation | None = None

    kernel: ClassVar[str] = "conv_int8"
    traits = OpTraits(converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, *per_channel = inputs
        shapes = tuple(t.shape for t in per_channel)
        return ((conv_shape(self.window, self.groups, x.shape, w.shape, shapes), ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, *per_channel = inputs
        y = conv_shape(self.window, self.groups, x, w, tuple(per_channel))
        return conv_nest(self.window, self.groups, y, x, w, len(per_channel))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, *per_channel = inputs
        products = conv_products(self.window, self.groups, x, self.x_zero, w, self.w_zero)
        return (scaled(products, tuple(per_channel), self.activation),)

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"conv_int8_to_float<{_named(f'{self.window}{groups} z{self.x_zero}', self.activation)}>"


@op
@dataclass(frozen=True, slots=True)
class DenseInt8ToFloat:
    """A dense layer: x [K] or [M, K], w [N, K]."""

    x_zero: int
    w_zero: int = 0
    activation: Activation | None = None

    kernel: ClassVar[str] = "dense_int8"
    traits = OpTraits(converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((dense_shape(inputs[0].shape, inputs[1].shape), ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        return dense_nest(inputs[0], inputs[1], len(inputs) - 2)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, *per_channel = inputs
        return (scaled(dense_products(x, self.x_zero, w, self.w_zero), tuple(per_channel), self.activation),)

    def __str__(self) -> str:
        return f"dense_int8_to_float<{_named(f'z{self.x_zero}', self.activation)}>"


@op
@dataclass(frozen=True, slots=True)
class ConvTransposeInt8ToFloat:
    """A transposed convolution."""

    window: Window
    size: tuple[int, int]
    x_zero: int
    groups: int = 1
    w_zero: int = 0
    activation: Activation | None = None

    kernel: ClassVar[str] = "conv_transpose_int8"
    traits = OpTraits(converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w = inputs[:2]
        return ((transposed_shape(self.window, self.size, self.groups, x.shape, w.shape), ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        return transposed_nest(self.window, self.size, self.groups, inputs[0], inputs[1], len(inputs) - 2)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, *per_channel = inputs
        zeros = x, self.x_zero, w, self.w_zero
        products = transposed_products(self.window, self.size, self.groups, *zeros)
        return (scaled(products, tuple(per_channel), self.activation),)

    def __str__(self) -> str:
        what = f"{self.window} to {self.size[0]}x{self.size[1]} g{self.groups} z{self.x_zero}"
        return f"conv_transpose_int8_to_float<{_named(what, self.activation)}>"
