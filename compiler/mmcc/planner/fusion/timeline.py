# SPDX-License-Identifier: Apache-2.0
"""When each step of each kernel runs if one kernel demands all that it needs, and what that means for memory.

A group is a set of kernels that all feed its last one. Within the schedule in which the last one demands
everything before it, the group's own steps come in the same order as if it ran alone: what a kernel asks for
does not depend on what lies further back. So one schedule a last kernel serves every group that ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmcc.planner.fusion.rows import Read, Rows
from mmcc.planner.fusion.schedule import Ints

_NEVER_RAN = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Times of the steps of every kernel that ran; they only count. `stores` is what users keep with it."""

    last: int
    times: dict[int, Ints]
    atomic: int = 0  # kernels (a mask) whose calls read until their last row is written; a call has one time
    stores: dict[tuple[object, ...], object] = field(default_factory=dict[tuple[object, ...], object])

    def of(self, kernel: int) -> Ints:
        """The times of a kernel's steps; none if it did not run."""
        return self.times.get(kernel, _NEVER_RAN)

    def begin(self, kernel: int) -> int:
        """The time of a kernel's first step, -1 if it did not run."""
        times = self.of(kernel)
        return int(times[0]) if len(times) else -1

    def end(self, kernel: int) -> int:
        """The time of a kernel's last step, -1 if it did not run."""
        times = self.of(kernel)
        return int(times[-1]) if len(times) else -1

    def last_need(self, kernel: int, of_steps: Ints) -> int:
        """The time of the last step of a kernel that still reads something of what `needed` is asked about,
        -1 if none does."""
        times = self.of(kernel)
        count = min(len(times), int(np.count_nonzero(of_steps < of_steps[-1])))
        return int(times[count - 1]) if count else -1

    def done(self, kernel: int, at: Ints) -> Ints:
        """How many steps of a kernel come before each of some times."""
        return np.searchsorted(self.of(kernel), at)

    def needed(self, kernel: int, of_steps: Ints, at: Ints) -> Ints:
        """At each time, what a kernel still reads, given that for each of its steps and those after it, and
        for when all is done (`Read.low`, `Read.line`). Not all of its steps need run: nobody asks for the
        last.
        """
        done, run = self.done(kernel, at), len(self.of(kernel))
        return np.where(done < run, of_steps[done], of_steps[-1])


def demand(rows: Rows, last: int, allowed: int, drained: Sequence[int] = ()) -> Timeline:
    """The schedule of kernel `last` and all that feeds it, as far as they are in the bit mask `allowed`.

    Kernels in `drained` make the rest of their rows at the end, if nobody demanded them.
    """
    members = _members(rows, last, allowed)
    needs = {
        kernel: [need for need in rows.kernels[kernel].needs if allowed >> need[0] & 1] for kernel in members
    }
    times: dict[int, list[int]] = {kernel: [] for kernel in (*members, *drained)}
    clock = 0
    for top in (last, *drained):
        for step in range(len(times[top]), rows.kernels[top].steps):
            waiting = [(top, step, 0)]  # a kernel, its step, and how many of its needs are met
            while waiting:
                kernel, at, met = waiting.pop()
                wanted = needs[kernel]
                while met < len(wanted) and len(times[wanted[met][0]]) >= wanted[met][1][at]:
                    met += 1
                if met < len(wanted):
                    producer = wanted[met][0]
                    waiting += [(kernel, at, met), (producer, len(times[producer]), 0)]
                else:
                    times[kernel].append(clock)
                    clock += 1
    return Timeline(last, {kernel: np.array(at, np.int64) for kernel, at in times.items() if at})


def batch(rows: Rows, last: int, allowed: int, tile: int, atomic: int) -> Timeline:
    """The schedule in which each kernel makes in one call what `tile` steps of the last one need."""
    members = sorted(_members(rows, last, allowed))
    wanted: dict[int, Ints] = {last: np.arange(1, rows.kernels[last].steps + 1)}
    for kernel in reversed(members):  # readers come behind what they read
        for producer, counts in rows.kernels[kernel].needs:
            if producer in members:
                need = np.concatenate(([0], counts))[wanted[kernel]]
                wanted[producer] = np.maximum(wanted[producer], need) if producer in wanted else need
    times: dict[int, list[int]] = {kernel: [] for kernel in members}
    clock = 0
    steps = rows.kernels[last].steps
    for top in range(0, steps, tile):
        for kernel in members:
            count = int(wanted[kernel][min(top + tile, steps) - 1]) - len(times[kernel])
            if count > 0:
                together = atomic >> kernel & 1
                times[kernel] += [clock] * count if together else range(clock, clock + count)
                clock += 1 if together else count
    return Timeline(last, {kernel: np.array(at, np.int64) for kernel, at in times.items()}, atomic)


def _members(rows: Rows, last: int, allowed: int) -> Iterable[int]:
    found, stack = {last}, [last]
    while stack:
        for producer, _ in rows.kernels[stack.pop()].needs:
            if allowed >> producer & 1 and producer not in found:
                found.add(producer)
                stack.append(producer)
    return found


def first_needed(line: Timeline, reads: Iterable[tuple[int, Read]], at: Ints, end: int) -> Ints:
    """At each time, the first byte of an allocation that some kernel still reads; `end` if none does."""
    low = np.full(len(at), end, np.int64)
    for kernel, read in reads:
        low = np.minimum(low, line.needed(kernel, read.low, at))
    return low


def ring_depth(line: Timeline, writers: Sequence[int], reads: Sequence[tuple[int, Read]], height: int) -> int:
    """Rows that a ring must have: from the oldest that is still needed to the one just made."""
    depth = 1
    for kernel in writers:
        at = line.of(kernel)
        if not len(at):
            continue
        oldest = np.full(len(at), height, np.int64)
        for reader, read in reads:
            oldest = np.minimum(oldest, line.needed(reader, read.line, at))
        depth = max(depth, int((np.arange(1, len(at) + 1) - oldest).max()))
    return min(depth, height)
