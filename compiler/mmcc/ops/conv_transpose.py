# SPDX-License-Identifier: Apache-2.0
"""Transposed convolution over [H, W, C]: each output gathers the inputs whose window covers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.activation import Activation, activate
from mmcc.ops.halves import widened
from mmcc.ops.requantize import requantize, saturate
from mmcc.ops.window import Window


def transposed_shape(window: Window, size: tuple[int, int], groups: int, x: Shape, w: Shape) -> Shape:
    """Shape rule: w is [OC, KH, KW, IC / groups]; `size` is the output's rows and columns."""
    if len(x) != 3 or len(w) != 4 or w[1:3] != window.kernel or x[2] != w[3] * groups or w[0] % groups:
        raise ShapeError(f"transposed convolution weights {list(w)} do not fit input {list(x)}")
    return (*size, w[0])


def transposed_nest(
    window: Window, size: tuple[int, int], groups: int, x: Shape, w: Shape, per_channel: int
) -> Nest:
    """Output row oh reads input row (oh + pad - kh * dilation) / stride where that is whole."""
    oh, ow, kh, kw = Loop("oh", size[0]), Loop("ow", size[1]), *window.loops()
    g, o, ic = Loop("g", groups), Loop("oc", w[0] // groups), Loop("ic", w[3], LoopKind.REDUCE)
    (sh, sw), (dh, dw) = window.strides, window.dilations
    row = (oh.i + window.pads[0] + kh.i * -dh) // sh
    col = (ow.i + window.pads[1] + kw.i * -dw) // sw
    channel = g.i * (w[0] // groups) + o.i if groups > 1 else o.i
    return Nest(
        loops=(oh, ow, g, o, kh, kw, ic),
        reads=(
            Access(0, x, (row, col, g.i * w[3] + ic.i)),
            Access(1, w, (channel, kh.i, kw.i, ic.i)),
            *(Access(2 + k, (w[0],), (channel,)) for k in range(per_channel)),
        ),
        writes=(Access(0, (*size, w[0]), (oh.i, ow.i, channel)),),
        multiplies=True,
    )


def scatter(
    window: Window, size: tuple[int, int], groups: int, x: NDArray[Any], w: NDArray[Any]
) -> NDArray[Any]:
    """Sum of every input times the window, laid down at stride distance; [OH, OW, OC]."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    height = max((x.shape[0] - 1) * sh + dh * (kh - 1) + 1, size[0] + window.pads[0])
    width = max((x.shape[1] - 1) * sw + dw * (kw - 1) + 1, size[1] + window.pads[1])
    full = np.zeros((height, width, w.shape[0]), x.dtype)
    per_group, depth = w.shape[0] // groups, w.shape[3]
    for g in range(groups):
        mine = slice(g * per_group, (g + 1) * per_group)
        for i in range(kh):
            for j in range(kw):
                part = x[..., g * depth : (g + 1) * depth] @ w[mine, i, j].T
                rows = slice(i * dh, i * dh + (x.shape[0] - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (x.shape[1] - 1) * sw + 1, sw)
                full[rows, cols, mine] += part
    top, left = window.pads[:2]
    return full[top : top + size[0], left : left + size[1]]


@op
@dataclass(frozen=True, slots=True)
class ConvTranspose:
    """Float. Operands: x [H,W,IC], w [OC,KH,KW,IC/groups], b [OC]; only top and left pads matter.

    Constant w may be float16, whose values count as they are.
    """

    window: Window
    size: tuple[int, int]
    groups: int = 1
    activation: Activation | None = None

    kernel: ClassVar[str] = "conv_transpose"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, _ = inputs
        return ((transposed_shape(self.window, self.size, self.groups, x.shape, w.shape), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return transposed_nest(self.window, self.size, self.groups, inputs[0], inputs[1], 1)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b = inputs
        return (activate(scatter(self.window, self.size, self.groups, x, widened(w)) + b, self.activation),)

    def __str__(self) -> str:
        return f"conv_transpose<{self.window} to {self.size[0]}x{self.size[1]} g{self.groups}>"


def transposed_products(
    window: Window,
    size: tuple[int, int],
    groups: int,
    x: NDArray[Any],
    x_zero: int,
    w: NDArray[Any],
    w_zero: int,
) -> NDArray[np.int64]:
    """The sums of (x - x_zero) * (w - w_zero), exactly."""
    wide = x.astype(np.float64) - x_zero  # exact below 2^53
    return scatter(window, size, groups, wide, w.astype(np.float64) - w_zero).astype(np.int64)


@op
@dataclass(frozen=True, slots=True)
class ConvTransposeInt8:
    """Integers, as ConvInt8: x, w int8, b int32 [OC], multiplier int32 [OC], shift int8 [OC]."""

    window: Window
    size: tuple[int, int]
    x_zero: int
    y_zero: int
    groups: int = 1
    w_zero: int = 0
    low: int = -128
    high: int = 127
    bias_bits: int = 0

    kernel: ClassVar[str] = "conv_transpose_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w = inputs[:2]
        return ((transposed_shape(self.window, self.size, self.groups, x.shape, w.shape), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return transposed_nest(self.window, self.size, self.groups, inputs[0], inputs[1], len(inputs) - 2)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b, multiplier, shift = inputs
        acc = (
            transposed_products(self.window, self.size, self.groups, x, self.x_zero, w, self.w_zero)
            << self.bias_bits
        ) + b
        return (saturate(requantize(acc, multiplier, shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        return f"conv_transpose_int8<{self.window} to {self.size[0]}x{self.size[1]} g{self.groups}>"
