# SPDX-License-Identifier: Apache-2.0
"""Operators that only move elements; any type. Integers stay as they are, so these are exact in int8."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import CONSTANT, Access, Index, Indexed, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import Alias, Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


def output_loops(shape: Shape) -> tuple[Loop, ...]:
    """One parallel loop an axis of the output."""
    return tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(shape))


@op
@dataclass(frozen=True, slots=True)
class Reshape:
    """The same bytes under another shape; the planner gives both tensors one buffer."""

    shape: Shape

    kernel: ClassVar[str] = "copy"
    traits = OpTraits(moves=Moves.BY_PLACE, permutes=True, alias=Alias.SAME)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if prod(x.shape) != prod(self.shape):
            raise ShapeError(f"cannot reshape {list(x.shape)} to {list(self.shape)}")
        return ((self.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        loops = output_loops(self.shape)
        kept = len(x) > 1 and len(self.shape) > 1 and x[0] == self.shape[0]  # rows stay rows
        index = (loops[0].i if kept else None, *(None,) * (len(x) - 1)) if x else ()
        write = Access(0, self.shape, tuple(loop.i for loop in loops))
        return Nest(loops, (Access(0, x, index),), (write,))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0].reshape(self.shape),)

    def __str__(self) -> str:
        return f"reshape<{','.join(map(str, self.shape))}>"


@op
@dataclass(frozen=True, slots=True)
class Transpose:
    """Axis k of the output is axis perm[k] of the input."""

    perm: tuple[int, ...]

    kernel: ClassVar[str] = "strided_copy"
    traits = OpTraits(moves=Moves.BY_PLACE, permutes=True, alias=Alias.PART)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if sorted(self.perm) != list(range(len(x.shape))):
            raise ShapeError(f"cannot permute the axes of {list(x.shape)} by {list(self.perm)}")
        return ((tuple(x.shape[axis] for axis in self.perm), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        y = tuple(x[axis] for axis in self.perm)
        loops = output_loops(y)
        index = tuple(loops[self.perm.index(axis)].i for axis in range(len(x)))
        return Nest(loops, (Access(0, x, index),), (Access(0, y, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.array(inputs[0].transpose(self.perm), order="C"),)

    def __str__(self) -> str:
        return f"transpose<{','.join(map(str, self.perm))}>"


@op
@dataclass(frozen=True, slots=True)
class Slice:
    """y[i] = x[start + i * step] on every axis; steps may be negative."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    shape: Shape

    kernel: ClassVar[str] = "strided_copy"
    traits = OpTraits(moves=Moves.BY_PLACE, alias=Alias.PART)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if {len(self.starts), len(self.steps), len(self.shape)} != {len(x.shape)}:
            raise ShapeError(f"slice {self} has other axes than {list(x.shape)}")
        last = [s + (n - 1) * t for s, n, t in zip(self.starts, self.shape, self.steps, strict=True)]
        bad = any(not (0 <= a < e and 0 <= b < e) for a, b, e in zip(self.starts, last, x.shape, strict=True))
        if bad or any(n < 1 for n in self.shape):
            raise ShapeError(f"slice {self} leaves {list(x.shape)} or is empty")
        return ((self.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        loops = output_loops(self.shape)
        index = tuple(
            loop.i * step + start for loop, start, step in zip(loops, self.starts, self.steps, strict=True)
        )
        read = Access(0, inputs[0], index)
        return Nest(loops, (read,), (Access(0, self.shape, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        axes = zip(self.starts, self.shape, self.steps, strict=True)
        return (inputs[0][np.ix_(*(start + np.arange(n) * step for start, n, step in axes))],)

    def __str__(self) -> str:
        return f"slice<from {list(self.starts)} by {list(self.steps)} to {list(self.shape)}>"


@op
@dataclass(frozen=True, slots=True)
class Concat:
    """Inputs one behind the other along an axis; no code where the planner lays them into the output."""

    axis: int

    kernel: ClassVar[str] = "concat"
    traits = OpTraits(moves=Moves.BY_PLACE, alias=Alias.JOIN)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        first = inputs[0]
        for x in inputs:
            same = len(x.shape) == len(first.shape) and x.dtype == first.dtype
            if not same or any(
                a != b for k, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if k != self.axis
            ):
                raise ShapeError(f"cannot concatenate {[list(x.shape) for x in inputs]} on axis {self.axis}")
        total = sum(x.shape[self.axis] for x in inputs)
        return (((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), first.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        first = inputs[0]
        total = sum(x[self.axis] for x in inputs)
        y = (*first[: self.axis], total, *first[self.axis + 1 :])
        loops = output_loops(y)
        reads: list[Access] = []
        start = 0
        for k, x in enumerate(inputs):  # an index outside an input: that element comes from another one
            index = tuple(loop.i - start if axis == self.axis else loop.i for axis, loop in enumerate(loops))
            reads.append(Access(k, x, index))
            start += x[self.axis]
        return Nest(loops, tuple(reads), (Access(0, y, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.concatenate(inputs, self.axis),)

    def __str__(self) -> str:
        return f"concat<axis {self.axis}>"


PadMode = Literal["constant", "reflect", "edge", "wrap"]


@op
@dataclass(frozen=True, slots=True)
class Pad:
    """`before` and `after` elements more on each axis: a constant, or the input mirrored or repeated."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: PadMode = "constant"
    value: float = 0.0

    kernel: ClassVar[str] = "pad"
    traits = OpTraits(moves=Moves.BY_PLACE)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        shape = self._shape(x.shape)
        least = {"constant": 0, "edge": 1, "wrap": 1, "reflect": 2}[self.mode]
        grown = [n for n, b, a in zip(x.shape, self.before, self.after, strict=True) if b or a]
        too_far = self.mode == "reflect" and any(
            max(b, a) >= n for n, b, a in zip(x.shape, self.before, self.after, strict=True) if b or a
        )
        if any(n < least for n in grown) or too_far or min((*self.before, *self.after), default=0) < 0:
            raise ShapeError(f"{self} does not fit {list(x.shape)}")
        return ((shape, x.dtype),)

    def _shape(self, x: Shape) -> Shape:
        return tuple(b + n + a for b, n, a in zip(self.before, x, self.after, strict=True))

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        y = self._shape(x)
        loops = output_loops(y)
        index: tuple[Index, ...] = tuple(loop.i - b for loop, b in zip(loops, self.before, strict=True))
        if self.mode != "constant":
            sources = (np.arange(n) for n in x)
            taken = (np.pad(n, w, mode=self.mode) for n, w in zip(sources, self._width(), strict=True))
            index = tuple(Indexed(loop.name, tuple(t.tolist())) for loop, t in zip(loops, taken, strict=True))
        return Nest(loops, (Access(0, x, index),), (Access(0, y, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        if self.mode == "constant":
            return (np.pad(inputs[0], self._width(), constant_values=self.value),)
        return (np.pad(inputs[0], self._width(), mode=self.mode),)

    def _width(self) -> list[tuple[int, int]]:
        return list(zip(self.before, self.after, strict=True))

    def __str__(self) -> str:
        return f"pad<{self.mode} before {list(self.before)} after {list(self.after)}>"


@op
@dataclass(frozen=True, slots=True)
class Expand:
    """Repeat axes of extent 1 to reach a shape of the same rank."""

    shape: Shape

    kernel: ClassVar[str] = "strided_copy"
    traits = OpTraits(moves=Moves.BY_PLACE)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if len(x.shape) != len(self.shape) or any(
            n not in (1, m) for n, m in zip(x.shape, self.shape, strict=True)
        ):
            raise ShapeError(f"cannot expand {list(x.shape)} to {list(self.shape)}")
        return ((self.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        loops = output_loops(self.shape)
        index = tuple(CONSTANT if n == 1 else loop.i for n, loop in zip(inputs[0], loops, strict=True))
        read = Access(0, inputs[0], index)
        return Nest(loops, (read,), (Access(0, self.shape, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.array(np.broadcast_to(inputs[0], self.shape), order="C"),)

    def __str__(self) -> str:
        return f"expand<{','.join(map(str, self.shape))}>"


@op
@dataclass(frozen=True, slots=True)
class Gather:
    """Take the slices of one axis that constant indices name: y = take(x, indices, axis)."""

    axis: int
    indices: tuple[int, ...]

    kernel: ClassVar[str] = "gather"
    traits = OpTraits(moves=Moves.BY_PLACE)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if any(not 0 <= i < x.shape[self.axis] for i in self.indices):
            raise ShapeError(f"an index of {self} is outside axis {self.axis} of {list(x.shape)}")
        return (((*x.shape[: self.axis], len(self.indices), *x.shape[self.axis + 1 :]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        y = (*x[: self.axis], len(self.indices), *x[self.axis + 1 :])
        loops = output_loops(y)
        index = tuple(
            Indexed(loop.name, self.indices) if k == self.axis else loop.i for k, loop in enumerate(loops)
        )
        return Nest(loops, (Access(0, x, index),), (Access(0, y, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.take(inputs[0], np.array(self.indices), self.axis),)

    def __str__(self) -> str:
        return f"gather<axis {self.axis}, {len(self.indices)} indices>"
