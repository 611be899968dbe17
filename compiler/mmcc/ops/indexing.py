# SPDX-License-Identifier: Apache-2.0
"""Elements taken from, and put to, places that are computed at run time.

An index below 0 counts from the end. One that is outside even so is moved to the nearest that is inside:
nothing is ever read or written elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Index, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op

Array = NDArray[Any]


def inside(index: Array, extent: int) -> NDArray[np.int64]:
    """The index that is meant, or the nearest one."""
    wide = index.astype(np.int64)
    return np.clip(np.where(wide < 0, wide + extent, wide), 0, extent - 1)


def line_of(index: Array, extents: tuple[int, ...]) -> NDArray[np.int64]:
    """The line that each entry of `index` [M] or [M, K] names, in row-major order of K axes."""
    line = np.zeros(len(index), np.int64)
    for k, (extent, part) in enumerate(zip(extents, index.reshape(len(index), -1).T, strict=True)):
        line += inside(part, extent) * prod(extents[k + 1 :])
    return line


def _check_lines(x: Tensor, index: Tensor, extents: tuple[int, ...]) -> None:
    parts = index.shape[1] if len(index.shape) == 2 else 1
    whole = len(x.shape) == 2 and len(index.shape) in (1, 2) and min(extents, default=0) > 0
    if not whole or not index.dtype.is_integer or parts != len(extents) or x.shape[0] != prod(extents):
        raise ShapeError(f"{list(index.shape)} {index.dtype} names no lines of {list(x.shape)}")


def _check_along(x: Tensor, index: Tensor) -> None:
    fits = len(x.shape) == 3 and index.dtype.is_integer and min(x.shape) > 0
    match index.shape:
        case (_,):
            pass
        case (a, _):
            fits = fits and a == x.shape[0]
        case (a, _, b):
            fits = fits and (a, b) == (x.shape[0], x.shape[2])
        case _:
            fits = False
    if not fits:
        raise ShapeError(f"{list(index.shape)} {index.dtype} names no elements of {list(x.shape)}")


@op
@dataclass(frozen=True, slots=True)
class TakeLines:
    """y[m] = x[line m names]. x [N, B]; the index [M], or [M, K] over K axes with N elements in all."""

    extents: tuple[int, ...]

    kernel: ClassVar[str] = "take_lines"
    traits = OpTraits(chooser=1)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, index = inputs
        _check_lines(x, index, self.extents)
        return (((index.shape[0], x.shape[1]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, index = inputs
        m, b = Loop("m", index[0]), Loop("b", x[1])
        named = (m.i,) if len(index) == 1 else (m.i, None)
        reads = (Access(0, x, (None, b.i)), Access(1, index, named))
        return Nest((m, b), reads, (Access(0, (index[0], x[1]), (m.i, b.i)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, index = inputs
        return (x[line_of(index, self.extents)],)

    def __str__(self) -> str:
        return f"take_lines<of {list(self.extents)}>"


@op
@dataclass(frozen=True, slots=True)
class TakeAlong:
    """y[a, m, b] = x[a, i, b], where i is index[m], index[a, m] or index[a, m, b]. x [A, N, B]."""

    kernel: ClassVar[str] = "take_along"
    traits = OpTraits(chooser=1)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, index = inputs
        _check_along(x, index)
        count = index.shape[min(1, len(index.shape) - 1)]
        return (((x.shape[0], count, x.shape[2]), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, index = inputs
        a, m, b = Loop("a", x[0]), Loop("m", index[min(1, len(index) - 1)]), Loop("b", x[2])
        named: tuple[Index, ...] = (m.i,) if len(index) == 1 else (a.i, m.i, b.i)[: len(index)]
        reads = (Access(0, x, (a.i, None, b.i)), Access(1, index, named))
        return Nest((a, m, b), reads, (Access(0, (x[0], m.extent, x[2]), (a.i, m.i, b.i)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, index = inputs
        full = inside(index, x.shape[1])
        if full.ndim == 1:
            full = full[None]
        if full.ndim == 2:
            full = full[:, :, None]
        full = np.broadcast_to(full, (x.shape[0], full.shape[1], x.shape[2]))
        return (np.take_along_axis(x, full, 1),)

    def __str__(self) -> str:
        return "take_along"


SCATTERS: dict[str, Callable[[Array, Array], Array]] = {
    "none": lambda old, new: new,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@op
@dataclass(frozen=True, slots=True)
class ScatterLines:
    """x, but the line after `first` that m names is updated by updates[m], one after the other.

    x [N, B]; the index [M] or [M, K], as of TakeLines, over the lines from `first` on; updates [M, B]. See
    SCATTERS: `none` replaces.
    """

    extents: tuple[int, ...]
    reduction: str = "none"
    first: int = 0

    kernel: ClassVar[str] = "scatter_lines"

    @property
    def traits(self) -> OpTraits:
        """Where updates replace what was there, elements are only moved."""
        return OpTraits(chooser=1) if self.reduction == "none" else COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, index, updates = inputs
        _check_part(x, self.first, prod(self.extents))
        _check_lines(replace(x, shape=(prod(self.extents), *x.shape[1:])), index, self.extents)
        if updates.shape != (index.shape[0], x.shape[1]) or updates.dtype != x.dtype:
            raise ShapeError(f"updates {list(updates.shape)} do not fit {list(x.shape)}")
        return ((x.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, index, updates = inputs
        n, b = Loop("n", x[0]), Loop("b", x[1])
        reads = (
            Access(0, x, (n.i, b.i)),
            Access(1, index, (None,) * len(index)),
            Access(2, updates, (None, b.i)),
        )
        return Nest((n, b), reads, (Access(0, x, (n.i, b.i)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, index, updates = inputs
        y = x.copy()
        for line, update in zip(self.first + line_of(index, self.extents), updates, strict=True):
            y[line] = SCATTERS[self.reduction](y[line], update)
        return (y,)

    def __str__(self) -> str:
        return f"scatter_lines<{self.reduction} to {list(self.extents)}{_from(self.first)}>"


@op
@dataclass(frozen=True, slots=True)
class ScatterAlong:
    """x, but x[first + a, i, b] is updated by updates[a, m, b], by increasing m.

    i is index[m] or index[a, m, b]. x [A, N, B]; the updates may be for some of its A only, from `first` on.
    """

    reduction: str = "none"
    first: int = 0

    kernel: ClassVar[str] = "scatter_along"

    @property
    def traits(self) -> OpTraits:
        """Where updates replace what was there, elements are only moved."""
        return OpTraits(chooser=1) if self.reduction == "none" else COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, index, updates = inputs
        count = updates.shape[0] if updates.shape else 0
        _check_part(x, self.first, count)
        _check_along(replace(x, shape=(count, *x.shape[1:])), index)
        named = index.shape if len(index.shape) == 3 else (count, *index.shape, *x.shape[2:])
        if len(index.shape) == 2 or updates.shape != named or updates.dtype != x.dtype:
            raise ShapeError(f"updates {list(updates.shape)} do not fit {list(index.shape)}")
        return ((x.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, index, updates = inputs
        a, n, b = Loop("a", x[0]), Loop("n", x[1]), Loop("b", x[2])
        here: tuple[Index, ...] = (a.i, n.i, b.i)
        other: tuple[Index, ...] = (a.i - self.first, None, b.i)  # outside: none for this element
        named: tuple[Index, ...] = other if len(index) == 3 else (None,)
        reads = (Access(0, x, here), Access(1, index, named), Access(2, updates, other))
        return Nest((a, n, b), reads, (Access(0, x, here),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, index, updates = inputs
        y = x.copy()
        part = y[self.first : self.first + len(updates)]
        places = inside(index if index.ndim == 3 else index[None, :, None], x.shape[1])
        places = np.broadcast_to(places, updates.shape)
        rows, lanes = np.ix_(range(part.shape[0]), range(x.shape[2]))
        for m in range(updates.shape[1]):
            old = part[rows, places[:, m], lanes]
            part[rows, places[:, m], lanes] = SCATTERS[self.reduction](old, updates[:, m])
        return (y,)

    def __str__(self) -> str:
        return f"scatter_along<{self.reduction}{_from(self.first)}>"


def _check_part(x: Tensor, first: int, count: int) -> None:
    if not x.shape or not 0 <= first <= first + count <= x.shape[0]:
        raise ShapeError(f"{count} from {first} on are not in {list(x.shape)}")


def _from(first: int) -> str:
    return f" from {first}" if first else ""
