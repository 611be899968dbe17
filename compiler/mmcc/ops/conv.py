# SPDX-License-Identifier: Apache-2.0
"""Convolution over [H, W, C], grouped and depthwise included; float, and int8 with int32 accumulators.

A 1-D convolution along time is the case of one column.
"""

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


def conv_shape(window: Window, groups: int, x: Shape, w: Shape, per_channel: tuple[Shape, ...]) -> Shape:
    """Shape rule of both convolutions: w is [OC, KH, KW, IC / groups]."""
    if len(x) != 3 or len(w) != 4 or w[1:3] != window.kernel:
        raise ShapeError(f"convolution weights {list(w)} do not fit input {list(x)}")
    if x[2] != w[3] * groups or w[0] % groups:
        raise ShapeError(f"weights {list(w)} in {groups} groups do not fit input channels {x[2]}")
    if any(shape != (w[0],) for shape in per_channel):
        raise ShapeError(f"bias {list(per_channel[0])} does not fit {w[0]} output channels")
    return (*window.output(x), w[0])


def conv_nest(window: Window, groups: int, y: Shape, x: Shape, w: Shape, per_channel: int) -> Nest:
    """Loops oh, ow, (g,) oc, kh, kw, ic; `per_channel` operands more are indexed by output channel."""
    oh, ow, kh, kw = Loop("oh", y[0]), Loop("ow", y[1]), *window.loops()
    ic = Loop("ic", w[3], LoopKind.REDUCE)
    row, col = window.access(oh, ow, kh, kw)
    if groups == 1:
        oc = Loop("oc", w[0])
        channels, out_channel, in_channel = (oc,), oc.i, ic.i
    else:
        g, o = Loop("g", groups), Loop("oc", w[0] // groups)
        channels, out_channel, in_channel = (g, o), g.i * (w[0] // groups) + o.i, g.i * w[3] + ic.i
    return Nest(
        loops=(oh, ow, *channels, kh, kw, ic),
        reads=(
            Access(0, x, (row, col, in_channel)),
            Access(1, w, (out_channel, kh.i, kw.i, ic.i)),
            *(Access(2 + k, (w[0],), (out_channel,)) for k in range(per_channel)),
        ),
        writes=(Access(0, y, (oh.i, ow.i, out_channel)),),
        multiplies=True,
    )


def correlate(taps: NDArray[Any], w: NDArray[Any], groups: int) -> NDArray[Any]:
    """Sum of products of windows [OH, OW, KH, KW, C] with weights [OC, KH, KW, C / groups]."""
    oh, ow = taps.shape[:2]
    oc, per_group = w.shape[0], w.shape[0] // groups
    if groups == taps.shape[4] and per_group == 1:
        return np.einsum("hwijc,cij->hwc", taps, w[..., 0])
    width = w.shape[3]
    y = np.empty((oh * ow, oc), taps.dtype)
    for g in range(groups):
        flat = taps[..., g * width : (g + 1) * width].reshape(oh * ow, -1)
        mine = slice(g * per_group, (g + 1) * per_group)
        y[:, mine] = flat @ w[mine].reshape(per_group, -1).T
    return y.reshape(oh, ow, oc)


@op
@dataclass(frozen=True, slots=True)
class Conv:
    """y[oh,ow,oc] = act(b[oc] + sum over kh,kw,ic of x[ih,iw,ic] * w[oc,kh,kw,ic]), float.

    Operands: x [H,W,IC], w [OC,KH,KW,IC/groups], b [OC]. Samples outside x count as 0.
    Constant w may be float16, whose values count as they are. Where all operands are float16, so is the
    result, and sums may be rounded to float16 from product to product.
    """

    window: Window
    groups: int = 1
    activation: Activation | None = None

    kernel: ClassVar[str] = "conv"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, b = inputs
        return ((conv_shape(self.window, self.groups, x.shape, w.shape, (b.shape,)), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, b = inputs
        return conv_nest(self.window, self.groups, conv_shape(self.window, self.groups, x, w, (b,)), x, w, 1)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b = inputs
        sums = correlate(self.window.taps(widened(x), 0), widened(w), self.groups) + widened(b)
        return (activate(sums, self.activation).astype(x.dtype, copy=False),)

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        act = f" {self.activation}" if self.activation else ""
        return f"conv<{self.window}{groups}{act}>"


def conv_products(
    window: Window, groups: int, x: NDArray[Any], x_zero: int, w: NDArray[Any], w_zero: int
) -> NDArray[np.int64]:
    """The sums of (x - x_zero) * (w - w_zero), exactly."""
    taps = window.taps(x.astype(np.float64) - x_zero, 0)  # float64 is exact below 2^53
    return correlate(taps, w.astype(np.float64) - w_zero, groups).astype(np.int64)


@op
@dataclass(frozen=True, slots=True)
class ConvInt8:
    """In integers: y = clamp(requantize(b + 2^bias_bits * sum (x - x_zero) * (w - w_zero)) + y_zero).

    Operands: x int8, w int8, b int32 [OC], multiplier int32 [OC], shift int8 [OC]. Samples outside x count
    as x_zero. `w_zero` is 0 but for weights that were asymmetric and do not fit int8 otherwise; `bias_bits`
    is 0 but for a bias that is no whole number of products.
    """

    window: Window
    x_zero: int
    y_zero: int
    groups: int = 1
    w_zero: int = 0
    low: int = -128
    high: int = 127
    bias_bits: int = 0

    kernel: ClassVar[str] = "conv_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, *per_channel = inputs
        shapes = tuple(t.shape for t in per_channel)
        return ((conv_shape(self.window, self.groups, x.shape, w.shape, shapes), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, *per_channel = inputs
        y = conv_shape(self.window, self.groups, x, w, tuple(per_channel))
        return conv_nest(self.window, self.groups, y, x, w, len(per_channel))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b, multiplier, shift = inputs
        products = conv_products(self.window, self.groups, x, self.x_zero, w, self.w_zero)
        acc = (products << self.bias_bits) + b
        return (saturate(requantize(acc, multiplier, shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"conv_int8<{self.window}{groups} z{self.x_zero}->{self.y_zero} [{self.low},{self.high}]>"
