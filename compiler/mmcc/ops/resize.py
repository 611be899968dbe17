# SPDX-License-Identifier: Apache-2.0
"""Resize of rows and columns of [H, W, C]: nearest for any type, linear in float or int8, cubic in float."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Indexed, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops
from mmcc.ops.requantize import requantize, saturate

LINEAR_TAPS = 2
ROW_BITS = 29  # behind the point of a row's weight in integers


@op
@dataclass(frozen=True, slots=True)
class ResizeNearest:
    """y[oh, ow] = x[rows[oh], cols[ow]]: the frontend computed the indices by ONNX's rules, once."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    kernel: ClassVar[str] = "resize_nearest"
    traits = OpTraits(moves=Moves.BY_PLACE)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if len(x.shape) != 3 or max(self.rows) >= x.shape[0] or max(self.cols) >= x.shape[1]:
            raise ShapeError(f"{self} does not fit {list(x.shape)}")
        return (((len(self.rows), len(self.cols), x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return _resize_nest(inputs[0], self.rows, self.cols, 1, ())

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0][np.ix_(self.rows, self.cols)],)

    def __str__(self) -> str:
        return f"resize_nearest<{len(self.rows)}x{len(self.cols)}>"


@op
@dataclass(frozen=True, slots=True)
class ResizeLinear:
    """Weighted sum of `taps` rows and columns from a first one: 2 is linear, 4 cubic, antialias more; float.

    y[oh, ow] = sum over i, j of row_weight[oh, i] * col_weight[ow, j] * x[clamp(row_first[oh] + i), ...].
    Operands: x [H,W,C], row_weight float [OH, taps], col_weight float [OW, taps]; first taps are attributes
    and may lie outside x, where the nearest row or column counts.
    """

    row_first: tuple[int, ...]
    col_first: tuple[int, ...]
    taps: int

    kernel: ClassVar[str] = "resize_linear"
    traits = OpTraits(tables=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, rows, cols = inputs
        if len(x.shape) != 3 or rows.shape != (len(self.row_first), self.taps):
            raise ShapeError(f"{self} does not fit {list(x.shape)}")
        if cols.shape != (len(self.col_first), self.taps):
            raise ShapeError(f"{self} does not fit column weights {list(cols.shape)}")
        return (((len(self.row_first), len(self.col_first), x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return _resize_nest(inputs[0], self.row_first, self.col_first, self.taps, inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, row_weight, col_weight = inputs
        rows, cols = _taps(x.shape, self.row_first, self.col_first, self.taps)
        wide = np.einsum("oihc,oi->ohc", x[rows].astype(np.float64), row_weight)
        return (np.einsum("hojc,oj->hoc", wide[:, cols], col_weight).astype(x.dtype),)

    def __str__(self) -> str:
        kind = {2: "linear", 4: "cubic"}.get(self.taps, f"of_{self.taps}")
        return f"resize_{kind}<{len(self.row_first)}x{len(self.col_first)}>"


@op
@dataclass(frozen=True, slots=True)
class ResizeInt8:
    """Linear resize in integers, with one rounding; the ratio of the scales is in the columns' weights.

    y = clamp(round(sum of weight * (x - x_zero) / 2^shift) + y_zero), in 64 bits; the weight of a tap is
    (row_weight * col_weight + 2^(ROW_BITS-1)) >> ROW_BITS. Halves, which are frequent where an image is
    doubled, are rounded to even as the oracle does.
    Operands: x int8 [H,W,C], row_weight int32 [OH, 2], col_weight int32 [OW, 2].
    """

    row_first: tuple[int, ...]
    col_first: tuple[int, ...]
    x_zero: int
    y_zero: int
    shift: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "resize_int8"
    traits = OpTraits(saturates=True, tables=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        ((shape, _),) = ResizeLinear(self.row_first, self.col_first, LINEAR_TAPS).results(*inputs)
        return ((shape, ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return _resize_nest(inputs[0], self.row_first, self.col_first, LINEAR_TAPS, inputs[1:])

    def sums(self, *inputs: NDArray[Any]) -> NDArray[np.int64]:
        """The weighted sums, in units of 2^-shift of an output's step."""
        x, row_weight, col_weight = (data.astype(np.int64) for data in inputs)
        rows, cols = _taps(x.shape, self.row_first, self.col_first, LINEAR_TAPS)
        total = np.zeros((len(self.row_first), len(self.col_first), x.shape[2]), np.int64)
        for i, j in product(range(LINEAR_TAPS), repeat=2):
            weight = row_weight[:, None, i] * col_weight[:, j] + (1 << (ROW_BITS - 1)) >> ROW_BITS
            total += weight[..., None] * (x[np.ix_(rows[:, i], cols[:, j])] - self.x_zero)
        return total

    def exact(self, *inputs: NDArray[Any]) -> NDArray[np.float64]:
        """The output before rounding and clamping."""
        return self.sums(*inputs) / 2.0**self.shift + self.y_zero

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        sums = self.sums(*inputs)
        up = requantize(sums, 1, self.shift)
        half = (sums & ((1 << self.shift) - 1)) == 1 << (self.shift - 1)
        return (saturate(up - (half & (up & 1)), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        return f"resize_int8<{len(self.row_first)}x{len(self.col_first)} z{self.x_zero}->{self.y_zero}>"


def _taps(
    x: Shape, row_first: tuple[int, ...], col_first: tuple[int, ...], taps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows [OH, taps] and columns [OW, taps] of x; outside it the nearest."""
    tap = np.arange(taps)
    rows = np.clip(np.array(row_first)[:, None] + tap, 0, x[0] - 1)
    return rows, np.clip(np.array(col_first)[:, None] + tap, 0, x[1] - 1)


def _resize_nest(
    x: Shape, rows: tuple[int, ...], cols: tuple[int, ...], taps: int, tables: tuple[Shape, ...]
) -> Nest:
    oh, ow, c = output_loops((len(rows), len(cols), x[2]))
    return Nest(
        (oh, ow, c),
        (
            Access(0, x, (_taken(oh, rows, taps, x[0]), _taken(ow, cols, taps, x[1]), c.i)),
            *(Access(1 + k, t, (None,) * len(t)) for k, t in enumerate(tables)),
        ),
        (Access(0, (oh.extent, ow.extent, c.extent), (oh.i, ow.i, c.i)),),
    )


def _taken(loop: Loop, first: tuple[int, ...], taps: int, extent: int) -> Indexed:
    """For each output, `taps` rows of the input (or all) with those that its taps are clamped to."""
    least = max(0, extent - taps)
    return Indexed(loop.name, tuple(min(max(f, 0), least) for f in first), min(taps, extent))
