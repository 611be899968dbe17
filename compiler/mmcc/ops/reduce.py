# SPDX-License-Identifier: Apache-2.0
"""Reductions over any set of axes, and the index of the largest or smallest element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.requantize import requantize, saturate

Array = NDArray[Any]


def reduced_shape(x: Shape, axes: tuple[int, ...]) -> Shape:
    """Reduced axes stay, with extent 1."""
    if any(not 0 <= axis < len(x) for axis in axes):
        raise ShapeError(f"axes {list(axes)} are not all axes of {list(x)}")
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(x))


def reduce_nest(x: Shape, axes: tuple[int, ...]) -> Nest:
    """One loop an axis of the input."""
    kinds = [LoopKind.REDUCE if axis in axes else LoopKind.PARALLEL for axis in range(len(x))]
    loops = tuple(Loop(f"i{axis}", extent, kinds[axis]) for axis, extent in enumerate(x))
    index = tuple(CONSTANT if axis in axes else loop.i for axis, loop in enumerate(loops))
    return Nest(
        loops, (Access(0, x, tuple(loop.i for loop in loops)),), (Access(0, reduced_shape(x, axes), index),)
    )


REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "sum": lambda x, axes: x.sum(axes, keepdims=True),
    "mean": lambda x, axes: x.mean(axes, keepdims=True),
    "max": lambda x, axes: x.max(axes, keepdims=True),
    "min": lambda x, axes: x.min(axes, keepdims=True),
    "prod": lambda x, axes: x.prod(axes, keepdims=True),
    "l1": lambda x, axes: np.abs(x).sum(axes, keepdims=True),
    "l2": lambda x, axes: np.sqrt((x * x).sum(axes, keepdims=True)),
    "sum_square": lambda x, axes: (x * x).sum(axes, keepdims=True),
    "log_sum": lambda x, axes: np.log(x.sum(axes, keepdims=True)),
    "log_sum_exp": lambda x, axes: _log_sum_exp(x, axes),
}


def _log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    most: Array = x.max(axes, keepdims=True)
    top: Array = np.where(np.isfinite(most), most, np.zeros_like(most))  # inf - inf is none
    return top + np.log(np.exp(x - top).sum(axes, keepdims=True))


@op
@dataclass(frozen=True, slots=True)
class Reduce:
    """Reduce `axes` to extent 1 (they stay); see REDUCTIONS. Float, and sum, max, min, prod of integers."""

    function: str
    axes: tuple[int, ...]

    kernel: ClassVar[str] = "reduce"

    @property
    def traits(self) -> OpTraits:
        return OpTraits(moves=Moves.BY_ORDER) if self.function in ("max", "min") else COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((reduced_shape(inputs[0].shape, self.axes), inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return reduce_nest(inputs[0], self.axes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        wide = x.astype({"f": np.float64, "u": np.uint64}.get(x.dtype.kind, np.int64))
        return (REDUCTIONS[self.function](wide, self.axes).astype(x.dtype),)

    def __str__(self) -> str:
        return f"reduce_{self.function}<axes {list(self.axes)}>"


@op
@dataclass(frozen=True, slots=True)
class MeanInt8:
    """Mean or sum of int8: y = clamp(requantize(sum (x - x_zero)) + y_zero); 1/N is in the multiplier."""

    axes: tuple[int, ...]
    x_zero: int
    y_zero: int
    multiplier: int
    shift: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "mean_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((reduced_shape(inputs[0].shape, self.axes), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return reduce_nest(inputs[0], self.axes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        total = requantize(self._total(inputs[0]), self.multiplier, self.shift)
        return (saturate(total, self.y_zero, self.low, self.high),)

    def _total(self, x: Array) -> Array:
        return (x.astype(np.int64) - self.x_zero).sum(self.axes, keepdims=True)

    def __str__(self) -> str:
        return f"mean_int8<axes {list(self.axes)} z{self.x_zero}->{self.y_zero}>"


@op
@dataclass(frozen=True, slots=True)
class ArgMax:
    """Index (int64) of the largest or smallest element along one axis, which stays with extent 1."""

    axis: int
    smallest: bool = False
    last: bool = False  # of equal elements, take the last

    kernel: ClassVar[str] = "arg_max"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((reduced_shape(inputs[0].shape, (self.axis,)), ElementType.I64),)

    def nest(self, *inputs: Shape) -> Nest:
        return reduce_nest(inputs[0], (self.axis,))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        find = np.argmin if self.smallest else np.argmax
        if self.last:
            found = x.shape[self.axis] - 1 - find(np.flip(x, self.axis), self.axis)
        else:
            found = find(x, self.axis)
        return (np.expand_dims(found, self.axis).astype(np.int64),)

    def __str__(self) -> str:
        return f"arg_{'min' if self.smallest else 'max'}<axis {self.axis}>"
