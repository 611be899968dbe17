# SPDX-License-Identifier: Apache-2.0
"""Resize of rows and columns of [H, W, C]: nearest for any type, linear and cubic for float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Indexed, Loop, Nest
from mmcc.ir.op import ShapeError
from mmcc.ir.types import DType, Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops


@op
@dataclass(frozen=True, slots=True)
class ResizeNearest:
    """y[oh, ow] = x[rows[oh], cols[ow]]: the frontend computed the indices by ONNX's rules, once."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    kernel: ClassVar[str] = "resize_nearest"

    def result(self, *inputs: Tensor) -> tuple[Shape, DType]:
        (x,) = inputs
        if len(x.shape) != 3 or max(self.rows) >= x.shape[0] or max(self.cols) >= x.shape[1]:
            raise ShapeError(f"{self} does not fit {list(x.shape)}")
        return (len(self.rows), len(self.cols), x.shape[2]), x.dtype

    def nest(self, *inputs: Shape) -> Nest:
        return _resize_nest(inputs[0], self.rows, self.cols, 1, ())

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        return inputs[0][np.ix_(self.rows, self.cols)]

    def __str__(self) -> str:
        return f"resize_nearest<{len(self.rows)}x{len(self.cols)}>"


@op
@dataclass(frozen=True, slots=True)
class ResizeLinear:
    """Weighted sum of `taps` rows and columns from a first one: 2 taps is linear, 4 is cubic; float.

    y[oh, ow] = sum over i, j of row_weight[oh, i] * col_weight[ow, j] * x[clamp(row_first[oh] + i), ...].
    Operands: x [H,W,C], row_weight float [OH, taps], col_weight float [OW, taps]; first taps are attributes
    and may lie outside x, where the nearest row or column counts.
    """

    row_first: tuple[int, ...]
    col_first: tuple[int, ...]
    taps: int

    kernel: ClassVar[str] = "resize_linear"

    def result(self, *inputs: Tensor) -> tuple[Shape, DType]:
        x, rows, cols = inputs
        if len(x.shape) != 3 or rows.shape != (len(self.row_first), self.taps):
            raise ShapeError(f"{self} does not fit {list(x.shape)}")
        if cols.shape != (len(self.col_first), self.taps):
            raise ShapeError(f"{self} does not fit column weights {list(cols.shape)}")
        return (len(self.row_first), len(self.col_first), x.shape[2]), x.dtype

    def nest(self, *inputs: Shape) -> Nest:
        return _resize_nest(inputs[0], self.row_first, self.col_first, self.taps, inputs[1:])

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        x, row_weight, col_weight = inputs
        tap = np.arange(self.taps)
        rows = np.clip(np.array(self.row_first)[:, None] + tap, 0, x.shape[0] - 1)
        cols = np.clip(np.array(self.col_first)[:, None] + tap, 0, x.shape[1] - 1)
        wide = np.einsum("oihc,oi->ohc", x[rows].astype(np.float64), row_weight)
        return np.einsum("hojc,oj->hoc", wide[:, cols], col_weight).astype(np.float32)

    def __str__(self) -> str:
        return (
            f"resize_{'linear' if self.taps == 2 else 'cubic'}<{len(self.row_first)}x{len(self.col_first)}>"
        )


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
        Access(0, (oh.extent, ow.extent, c.extent), (oh.i, ow.i, c.i)),
    )


def _taken(loop: Loop, first: tuple[int, ...], taps: int, extent: int) -> Indexed:
    """The rows that `taps` from a first one touch once clamped; as many for each."""
    least = max(0, extent - taps)
    return Indexed(loop.name, tuple(min(max(f, 0), least) for f in first), min(taps, extent))
