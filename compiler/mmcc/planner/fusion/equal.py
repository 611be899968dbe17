# SPDX-License-Identifier: Apache-2.0
"""Equal groups, which need equally many bytes: in a deep net most groups are like one that was looked at.

Two groups are equal if their kernels do the same to allocations of the same kind, in the same order, and what
is alive before and after is the same for them. What else there is in the graph makes no difference: a group's
schedule does not depend on what lies further back, and of what merely lives through only the bytes count.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from mmcc.planner.fusion.rows import KernelRows, Read
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.allocations import bits

Ends = tuple[int, int, int]  # kernels done before a group and after it, and its last kernel


class EqualGroups:
    """Bytes of a space's groups, asked of the first that was equal."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._first: dict[object, Ends] = {}  # by what equal groups have in common
        self._same: dict[Ends, Ends] = {}
        self._inner: dict[tuple[int, int], int] = {}
        self._kernels: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        self._allocations: dict[int, int] = {}
        self._kinds: dict[object, int] = {}

    @property
    def looked_at(self) -> int:
        """Groups so far of which none was equal to an earlier one."""
        return len(self._first)

    def least(self, before: int, after: int, last: int) -> int:
        """Bytes that a group needs at least, as far as is quickly known (`Space.least`)."""
        return self.space.least(*self.first(before, after, last))

    def tight(self, before: int, after: int, last: int) -> int:
        """The same, looking at all moments (`Space.tight`)."""
        return self.space.tight(*self.first(before, after, last))

    def inner(self, near: int, after: int, last: int) -> int:
        """Bytes of rings that kernels `near` the last one hold (`Space.inner`)."""
        if (last, near) not in self._inner:
            kind = self._kind(after & ~near, after, last)
            first = self._first.setdefault(kind, (after & ~near, after, last))
            self._inner[last, near] = self.space.inner(first[1] & ~first[0], first[1], first[2])
        return self._inner[last, near]

    def first(self, before: int, after: int, last: int) -> Ends:
        """The first group asked for that is equal to one."""
        ends = before, after, last
        if ends not in self._same:
            alive, then = self.space.alive(before), self.space.alive(after)
            through, changed = self.space.shared.bytes(alive & then), alive ^ then
            for kernel in bits(after & ~before):
                for allocation in self._kernel(kernel)[2]:
                    changed &= ~(1 << allocation)
            untouched = changed and ends  # what nobody touches comes or goes: like no other
            kind = through, untouched, self._kind(*ends)
            self._same[ends] = self._first.setdefault(kind, ends)
        return self._same[ends]

    def _kind(self, before: int, after: int, last: int) -> tuple[object, ...]:
        """What groups have in common whose rings are equal: what kernels and allocations are, and how they go
        together, with numbers that count from 0 in each group. Kernels outside have none."""
        members = bits(after & ~before)
        own = {kernel: k for k, kernel in enumerate(members)}
        number: dict[int, int] = {}
        found: list[object] = [own[last]]
        for kernel in members:
            kind, makers, touched = self._kernel(kernel)
            found += (kind, tuple([own.get(maker, -1) for maker in makers]))
            found.append(tuple([number.setdefault(allocation, len(number)) for allocation in touched]))
        model, merges = self.space.model, self.space.shared.merges
        for allocation in number:
            what = model.allocations[allocation]
            alive = [
                bool(what.from_start or what.writers & done) and bool(what.to_end or what.users & ~done)
                for done in (before, after)
            ]
            found += (self._allocation(allocation), *alive, own.get(merges.get(allocation, -1), -1))
        order = [own[kernel] for kernel in sorted(members, key=self._position.__getitem__)]
        return (tuple(found), tuple(order), tuple([number[allocation] for allocation in sorted(number)]))

    @cached_property
    def _position(self) -> dict[int, int]:
        return {kernel: at for at, kernel in enumerate(self.space.order)}

    def _kernel(self, index: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """The kind of a kernel, the kernels whose rows it needs, and the allocations it has to do with."""
        if index not in self._kernels:
            rows, alone = self.space.rows.kernels[index], self.space.rows.alone[index]
            kernel, request = self.space.model.kernels[index], self.space.request
            reads = (read.allocation for each in (rows, alone) for read in each.reads)
            over = (allocation for allocation, _, _ in kernel.over)
            touched = tuple(dict.fromkeys((*kernel.outputs, *kernel.allocations, *reads, *over)))
            place = {allocation: k for k, allocation in enumerate(touched)}
            what = (
                _content(rows, place),
                _content(alone, place),
                tuple(place[allocation] for allocation in kernel.outputs),
                tuple(place[allocation] for allocation in kernel.allocations),
                tuple((place[allocation], *distances) for allocation, *distances in kernel.over),
                (kernel.scratch, kernel.at_once, kernel.alone),
                (kernel.node in request.ordered, request.runs_backward(kernel.node)),
            )
            makers = tuple(maker for maker, _ in rows.needs)
            self._kernels[index] = self._number(what), makers, touched
        return self._kernels[index]

    def _allocation(self, index: int) -> int:
        """The kind of an allocation."""
        if index not in self._allocations:
            own, rows = self.space.model.allocations[index], self.space.rows.allocations[index]
            bounds = own.size, own.bytes, own.align, own.external, own.from_start, own.to_end
            shape = rows.height, rows.line, rows.pixel, rows.ring, rows.members
            self._allocations[index] = self._number((bounds, shape))
        return self._allocations[index]

    def _number(self, kind: object) -> int:
        return self._kinds.setdefault(kind, len(self._kinds))


def _content(rows: KernelRows, place: Mapping[int, int]) -> tuple[object, ...]:
    """All that the rows of a kernel are, with places of allocations among those it has to do with."""
    reads = tuple(_read(read, place[read.allocation]) for read in rows.reads)
    results = tuple((place[allocation], start, end) for allocation, start, end in rows.results)
    counts = tuple(tuple(counts) for _, counts in rows.needs)
    return rows.steps, counts, reads, rows.start.tobytes(), rows.end.tobytes(), rows.accumulates, results


def _read(read: Read, place: int) -> tuple[object, ...]:
    rows = (values.tobytes() for values in (read.own, read.low, read.line))
    return place, *rows, read.reach, read.elementwise
