# SPDX-License-Identifier: Apache-2.0
"""A max pool over [H, W, C] that goes by which tap of each window is the largest: its gradient needs no more.

The number of a tap, row by row within the window, takes 1, 2, 4 or 8 bits. Those of neighbouring channels of
a pixel are in one byte, the first in the lowest bits; bits that belong to no channel are 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Affine, Index, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.pool import pool_nest
from mmcc.ops.pool_gradient import gather_nest, spread
from mmcc.ops.window import Window

Array = NDArray[Any]
BYTE = 8
MOST_TAPS = 256  # of a window, so that the number of one fits a byte


def bits_of(window: Window) -> int:
    """How many bits the number of a tap takes."""
    return next(bits for bits in (1, 2, 4, 8) if prod(window.kernel) <= 1 << bits)


def packed(window: Window, x: Shape) -> Shape:
    """The shape of the numbers of taps of a pool of x."""
    return *window.output(x), -(-x[2] * bits_of(window) // BYTE)


def _unpacked(window: Window, taps: Array, channels: int) -> Array:
    """The number of each tap [OH, OW, C]."""
    bits = bits_of(window)
    shifts = np.arange(0, BYTE, bits)
    numbers = taps[..., None].astype(np.int64) >> shifts & ((1 << bits) - 1)
    return numbers.reshape(*taps.shape[:2], -1)[:, :, :channels]


def _check(window: Window) -> None:
    if prod(window.kernel) > MOST_TAPS:
        raise ShapeError(f"a window of {prod(window.kernel)} taps, whose numbers do not fit a byte")


@op
@dataclass(frozen=True, slots=True)
class PoolArgMax:
    """The number of the largest tap of each window of x that lies in x; of equal ones the first: u8."""

    window: Window

    kernel: ClassVar[str] = "pool_arg_max"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        _check(self.window)
        return ((packed(self.window, x.shape), ElementType.U8),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        shape = packed(self.window, x)
        oh, ow, byte = (Loop(name, extent) for name, extent in zip(("oh", "ow", "b"), shape, strict=True))
        kh, kw = self.window.loops()
        row, col = self.window.access(oh, ow, kh, kw)
        reads = (Access(0, x, (row, col, None)),)
        return Nest((oh, ow, byte, kh, kw), reads, (Access(0, shape, (oh.i, ow.i, byte.i)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        bits = bits_of(self.window)
        taps = self.window.taps(x, -np.inf)
        there = self.window.taps(np.ones_like(x), 0) > 0
        flat, inside = (array.reshape(*taps.shape[:2], -1, x.shape[2]) for array in (taps, there))
        largest = (flat == flat.max(2, keepdims=True)) & inside
        numbers = largest.argmax(2)
        padded = np.pad(numbers, ((0, 0), (0, 0), (0, -x.shape[2] % (BYTE // bits))))
        fields = padded.reshape(*numbers.shape[:2], -1, BYTE // bits)
        return ((fields << np.arange(0, BYTE, bits)).sum(-1).astype(np.uint8),)

    def __str__(self) -> str:
        return f"pool_arg_max<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class PoolByArgMax:
    """The tap of each window of x that a `PoolArgMax` names; the least float where it lies beside x.

    Operands: x [H, W, C], float, and the numbers.
    """

    window: Window

    kernel: ClassVar[str] = "pool_by_arg_max"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, taps = inputs
        _check(self.window)
        if taps.shape != packed(self.window, x.shape):
            raise ShapeError(f"taps {list(taps.shape)} do not fit a pool of {list(x.shape)}")
        return (((*self.window.output(x.shape), x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, taps = inputs
        nest = pool_nest(self.window, x)
        return replace(nest, reads=(*nest.reads, _numbers(1, self.window, taps, nest.write.index)))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, taps = inputs
        windows = self.window.taps(x, -np.inf)
        flat = windows.reshape(*windows.shape[:2], -1, x.shape[2])
        numbers = _unpacked(self.window, taps, x.shape[2])
        return (np.take_along_axis(flat, numbers[:, :, None], 2)[:, :, 0],)

    def __str__(self) -> str:
        return f"pool_by_arg_max<{self.window}>"


@op
@dataclass(frozen=True, slots=True)
class PoolByArgMaxGradient:
    """dx = sum of g over the windows in which the element of x is the tap that is named. Float.

    Operands: g [OH, OW, C], the gradient of the pool's result, and the numbers of taps; `size` is that of the
    pool's input.
    """

    window: Window
    size: tuple[int, int]

    kernel: ClassVar[str] = "pool_by_arg_max_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, taps = inputs
        x = (*self.size, g.shape[-1])
        _check(self.window)
        if g.shape != (*self.window.output(x), x[2]) or taps.shape != packed(self.window, x):
            raise ShapeError(f"gradient {list(g.shape)} or taps {list(taps.shape)} do not fit {list(x)}")
        return ((x, g.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        g, taps = inputs
        nest = gather_nest(self.window, (*self.size, g[2]), g)
        return replace(nest, reads=(*nest.reads, _numbers(1, self.window, taps, nest.reads[0].index)))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        g, taps = inputs
        kernel = self.window.kernel
        numbers = _unpacked(self.window, taps, g.shape[2])
        chosen = np.equal(numbers[:, :, None], np.arange(prod(kernel))[:, None])
        parts = np.where(chosen, g[:, :, None], 0).reshape(*g.shape[:2], *kernel, g.shape[2])
        return (spread(self.window, (*self.size, g.shape[2]), parts).astype(g.dtype),)

    def __str__(self) -> str:
        return f"pool_by_arg_max_gradient<{self.window}>"


def _numbers(operand: int, window: Window, taps: Shape, index: tuple[Index, ...]) -> Access:
    """The bytes with the numbers of taps, beside the elements of the pool's result."""
    row, col, channel = index
    assert isinstance(channel, Affine)
    return Access(operand, taps, (row, col, channel // (BYTE // bits_of(window))))
