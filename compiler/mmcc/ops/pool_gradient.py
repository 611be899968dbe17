# SPDX-License-Identifier: Apache-2.0
"""Gradients of pools over [H, W, C]: each element of x gathers from the windows that it is in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.pool import Pads, window_counts
from mmcc.ops.window import Window

Array = NDArray[Any]


def gather_nest(window: Window, x: Shape, g: Shape) -> Nest:
    """Loops ih, iw, c, kh, kw: the windows of g that row ih and column iw of x are in."""
    ih, iw, c = Loop("ih", x[0]), Loop("iw", x[1]), Loop("c", x[2])
    kh, kw = window.loops()
    row = (ih.i + window.pads[0] + kh.i * -window.dilations[0]) // window.strides[0]
    col = (iw.i + window.pads[1] + kw.i * -window.dilations[1]) // window.strides[1]
    return Nest((ih, iw, c, kh, kw), (Access(0, g, (row, col, c.i)),), (Access(0, x, (ih.i, iw.i, c.i)),))


def spread(window: Window, x: Shape, parts: Array) -> Array:
    """The sum of `parts` [OH, OW, KH, KW, C] at the elements of x that they are for."""
    top, left, bottom, right = window.pads
    full = np.zeros((x[0] + top + bottom, x[1] + left + right, x[2]), parts.dtype)
    (oh, ow, kh, kw), (sh, sw), (dh, dw) = parts.shape[:4], window.strides, window.dilations
    for i, j in product(range(kh), range(kw)):
        rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
        cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
        full[rows, cols] += parts[:, :, i, j]
    return full[top : top + x[0], left : left + x[1]]


@op
@dataclass(frozen=True, slots=True)
class MaxPoolGradient:
    """dx = sum of g over the windows in which x is the largest; of equal samples the first counts. Float.

    Operands: g [OH,OW,C], the gradient of the pool's result, and its input x [H,W,C].
    """

    window: Window

    kernel: ClassVar[str] = "max_pool_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, x = inputs
        if g.shape != (*self.window.output(x.shape), x.shape[2]):
            raise ShapeError(f"gradient {list(g.shape)} does not fit a pool of {list(x.shape)}")
        return ((x.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        """Of x any element is read that shares a window."""
        g, x = inputs
        nest = gather_nest(self.window, x, g)
        reach = [d * (k - 1) for k, d in zip(self.window.kernel, self.window.dilations, strict=True)]
        near = tuple(
            Loop(name, 2 * far + 1, LoopKind.REDUCE) for name, far in zip(("nh", "nw"), reach, strict=True)
        )
        ih, iw, c = nest.loops[:3]
        around = (ih.i + near[0].i - reach[0], iw.i + near[1].i - reach[1], c.i)
        return Nest((*nest.loops, *near), (*nest.reads, Access(1, x, around)), nest.writes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        g, x = inputs
        taps = self.window.taps(x, -np.inf)
        flat = taps.reshape(*taps.shape[:2], -1, x.shape[2])
        first = np.equal(flat.argmax(2)[:, :, None], np.arange(int(flat.shape[2]))[:, None])
        parts = np.where(first, g[:, :, None], 0).reshape(taps.shape)
        return (spread(self.window, x.shape, parts).astype(x.dtype),)

    def __str__(self) -> str:
        return f"max_pool_gradient<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class AveragePoolGradient:
    """dx = sum over the windows that an element is in of g / (taps of the window that count). Float.

    Operand: g [OH,OW,C], the gradient of the pool's result; `size` is that of the pool's input.
    """

    window: Window
    size: tuple[int, int]
    counted: Pads = (0, 0, 0, 0)

    kernel: ClassVar[str] = "average_pool_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (g,) = inputs
        x = self._shape(g.shape)
        if len(g.shape) != 3 or g.shape[:2] != self.window.output(x):
            raise ShapeError(f"gradient {list(g.shape)} does not fit a pool of {list(x)}")
        return ((x, g.dtype),)

    def _shape(self, g: Shape) -> Shape:
        return *self.size, g[-1]

    def counts(self, channels: int) -> NDArray[np.int64]:
        """The taps that count, of each window [OH, OW]."""
        return window_counts(self.window, self.counted, (*self.size, channels))

    def nest(self, *inputs: Shape) -> Nest:
        return gather_nest(self.window, self._shape(inputs[0]), inputs[0])

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (g,) = inputs
        share = g / self.counts(g.shape[2])[..., None]
        parts = np.broadcast_to(share[:, :, None, None], (*g.shape[:2], *self.window.kernel, g.shape[2]))
        return (spread(self.window, self._shape(g.shape), parts).astype(g.dtype),)

    def __str__(self) -> str:
        return f"average_pool_gradient<{self.window}>"
