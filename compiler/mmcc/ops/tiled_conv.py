# SPDX-License-Identifier: Apache-2.0
"""Convolutions of an inverted bottleneck that are made together, tile by tile.

What lies between them, the widest tensors of such nets, exists for one tile only: its rows are made again for
the next row of the output. Rows and columns of the input are read as the window reads what is expanded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Indexed, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.conv import ConvInt8, conv_shape
from mmcc.ops.window import Window

CONSTANTS = 4  # operands of each convolution besides its input: w, b, multiplier, shift
POINTWISE = Window((1, 1))
T = TypeVar("T")


@op
@dataclass(frozen=True, slots=True)
class TiledConvInt8:
    """`project` of `window` of `expand`: convolutions in int8, the first and the last of which are 1x1.

    Operands: x int8 [H, W, C], then w, b, multiplier and shift of each of the three, as `ConvInt8` has them.
    A tile is one pixel of the output. For each row of the output, the rows of its window are expanded, each
    column once; so `expand` multiplies as often as the rows of windows overlap, and in strips their columns.
    `nest` counts it that often, and `macs_once` as often as the model does.
    """

    expand: ConvInt8
    window: ConvInt8
    project: ConvInt8

    kernel: ClassVar[str] = "tiled_conv_int8"
    traits = COMPUTES

    @property
    def parts(self) -> tuple[ConvInt8, ConvInt8, ConvInt8]:
        """The convolutions in their order."""
        return self.expand, self.window, self.project

    def shapes(self, *inputs: Shape) -> tuple[Shape, Shape, Shape]:
        """What is expanded, what the windows make of it, and the result."""
        if any(part.window != POINTWISE or part.groups != 1 for part in (self.expand, self.project)):
            raise ShapeError("the first and the last convolution of a tile are 1x1, in one group")
        if len(inputs) != 1 + CONSTANTS * len(self.parts):
            raise ShapeError(f"{len(self.parts)} convolutions do not have {len(inputs)} operands")
        x, found = inputs[0], list[Shape]()
        for part, (w, *per_channel) in zip(self.parts, _in_fours(inputs[1:]), strict=True):
            x = conv_shape(part.window, part.groups, x, w, tuple(per_channel))
            found.append(x)
        return found[0], found[1], found[2]

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((self.shapes(*(tensor.shape for tensor in inputs))[-1], ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        expanded, _, y = self.shapes(*inputs)
        oh, ow = Loop("oh", y[0]), Loop("ow", y[1])
        rows, cols = (self._read(loop, axis) for axis, loop in enumerate((oh, ow)))
        made, seam = self._made(expanded, ow.extent)
        each = expanded[2] * inputs[0][2]
        products = -(-made * each // ow.extent) + self._of_pixel(*inputs)
        constants = (Access(k, shape, (None,) * len(shape)) for k, shape in enumerate(inputs[1:], 1))
        return Nest(
            loops=(oh, ow, Loop("products", products, LoopKind.REDUCE)),
            reads=(Access(0, inputs[0], (rows, cols, None)), *constants),
            writes=(Access(0, y, (oh.i, ow.i, None)),),
            multiplies=True,
            seam=seam * each * oh.extent,
        )

    def macs_once(self, *inputs: Shape) -> int:
        """Multiply-accumulates of the three convolutions, each made once."""
        (h, w, channels), (rows, cols, _) = self.shapes(*inputs)[0], self.shapes(*inputs)[2]
        return h * w * channels * inputs[0][2] + rows * cols * self._of_pixel(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x = inputs[0]
        for part, constants in zip(self.parts, _in_fours(inputs[1:]), strict=True):
            (x,) = part.reference(x, *constants)
        return (x,)

    def __str__(self) -> str:
        return f"tiled<{self.expand}, {self.window}, {self.project}>"

    def _of_pixel(self, *inputs: Shape) -> int:
        """Multiply-accumulates of a pixel of the output, but for those of what is expanded."""
        _, windowed, y = self.shapes(*inputs)
        w = inputs[1 + CONSTANTS]
        return windowed[2] * (w[1] * w[2] * w[3] + y[2])

    def _made(self, expanded: Shape, width: int) -> tuple[int, int]:
        """At most so many pixels are expanded for a row of the output, and so many more for each strip of it
        but one: the columns that windows share."""
        window = self.window.window
        rows, cols = (d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True))
        shared = max(0, cols - window.strides[1])
        rows, cols = min(rows, expanded[0]), min(width * (cols - shared) + shared, expanded[1])
        return rows * cols, rows * shared

    def _read(self, loop: Loop, axis: int) -> Indexed:
        """The rows or columns of x that one of the output reads: a window's."""
        window = self.window.window
        firsts = (k * window.strides[axis] - window.pads[axis] for k in range(loop.extent))
        return Indexed(loop.name, tuple(firsts), window.dilations[axis] * (window.kernel[axis] - 1) + 1)


def _in_fours(operands: Sequence[T]) -> list[Sequence[T]]:
    """The constants of each convolution."""
    return [operands[k : k + CONSTANTS] for k in range(0, len(operands), CONSTANTS)]
