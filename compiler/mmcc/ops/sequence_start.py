# SPDX-License-Identifier: Apache-2.0
"""Where a stream begins: rows that come before row 0 of their tensor, and how many hops there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, ELEMENTWISE, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


def _rows_of(x: Tensor, hops: Tensor) -> tuple[Result]:
    if len(x.shape) < 2 or hops.shape != (1,) or hops.dtype is not ElementType.I32:
        raise ShapeError(f"{list(x.shape)} are no rows, or {list(hops.shape)} no count of hops")
    return ((x.shape, x.dtype),)


def _nest(x: Shape, hops: Shape, *, any_row: bool) -> Nest:
    """Each element is made of the one at its place, or in its row's place of `any_row`."""
    loops = tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(x))
    index = tuple(loop.i for loop in loops)
    read = (None, *index[1:]) if any_row else index
    return Nest(loops, (Access(0, x, read), Access(1, hops, (CONSTANT,))), (Access(0, x, index),))


@op
@dataclass(frozen=True, slots=True)
class MaskBeforeStart:
    """Rows before row 0 of a tensor that lags behind, as what its reader pads with.

    Operands: rows [R, ...], the first of which is row `hops * hop - lag` of its tensor, and `hops`, an int32
    [1]. Result: the same rows, of which those before row 0 are `value`.
    """

    hop: int
    lag: int
    value: float

    kernel: ClassVar[str] = "mask_before_start"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return _rows_of(*inputs)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(*inputs, any_row=False)

    def masked(self, hops: int, rows: int) -> int:
        """How many of `rows` rows come before row 0."""
        return min(rows, max(0, self.lag - hops * self.hop))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, hops = inputs
        y = x.copy()
        y[: self.masked(int(hops[0]), len(x))] = self.value
        return (y,)

    def __str__(self) -> str:
        return f"mask_before_start<lag {self.lag} hop {self.hop} value {self.value}>"


@op
@dataclass(frozen=True, slots=True)
class RepeatFirstRow:
    """Rows before row 0 of a tensor as that row, as an interpolation finds them.

    Operands: rows [R, ...], the first of which is row `hops * hop - lag` of its tensor, and `hops`, an int32
    [1]. Result: the same rows, of which those before row 0 are row 0; the last one, if that has not come.
    """

    hop: int
    lag: int

    kernel: ClassVar[str] = "repeat_first_row"
    traits = OpTraits(chooser=1)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return _rows_of(*inputs)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(*inputs, any_row=True)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, hops = inputs
        first = min(len(x) - 1, self.lag - int(hops[0]) * self.hop)
        return (x[np.maximum(np.arange(len(x)), first)],)

    def __str__(self) -> str:
        return f"repeat_first_row<lag {self.lag} hop {self.hop}>"


@op
@dataclass(frozen=True, slots=True)
class CountHops:
    """One more than an int32 count, but never more than `most`."""

    most: int

    kernel: ClassVar[str] = "count_hops"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (count,) = inputs
        if count.dtype is not ElementType.I32:
            raise ShapeError(f"{count.dtype} is no type to count in")
        return ((count.shape, count.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        loops = tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(inputs[0]))
        index = tuple(loop.i for loop in loops)
        return Nest(loops, (Access(0, inputs[0], index),), (Access(0, inputs[0], index),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (count,) = inputs
        below = count < self.most
        return (np.where(below, count + np.int32(1) * below, np.int32(self.most)),)

    def __str__(self) -> str:
        return f"count_hops<to {self.most}>"
