# SPDX-License-Identifier: Apache-2.0
"""What convolutions and pools share: a window that slides over rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mmcc.ir.nest import Affine, Loop, LoopKind
from mmcc.ir.op import ShapeError
from mmcc.ir.types import Shape


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel size and how it moves: strides, dilations, and pads (top, left, bottom, right).

    Sums of floats go over the taps row by row, or, if `columns_first`, column by column.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    columns_first: bool = False

    def output(self, x: Shape) -> tuple[int, int]:
        """Rows and columns of the output for input [H, W, C]."""
        if len(x) != 3:
            raise ShapeError(f"a window needs an input [H, W, C], not {list(x)}")
        size: list[int] = []
        for axis in (0, 1):
            reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            padded = x[axis] + self.pads[axis] + self.pads[axis + 2]
            if padded < reach:
                raise ShapeError(
                    f"a window of {self.kernel} dilated by {self.dilations} "
                    f"is larger than its padded input {list(x)} + pads {list(self.pads)}"
                )
            size.append((padded - reach) // self.strides[axis] + 1)
        return size[0], size[1]

    def loops(self) -> tuple[Loop, Loop]:
        return Loop("kh", self.kernel[0], LoopKind.REDUCE), Loop("kw", self.kernel[1], LoopKind.REDUCE)

    def access(self, oh: Loop, ow: Loop, kh: Loop, kw: Loop) -> tuple[Affine, Affine]:
        """Input row and column that an output position and a tap read."""
        (sh, sw), (dh, dw) = self.strides, self.dilations
        return oh.i * sh + kh.i * dh - self.pads[0], ow.i * sw + kw.i * dw - self.pads[1]

    def taps(self, x: NDArray[Any], fill: float) -> NDArray[Any]:
        """A view [OH, OW, KH, KW, C] of the input padded with `fill`."""
        top, left, bottom, right = self.pads
        oh, ow = self.output(x.shape)
        padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
        rows, cols, channels = padded.strides
        return as_strided(
            padded,
            (oh, ow, *self.kernel, x.shape[2]),
            (
                rows * self.strides[0],
                cols * self.strides[1],
                rows * self.dilations[0],
                cols * self.dilations[1],
                channels,
            ),
            writeable=False,
        )

    def __str__(self) -> str:
        text = f"{self.kernel[0]}x{self.kernel[1]}"
        if self.strides != (1, 1):
            text += f" s{self.strides[0]}x{self.strides[1]}"
        if self.dilations != (1, 1):
            text += f" d{self.dilations[0]}x{self.dilations[1]}"
        if self.pads != (0, 0, 0, 0):
            text += f" p{','.join(map(str, self.pads))}"
        return f"{text} by columns" if self.columns_first else text
