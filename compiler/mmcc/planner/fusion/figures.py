# SPDX-License-Identifier: Apache-2.0
"""Bytes that groups need, found out once for all that are equal.

Two groups are equal if their kernels do the same to allocations of the same kind, in the same order, and what
is alive before and after is the same for them. What else there is in the graph makes no difference: a group's
schedule does not depend on what lies further back, and of what merely lives through only the bytes count.
In a deep net most groups are like one that was looked at. And a layout differs from the one before it in a
join or two: most of its groups touch neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mmcc.ir.graph import Graph
from mmcc.ops.stream import ReadRows
from mmcc.planner.fusion.footprint import Footprint
from mmcc.planner.fusion.rows import KernelRows, Read
from mmcc.planner.fusion.shared import Shared
from mmcc.planner.memory.allocations import bits

FOOTPRINT_OF = 8  # nodes of a group that take as much work as a small group does
MOMENTS_OF = 16  # all moments of a group are as much work as looking at so many: its kernels squared by this

Ends = tuple[int, int, int]  # kernels done before a group and after it, and its last kernel


@dataclass(slots=True)
class _Figures:
    """Bytes of a group (see `Footprint`), less those of what it does not touch; None if not yet known."""

    least: int | None = None
    tight: int | None = None
    inner: int | None = None
    floor: int | None = None
    drained: bool | None = None


class _Known:
    """The figures of groups, and numbers for all that groups have in common."""

    def __init__(self) -> None:
        self.figures: dict[object, _Figures] = {}
        self._numbers: dict[object, int] = {}

    def number(self, kind: object) -> int:
        return self._numbers.setdefault(kind, len(self._numbers))


_KNOWN: WeakKeyDictionary[Graph, dict[object, _Known]] = WeakKeyDictionary()


class GroupFigures:
    """The figures of the groups of one space; kept with the graph, for other layouts and requests."""

    def __init__(
        self,
        graph: Graph,
        shared: Shared,
        order: Sequence[int],
        alive: Callable[[int], int],
        look: Callable[[int, int, int], Footprint],
        floor: Callable[[Footprint], int],
    ) -> None:
        """`alive` after a set of kernels are these allocations. `look` gives the footprint of a group, and
        `floor` what that needs if strips make its rings as small as they like (`Space.floor`)."""
        self._graph, self._shared, self._alive, self._look, self._floor = graph, shared, alive, look, floor
        self._position = {kernel: at for at, kernel in enumerate(order)}
        apart = shared.request.align, shared.request.recompute > 1
        self._known = _KNOWN.setdefault(graph, {}).setdefault(apart, _Known())
        self._found: dict[Ends, tuple[_Figures, int]] = {}
        self._kinds: dict[tuple[int, int], tuple[int, tuple[int, ...], int]] = {}
        self._inner: dict[tuple[int, int], int] = {}
        self._kernels: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        self._allocations: dict[int, int] = {}
        self._own: set[object] = set()
        self._all_moments: set[int] = set()
        self._newest: tuple[Ends, Footprint] | None = None
        self._token = object()  # of groups that are like no other
        self.work = 0  # groups looked at so far, as if nothing had been known; a long one counts as several

    @property
    def looked_at(self) -> int:
        """Groups so far of which none was equal to an earlier one of this space."""
        return len(self._own)

    def least(self, before: int, after: int, last: int) -> int:
        """Bytes that a group needs at least, as far as is quickly known (`Footprint.least`)."""
        figures, beside = self._of(before, after, last)
        if figures.least is None:
            figures.least = self._footprint(before, after, last).least - beside
        return figures.least + beside

    def tight(self, before: int, after: int, last: int) -> int:
        """The same, looking at all moments (`Footprint.tight`)."""
        figures, beside = self._of(before, after, last)
        if id(figures) not in self._all_moments:
            self._all_moments.add(id(figures))
            self.work += (after & ~before).bit_count() ** 2 // MOMENTS_OF
        if figures.tight is None:
            figures.tight = self._footprint(before, after, last).tight - beside
        return figures.tight + beside

    def inner(self, near: int, after: int, last: int) -> int:
        """Bytes of rings that kernels `near` the last one hold, in all groups that have these."""
        if (near, last) not in self._inner:
            ends = after & ~near, after, last
            figures, _ = self._of(*ends)
            if figures.inner is None:
                figures.inner = self._footprint(*ends).inner
            self._inner[near, last] = figures.inner
        return self._inner[near, last]

    def floor(self, before: int, after: int, last: int) -> int:
        """What a group needs if strips can make its rings as small as they like; `least` if it cannot."""
        if self._shared.request.recompute <= 1:
            return self.least(before, after, last)
        figures, beside = self._of(before, after, last)
        if figures.floor is None:
            figures.floor = self._floor(self._footprint(before, after, last)) - beside
        return figures.floor + beside

    def touched(self, members: int, last: int) -> int:
        """The allocations, as a mask, that the kernels of a group have to do with."""
        return self._kind(members, last)[2]

    def drained(self, before: int, after: int, last: int) -> bool:
        """True if kernels of a group make the rest of their rows at its end."""
        figures, _ = self._of(before, after, last)
        if figures.drained is None:
            figures.drained = bool(self._footprint(before, after, last).group.drained)
        return figures.drained

    def _footprint(self, before: int, after: int, last: int) -> Footprint:
        """Several things are asked of one group in turn."""
        ends = before, after, last
        if self._newest is None or self._newest[0] != ends:
            self._newest = ends, self._look(*ends)
        return self._newest[1]

    def _of(self, before: int, after: int, last: int) -> tuple[_Figures, int]:
        """What is known of groups like one, and the bytes of what this one does not touch."""
        ends = before, after, last
        if ends not in self._found:
            members = after & ~before
            kind, touched, mask = self._kind(members, last)
            alive, then = self._alive(before), self._alive(after)
            states = tuple([alive >> each & 1 | (then >> each & 1) << 1 for each in touched])
            untouched = (alive ^ then) & ~mask  # what nobody touches comes or goes: like no other
            key = kind, states, (self._token, ends) if untouched else None
            if key not in self._own:
                self._own.add(key)
                self.work += 1 + members.bit_count() // FOOTPRINT_OF
            figures = self._known.figures.setdefault(key, _Figures())
            self._found[ends] = figures, self._shared.bytes(alive & then & ~mask)
        return self._found[ends]

    def _kind(self, members: int, last: int) -> tuple[int, tuple[int, ...], int]:
        """What a group has in common with others: what its kernels and allocations are, and how they go
        together, with numbers that count from 0 in each group. Kernels outside have none. And the allocations
        that it touches, as numbers and as a mask."""
        if (members, last) not in self._kinds:
            kernels = bits(members)
            own = {kernel: k for k, kernel in enumerate(kernels)}
            number: dict[int, int] = {}
            found: list[object] = [own[last]]
            for kernel in kernels:
                kind, makers, touched = self._kernel(kernel)
                found += (kind, tuple([own.get(maker, -1) for maker in makers]))
                found.append(tuple([number.setdefault(allocation, len(number)) for allocation in touched]))
            merges = self._shared.merges
            found += ((self._allocation(a), own.get(merges.get(a, -1), -1)) for a in number)
            found += (own[kernel] for kernel in sorted(kernels, key=self._position.__getitem__))
            found += (number[allocation] for allocation in sorted(number))
            mask = sum(1 << allocation for allocation in number)
            self._kinds[members, last] = self._known.number(tuple(found)), tuple(number), mask
        return self._kinds[members, last]

    def _kernel(self, index: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """The kind of a kernel, the kernels whose rows it needs, and the allocations it has to do with."""
        if index not in self._kernels:
            rows, alone = self._shared.rows.kernels[index], self._shared.rows.alone[index]
            kernel, request = self._shared.model.kernels[index], self._shared.request
            reads = (read.allocation for each in (rows, alone) for read in each.reads)
            over = (allocation for allocation, _, _ in kernel.over)
            touched = tuple(dict.fromkeys((*kernel.outputs, *kernel.allocations, *reads, *over)))
            place = {allocation: k for k, allocation in enumerate(touched)}
            op = self._graph.nodes[kernel.node].op
            what = (
                _content(rows, place),
                _content(alone, place),
                tuple(place[allocation] for allocation in kernel.outputs),
                tuple(place[allocation] for allocation in kernel.allocations),
                tuple((place[allocation], *distances) for allocation, *distances in kernel.over),
                (kernel.scratch, kernel.at_once, kernel.alone),
                (kernel.node in request.ordered, request.runs_backward(kernel.node)),
                isinstance(op, ReadRows) and not op.again,  # never in strips
            )
            makers = tuple(maker for maker, _ in rows.needs)
            self._kernels[index] = self._known.number(what), makers, touched
        return self._kernels[index]

    def _allocation(self, index: int) -> int:
        """The kind of an allocation."""
        if index not in self._allocations:
            own, rows = self._shared.model.allocations[index], self._shared.rows.allocations[index]
            bounds = own.size, own.bytes, own.align, own.external, own.from_start, own.to_end
            shape = rows.height, rows.line, rows.pixel, rows.ring, rows.members
            self._allocations[index] = self._known.number((bounds, shape))
        return self._allocations[index]


def _content(rows: KernelRows, place: Mapping[int, int]) -> tuple[object, ...]:
    """All that the rows of a kernel are, with places of allocations among those it has to do with."""
    reads = tuple(_read(read, place[read.allocation]) for read in rows.reads)
    results = tuple((place[allocation], start, end) for allocation, start, end in rows.results)
    counts = tuple(tuple(counts) for _, counts in rows.needs)
    return rows.steps, counts, reads, rows.start.tobytes(), rows.end.tobytes(), rows.accumulates, results


def _read(read: Read, place: int) -> tuple[object, ...]:
    rows = (values.tobytes() for values in (read.own, read.low, read.line))
    return place, *rows, read.reach, read.elementwise
