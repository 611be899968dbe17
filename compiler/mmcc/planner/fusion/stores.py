# SPDX-License-Identifier: Apache-2.0
"""A store: bytes for one allocation, or for several of which each is computed in place of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmcc.planner.fusion.rows import UNWRITTEN, KernelRows, Read
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.fusion.shared import Shared, kernel_allocation
from mmcc.planner.fusion.strips import Cut
from mmcc.planner.fusion.timeline import Timeline, ring_depth
from mmcc.planner.memory.allocations import bits


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """A kernel that fills a store, and the bytes of it that each of its steps writes.

    `spread` if its rows lie in another's, further apart than its own pixels: `Read.reach` says nothing then.
    """

    kernel: int
    start: Ints
    end: Ints
    spread: bool

    def reached(self, steps: slice | Ints, reach: int) -> Ints:
        """The end of what may be written of a row while what `reach` says is still to be read."""
        end = self.end[steps]
        return end if self.spread else np.minimum(self.start[steps] + reach, end)

    def begin(self, line: Timeline) -> int:
        """The time of the first step that writes something, -1 if none did: a sum over rows is kept elsewhere
        until the last of them."""
        times, first = line.of(self.kernel), int(np.argmax(self.end > UNWRITTEN))
        return int(times[first]) if first < len(times) else -1


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """Times from which and to which each row of a store is held; in order, and apart from each other.

    There are none where no row is made: what follows may read only other parts of what it reads.
    """

    begin: Ints
    end: Ints

    def holds(self, at: Ints) -> NDArray[np.bool_]:
        """At each time, whether the store holds a row."""
        if not len(self.begin):
            return np.zeros(len(at), np.bool_)
        row = np.searchsorted(self.begin, at, side="right") - 1
        return (row >= 0) & (self.end[row] >= at)

    def meets(self, other: Lives) -> bool:
        """True if both hold a row at some time."""
        if not len(other.begin):
            return False
        row = np.searchsorted(other.begin, self.end, side="right") - 1
        return bool(((row >= 0) & (other.end[row] >= self.begin)).any())


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Bytes that allocations share: they lie in `allocations[0]`, the others are computed in place of it."""

    allocations: tuple[int, ...]
    writers: tuple[Writer, ...]
    reads: tuple[tuple[int, Read], ...]  # by kernels of the group
    size: int
    depth: int  # rows, if it is a ring; 0 if it is whole
    line: int  # bytes of a row
    lives: Lives | None  # where it is one row: it is free between a row's last use and the next row

    @property
    def allocation(self) -> int:
        return self.allocations[0]


def make_store(
    shared: Shared,
    line: Timeline,
    kernels: Sequence[KernelRows],
    members: int,
    allocations: tuple[int, ...],
    *,
    inside: bool,
) -> Store:
    """The store of some allocations in a group of kernels, `members`; a ring only if nobody outside sees it.

    A kernel with several results makes all rows at once, so what nobody reads of them is no ring. Nor is
    a sum over rows: all of it is there with the last of its steps.
    """
    model, top = shared.model, allocations[0]
    writers: list[Writer] = []
    reads: list[tuple[int, Read]] = []
    for allocation in allocations:
        for kernel in bits(model.allocations[allocation].users & members):
            if allocation in model.kernels[kernel].outputs:
                start, end = kernels[_lies_in(shared, kernel, allocation, top)].written(top)
                own_start, own_end = kernels[kernel].written(allocation)
                spread = end[-1] - start[-1] > own_end[-1] - own_start[-1]
                writers.append(Writer(kernel, start, end, bool(spread)))
            reads += [(kernel, read) for read in kernels[kernel].reads if read.allocation == allocation]
    depth, shape = 0, shared.rows.allocations[top]
    makers = {writer.kernel for writer in writers}
    at_once = any(model.kernels[k].at_once or kernels[k].accumulates is not None for k in makers)
    if inside and shape.ring and not at_once:
        depth = ring_depth(line, [writer.kernel for writer in writers], reads, shape.height)
        depth = 0 if depth == shape.height else depth
    size = depth * shape.line if depth else model.allocations[top].bytes
    size = -(-size // model.allocations[top].align) * model.allocations[top].align
    lives = _lives(line, writers, reads) if depth == 1 else None
    return Store(allocations, tuple(writers), tuple(reads), size, depth, shape.line, lives)


def in_strips(shared: Shared, store: Store, cut: Cut) -> Store:
    """The ring that a store becomes in a group that runs in strips: it holds the columns of the widest."""
    shape, align = shared.rows.allocations[store.allocation], shared.model.allocations[store.allocation].align
    width = max(cut.width(writer.kernel) for writer in store.writers)
    size = (store.depth or shape.height) * width * shape.pixel
    return replace(store, size=-(-size // align) * align, line=width * shape.pixel)


def _lives(line: Timeline, writers: Sequence[Writer], reads: Sequence[tuple[int, Read]]) -> Lives:
    """When the rows of a ring of one row are in use; every writer makes every row."""
    times = [line.of(writer.kernel) for writer in writers]
    rows = min(map(len, times))
    begin = np.min([at[:rows] for at in times], axis=0)
    end = np.max([at[:rows] for at in times], axis=0)
    for kernel, read in reads:
        at = line.of(kernel)
        last = np.searchsorted(read.line[: len(at)], np.arange(rows), side="right") - 1
        end = np.where(last >= 0, np.maximum(end, at[np.maximum(last, 0)]), end) if len(at) else end
    return Lives(begin, end)


def _lies_in(shared: Shared, kernel: int, allocation: int, top: int) -> int:
    """The kernel in whose output a kernel's result lies: itself, or a reader that it is merged into."""
    while allocation != top:
        kernel = shared.merges[allocation]
        allocation = kernel_allocation(shared.model, kernel)
    return kernel
