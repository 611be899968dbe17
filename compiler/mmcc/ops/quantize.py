# SPDX-License-Identifier: Apache-2.0
"""Between float and quantized integers: ONNX QuantizeLinear and DequantizeLinear of whole tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import ELEMENTWISE, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape


@op
@dataclass(frozen=True, slots=True)
class Quantize:
    """y = saturate(round_half_even(x / scale) + zero_point), float32 arithmetic.

    NaN becomes the least value; ONNX leaves it open, ONNX Runtime does so on x86.
    """

    scale: float
    zero_point: int
    dtype: ElementType = ElementType.I8

    kernel: ClassVar[str] = "quantize"
    traits = OpTraits(elementwise=True, broadcasts=True, converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, self.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        steps = np.rint(inputs[0] / np.float32(self.scale)).astype(np.float64) + self.zero_point
        least, most = self.dtype.least, self.dtype.most
        return (np.clip(np.nan_to_num(steps, nan=least), least, most).astype(self.dtype.numpy),)

    def __str__(self) -> str:
        return f"quantize<{self.scale:g}, {self.zero_point}>"


@op
@dataclass(frozen=True, slots=True)
class QuantizeBy:
    """The same with a scale and a zero point that are operands: x, scale, zero point, all float32.

    y = saturate(round_half_even(x / scale) + zero_point). They may repeat along axes.
    """

    dtype: ElementType = ElementType.U8

    kernel: ClassVar[str] = "quantize_by"
    traits = OpTraits(elementwise=True, broadcasts=True, converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), self.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, scale, zero = inputs
        steps = np.rint(x / scale) + zero
        least, most = self.dtype.least, self.dtype.most
        return (np.clip(np.nan_to_num(steps, nan=least), least, most).astype(self.dtype.numpy),)

    def __str__(self) -> str:
        return f"quantize_by<{self.dtype}>"


@op
@dataclass(frozen=True, slots=True)
class Dequantize:
    """y = (x - zero_point) * scale, float32 arithmetic."""

    scale: float
    zero_point: int

    kernel: ClassVar[str] = "dequantize"
    traits = OpTraits(elementwise=True, broadcasts=True, converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return ((inputs[0].astype(np.int64) - self.zero_point).astype(np.float32) * np.float32(self.scale),)

    def __str__(self) -> str:
        return f"dequantize<{self.scale:g}, {self.zero_point}>"


@op
@dataclass(frozen=True, slots=True)
class DequantizeConstant:
    """What a quantized constant means: (x - zero_points) * scales, per tensor or along one axis.

    Only between the frontend and the passes, which use the integers or fold the floats; it has no kernel.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None  # None: one scale for all

    kernel: ClassVar[str] = ""
    traits = OpTraits(converts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.F32),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        shape = [1] * x.ndim
        if self.axis is not None:
            shape[self.axis] = len(self.scales)
        zeros = np.array(self.zero_points, np.int64).reshape(shape)
        scales = np.array(self.scales, np.float32).reshape(shape)
        return ((x.astype(np.int64) - zeros).astype(np.float32) * scales,)

    def __str__(self) -> str:
        return f"dequantize_constant<{len(self.scales)} scales, axis {self.axis}>"


@op
@dataclass(frozen=True, slots=True)
class FlipSign:
    """Between uint8 and int8 by inverting the top bit: the same value with its zero point moved by 128.

    mmcc computes in int8 only; this stands at the border of models whose inputs or outputs are uint8.
    """

    kernel: ClassVar[str] = "flip_sign"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, ElementType.I8 if inputs[0].dtype == ElementType.U8 else ElementType.U8),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        flipped = x.view(np.uint8) ^ np.uint8(0x80)
        return (flipped.view(np.int8) if x.dtype == np.uint8 else flipped,)

    def __str__(self) -> str:
        return "flip_sign"
