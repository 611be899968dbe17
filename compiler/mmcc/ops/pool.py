# SPDX-License-Identifier: Apache-2.0
"""Max and average pools over [H, W, C]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import COMPUTES, Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.requantize import requantize, saturate
from mmcc.ops.window import Window

Pads = tuple[int, int, int, int]


def pool_nest(window: Window, x: Shape, tables: tuple[Shape, ...] = ()) -> Nest:
    """Loops oh, ow, c, kh, kw; `tables` are operands any element of which may be read."""
    size = window.output(x)
    oh, ow, c, kh, kw = Loop("oh", size[0]), Loop("ow", size[1]), Loop("c", x[2]), *window.loops()
    row, col = window.access(oh, ow, kh, kw)
    return Nest(
        loops=(oh, ow, c, kh, kw),
        reads=(
            Access(0, x, (row, col, c.i)),
            *(Access(1 + k, t, (None,) * len(t)) for k, t in enumerate(tables)),
        ),
        writes=(Access(0, (*size, x[2]), (oh.i, ow.i, c.i)),),
    )


def window_counts(window: Window, counted: Pads, x: Shape) -> NDArray[np.int64]:
    """For each output [OH, OW], how many taps lie in the input grown by the pads in `counted`."""
    size = window.output(x)
    axes: list[NDArray[np.int64]] = []
    for axis in (0, 1):
        start = np.arange(size[axis]) * window.strides[axis] - window.pads[axis]
        taps = start[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside = (taps >= -counted[axis]) & (taps < x[axis] + counted[axis + 2])
        axes.append(inside.sum(1))
    return axes[0][:, None] * axes[1][None, :]


@op
@dataclass(frozen=True, slots=True)
class MaxPool:
    """Largest of the window; any type; samples outside x never win."""

    window: Window

    kernel: ClassVar[str] = "max_pool"
    traits = OpTraits(moves=Moves.BY_ORDER)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        return (((*self.window.output(x.shape), x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return pool_nest(self.window, inputs[0])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        least = -np.inf if x.dtype.kind == "f" else ElementType.of(x).least
        return (self.window.taps(x, least).max((2, 3)),)

    def __str__(self) -> str:
        return f"max_pool<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class MaxPoolIndices:
    """MaxPool, and where in ONNX's x [C, H, W] the largest is (int64); of equal samples the first."""

    window: Window

    kernel: ClassVar[str] = "max_pool_indices"
    traits = OpTraits(moves=Moves.BY_ORDER)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        shape = (*self.window.output(x.shape), x.shape[2])
        return (shape, x.dtype), (shape, ElementType.I64)

    def nest(self, *inputs: Shape) -> Nest:
        nest = pool_nest(self.window, inputs[0])
        return Nest(nest.loops, nest.reads, (nest.write, replace(nest.write, operand=1)))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        rows, cols, channels = x.shape
        least = -np.inf if x.dtype.kind == "f" else ElementType.of(x).least
        per_channel: NDArray[np.int64] = np.arange(rows * cols, dtype=np.int64).reshape(rows, cols, 1)
        places = per_channel + rows * cols * np.arange(channels, dtype=np.int64)
        taps, at = self.window.taps(x, least), self.window.taps(places, -1)
        size = (*taps.shape[:2], -1, channels)
        taps, at = taps.reshape(size), at.reshape(size)
        best = np.where(at >= 0, taps, least).max(2)
        first = np.argmax((taps == best[:, :, None]) & (at >= 0), 2)
        found = np.take_along_axis(at, first[:, :, None], 2)[:, :, 0]
        return best.astype(x.dtype), found.astype(np.int64)

    def __str__(self) -> str:
        return f"max_pool_indices<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class AveragePool:
    """Mean of the window, float. A tap counts if it lies in the input grown by the pads in `counted`."""

    window: Window
    counted: Pads = (0, 0, 0, 0)

    kernel: ClassVar[str] = "average_pool"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        return (((*self.window.output(x.shape), x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return pool_nest(self.window, inputs[0])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        total = self.window.taps(x, 0).sum((2, 3))
        return ((total / window_counts(self.window, self.counted, x.shape)[..., None]).astype(x.dtype),)

    def __str__(self) -> str:
        return f"average_pool<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class AveragePoolInt8:
    """Integers: y = clamp(requantize(sum (x - x_zero)) + y_zero).

    Operands: x int8, multiplier int32 [N], shift int8 [N], indexed by the count of taps less one; N = 1
    if every window has the same count.
    """

    window: Window
    x_zero: int
    y_zero: int
    counted: Pads = (0, 0, 0, 0)
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "average_pool_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x = inputs[0]
        return (((*self.window.output(x.shape), x.shape[2]), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return pool_nest(self.window, inputs[0], inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        scaled = requantize(*self._scaling(*inputs))
        return (saturate(scaled, self.y_zero, self.low, self.high),)

    def _scaling(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        x, multiplier, shift = inputs
        total = self.window.taps(x.astype(np.int64) - self.x_zero, 0).sum((2, 3))
        entry = window_counts(self.window, self.counted, x.shape)[..., None] - 1 if len(multiplier) > 1 else 0
        return total, multiplier[entry], shift[entry]

    def __str__(self) -> str:
        return f"average_pool_int8<{self.window} z{self.x_zero}->{self.y_zero}>"
