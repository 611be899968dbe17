# SPDX-License-Identifier: Apache-2.0
"""Bytes that one group needs at least, wherever its things are placed."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mmcc.planner.fusion.between import between
from mmcc.planner.fusion.distances import Apart, apart
from mmcc.planner.fusion.group import NEVER, GroupMemory
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.fusion.shared import kernel_allocation
from mmcc.planner.fusion.stores import Store
from mmcc.planner.fusion.timeline import first_needed
from mmcc.planner.memory.lower_bound import cover

SAMPLES = 64  # moments of a group at which its bytes are counted first


class Footprint:
    """The bounds of one group: `least` is quickly known, `tight` is at least as much."""

    def __init__(self, group: GroupMemory) -> None:
        self.group = group

    @cached_property
    def apart(self) -> tuple[Apart, ...]:
        """The pairs of the group's items that may share bytes."""
        return apart(self.group)

    @cached_property
    def least(self) -> int:
        """Bytes that the group needs at least, looking at some moments only.

        At a moment, of what is last used the bytes from the first that is still to be read are held, of what
        grows those up to the last that is written, of anything else all or none. No two things hold the same
        byte: the distance of a pair is at least what both hold at any moment when one is above the other.
        """
        group = self.group
        if len(group.kernels) == 1:
            return self._rounded(group.stay + self._alone)
        if group.cut is not None:
            return self._rounded(group.stay + self._in_strips)
        ends = [time for span in group.spans for time in span if 0 <= time < NEVER]
        every = self._moments()
        some = every[:: max(1, len(every) // SAMPLES)]
        at = np.unique(np.concatenate((group.line.times[group.line.last], ends, some)).astype(np.int64))
        return self._rounded(self._most(at))

    @cached_property
    def tight(self) -> int:
        """Bytes that the group needs at least, looking at all moments, and at what cannot be between an
        output and an input."""
        group = self.group
        if len(group.kernels) == 1 or group.cut is not None:
            return self.least
        side_by_side = group.stay - group.always + between(group, self.apart)
        return self._rounded(max(self.least, self._most(self._moments()), side_by_side))

    @cached_property
    def inner(self) -> int:
        """Most bytes of rings alive together; a group with more kernels before these has them too."""
        return self._together_at_most(self.group.inside)

    def _together_at_most(self, allocations: int) -> int:
        """Most bytes alive at one time of the stores of some allocations, but for rings of one row."""
        some = [
            (span, store.size)
            for store, span in zip(self.group.stores, self.group.spans, strict=True)
            if allocations >> store.allocation & 1 and store.lives is None
        ]
        return max((sum(size for (lo, hi), size in some if lo <= at <= hi) for (at, _), _ in some), default=0)

    @property
    def outside(self) -> int:
        """Bytes of everything that is seen outside the group, none of it shared."""
        group = self.group
        return group.stay + sum(s.size for s in group.stores if not group.inside >> s.allocation & 1)

    def _rounded(self, size: int) -> int:
        """What a placement that needs so much takes: offsets and sizes are multiples of the alignment."""
        align = self.group.shared.request.align
        return -(-size // align) * align

    @property
    def _in_strips(self) -> int:
        """Bytes of the stores of a group in strips. None is given up before the last strip, since every strip
        begins with the rows that the one before it ended with; only rings of one row take turns."""
        stores = self.group.stores
        short = [(s.lives, s.size) for s in stores if s.lives is not None]
        total = sum(s.size for s in stores if s.lives is None)
        if not short:
            return total
        at = np.concatenate([lives.begin for lives, _ in short])
        held = np.zeros(len(at), np.int64)
        for lives, size in short:
            held[lives.holds(at)] += size
        return total + int(held.max())

    @cached_property
    def _alone(self) -> int:
        """Bytes of the output and what is last used under it, for a group of one kernel, rows forward or not.

        No plan with every node alone is below it: a distance is the lesser of that by steps, as in larger
        groups, and of that by rows (`ScheduledKernel.over`); and each input at its last use may lie backward,
        although a placement has that only where there is no other.
        """
        model, line = self.group.shared.model, self.group.line
        stores = {k: item for k, item in enumerate(self.group.items) if item.allocation >= 0}
        if model.kernels[line.last].at_once:
            return sum(item.size for item in stores.values())
        output = kernel_allocation(model, line.last)
        out = next((k for k, item in stores.items() if item.allocation == output), None)
        if out is None:
            return sum(item.size for item in stores.values())
        size = stores.pop(out).size
        steps = {pair.upper: pair.distance for pair in self.apart if pair.lower == out}
        rows = {allocation: (ahead, back) for allocation, ahead, back in model.kernels[line.last].over}
        last_used: list[tuple[int, int, int | None]] = []
        for k, item in stores.items():
            ahead, back = rows.get(item.allocation, (size, None))
            last_used.append((min(steps.get(k, size), ahead), item.size, None if line.atomic else back))
        return cover(size, last_used)

    def _moments(self) -> Ints:
        """The times of all steps of the group."""
        return np.sort(np.concatenate([self.group.line.of(kernel) for kernel in self.group.kernels]))

    def _most(self, at: Ints) -> int:
        """Most bytes that hold something at some moments and at the end."""
        return self.group.stay + int(self.held(at).sum(0).max())

    def held(self, at: Ints) -> Ints:
        """Bytes that hold something at some moments and at the end: a row a store, then one a keeper."""
        group, at = self.group, np.append(at, NEVER)
        rows = [
            self._bytes_at(store, span, at) for store, span in zip(group.stores, group.spans, strict=True)
        ]
        for kernel, size in group.keepers:
            first, until = group.line.begin(kernel), group.line.end(kernel)
            rows.append(((at >= first) & (at <= until)) * np.int64(size))
        return np.array(rows, np.int64).reshape(-1, len(at))

    def at_some_moments(self) -> Ints:
        """The same at moments that are spread over the group."""
        every = self._moments()
        return self.held(every[:: max(1, len(every) // SAMPLES)])

    def _bytes_at(self, store: Store, span: tuple[int, int], at: Ints) -> Ints:
        """Bytes of a store that hold something at some moments."""
        group = self.group
        if group.last_used >> store.allocation & 1 and not store.writers:
            return store.size - first_needed(group.line, store.reads, at, store.size)
        if group.defined >> store.allocation & 1:
            return self._grown(store, at)
        held = store.lives.holds(at) if store.lives is not None else (at >= span[0]) & (at <= span[1])
        return held * np.int64(store.size)

    def _grown(self, store: Store, at: Ints) -> Ints:
        """At each time, the end of what is written or being written."""
        line = self.group.line
        high = np.zeros(len(at), np.int64)
        for writer in store.writers:
            times = line.of(writer.kernel)
            done = np.searchsorted(times, at)
            high = np.maximum(high, np.concatenate(([0], writer.end))[done])
            now = np.flatnonzero(np.append(times, -1)[done] == at)
            if line.atomic >> writer.kernel & 1:
                whole = writer.end[np.searchsorted(times, times[done[now]], side="right") - 1]
                high[now] = np.maximum(high[now], whole)
                continue
            steps = done[now]
            high[now] = np.maximum(high[now], writer.reached(steps, self._reach(writer.kernel)))
        return np.where(at == NEVER, store.size, high)

    def _reach(self, kernel: int) -> int:
        """Least bytes of its row that a kernel needs room for beside those of inputs at their last use."""
        reads = self.group.rows[kernel].reads
        return min(
            (read.reach for read in reads if self.group.last_used >> read.allocation & 1), default=NEVER // 2
        )
