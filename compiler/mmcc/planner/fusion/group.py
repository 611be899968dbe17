# SPDX-License-Identifier: Apache-2.0
"""What one group holds while it runs: whole tensors that come, go and stay, rings, accumulators, scratch.

All of it is alive in one step. But an input is given up row by row and an output grows row by row, so each
pair of things has a distance: how far one must start above the other for no byte to be needed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.plan import BufferKind
from mmcc.planner.fusion.rows import Read, Rows
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.fusion.strips import Cut
from mmcc.planner.fusion.timeline import Timeline, first_needed, ring_depth
from mmcc.planner.memory.allocations import MemoryModel, bits
from mmcc.planner.memory.placement import cover
from mmcc.planner.request import PlanRequest
from mmcc.planner.streaming.blocks import ALIGN, Load, aligned

NEVER = 2**62
SAMPLES = 64  # moments of a group at which its bytes are counted first
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """A unit that fills a store, and the bytes of it that each of its steps writes.

    `spread` if its rows lie in another's, further apart than its own pixels: `Read.reach` says nothing then.
    """

    unit: int
    start: Ints
    end: Ints
    spread: bool

    def reached(self, steps: slice | Ints, reach: int) -> Ints:
        """The end of what may be written of a row while what `reach` says is still to be read."""
        end = self.end[steps]
        return end if self.spread else np.minimum(self.start[steps] + reach, end)


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """Times from which and to which each row of a store is held; in order, and apart from each other."""

    begin: Ints
    end: Ints

    def holds(self, at: Ints) -> NDArray[np.bool_]:
        """At each time, whether the store holds a row."""
        row = np.searchsorted(self.begin, at, side="right") - 1
        return (row >= 0) & (self.end[row] >= at)

    def meets(self, other: Lives) -> bool:
        """True if both hold a row at some time."""
        row = np.searchsorted(other.begin, self.end, side="right") - 1
        return bool(((row >= 0) & (other.end[row] >= self.begin)).any())


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Bytes that roots share: `roots[0]` is the one they lie in, the others are computed in place of it."""

    roots: tuple[int, ...]
    writers: tuple[Writer, ...]
    reads: tuple[tuple[int, Read], ...]  # by units of the group
    size: int
    depth: int  # rows, if it is a ring; 0 if it is whole
    line: int  # bytes of a row
    lives: Lives | None  # where it is one row: it is free between a row's last use and the next row

    @property
    def root(self) -> int:
        return self.roots[0]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that has bytes of its own while the group runs.

    `root` is -1 for scratch, accumulators and constants, which belong to `unit` (-1: any unit of the group;
    slots that constants come to by turns are -1 and -2).
    """

    root: int
    unit: int
    size: int
    align: int
    kind: BufferKind = BufferKind.SCRATCH


@dataclass(frozen=True, slots=True)
class Apart:
    """Item `upper` may start `distance` above `lower` or more; that is less than the size of `lower`.

    Or, if the group makes its rows from the last to the first, `lower` may start `backward` above `upper`.
    """

    lower: int
    upper: int
    distance: int
    backward: int | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What does not change from group to group."""

    model: MemoryModel
    rows: Rows
    request: PlanRequest
    merges: dict[int, int]  # a root that may lie in the output of the one unit that reads it

    def bytes(self, mask: int) -> int:
        """Bytes of a set of roots."""
        return sum(self.model.roots[root].size for root in bits(mask))

    def alive(self, done: int) -> int:
        """Roots that hold something after the units in `done`."""
        mask = 0
        for k, root in enumerate(self.model.roots):
            begun = root.from_start or root.writers & done
            if begun and (root.to_end or root.users & ~done):
                mask |= 1 << k
        return mask


def mergeable(model: MemoryModel, rows: Rows) -> dict[int, int]:
    """Roots that their only reader reads element by element, so that it may write over them.

    Of several operands of one unit it is the one made last.
    """
    found: dict[int, int] = {}
    taken: dict[int, int] = {}
    for reader, unit in enumerate(rows.units):
        for read in unit.reads:
            root = model.roots[read.root]
            own = [w for w in bits(root.writers) if w != reader]
            alone = len(own) == 1 and root.users == root.writers | 1 << reader
            if not read.elementwise or not alone or root.from_start or root.to_end or root.external:
                continue
            if model.roots[unit_root(model, reader)].external:
                continue  # the caller's, or in no memory at all
            if rows.units[own[0]].steps != unit.steps or rows.roots[read.root].members > 1:
                continue
            if taken.get(reader, -1) < own[0]:
                found = {r: c for r, c in found.items() if c != reader} | {read.root: reader}
                taken[reader] = own[0]
    return found


def unit_root(model: MemoryModel, unit: int) -> int:
    """The root that a unit writes."""
    return model.units[unit].output


class Footprint:
    """One group: units `members` (a mask), the last of them, and what is alive before and after it."""

    def __init__(
        self,
        shared: Shared,
        line: Timeline,
        members: int,
        before: int,
        after: int,
        completed: tuple[int, ...] = (),
        cut: Cut | None = None,
        load: Load | None = None,
    ) -> None:
        self._shared, self._line, self.completed, self.cut = shared, line, completed, cut
        self.load = load
        self._members = bits(members)
        self._rows = shared.rows.units if len(self._members) > 1 else shared.rows.alone
        self._mask = members
        self.crossing = before & after
        self._dying, self._born = before & ~after, after & ~before
        self.last = line.last

    @property
    def units(self) -> list[int]:
        """The group's units."""
        return self._members

    @cached_property
    def inside(self) -> int:
        """Roots that nobody outside sees."""
        touched = 0
        for unit in self._members:
            for root in self._shared.model.units[unit].roots:
                touched |= 1 << root
        return touched & ~self.crossing & ~self._dying & ~self._born

    @property
    def held(self) -> int:
        """Roots that have bytes at some time while the group runs."""
        return self.crossing | self._dying | self._born | self.inside

    @cached_property
    def merged(self) -> dict[int, int]:
        """Roots inside that lie in the output of their reader."""
        model, found = self._shared.model, dict[int, int]()
        for root, reader in self._shared.merges.items():
            if self.inside >> root & 1 and self._mask >> reader & 1 and not self._keeps_place(reader):
                found[root] = unit_root(model, reader)
        return found

    def _keeps_place(self, reader: int) -> bool:
        """True if the reader had better be written over something that dies."""
        reads = self._rows[reader].reads
        return any(read.elementwise and self._dying >> read.root & 1 for read in reads)

    @cached_property
    def stores(self) -> tuple[Store, ...]:
        """Everything but what merely stays: dying, born and inside."""
        members: dict[int, list[int]] = {}
        for root in bits(self._dying | self._born | self.inside):
            top = root
            while top in self.merged:
                top = self.merged[top]
            members.setdefault(top, []).append(root)
        found = (self._store(top, roots) for top, roots in members.items() if self._has_bytes(top))
        return tuple(found) if self.cut is None else tuple(self._narrow(store, self.cut) for store in found)

    def _narrow(self, store: Store, cut: Cut) -> Store:
        """A ring of a group in strips holds the columns of the widest."""
        if not self.inside >> store.root & 1:
            return store
        shape, align = self._shared.rows.roots[store.root], self._shared.model.roots[store.root].align
        width = max(cut.width(writer.unit) for writer in store.writers)
        size = (store.depth or shape.height) * width * shape.pixel
        return replace(store, size=-(-size // align) * align, line=width * shape.pixel)

    def _has_bytes(self, root: int) -> bool:
        return self._shared.model.roots[root].size > 0

    def _store(self, top: int, roots: list[int]) -> Store:
        """Where nobody outside sees it, it is the same in every group with this walk."""
        ordered = (top, *(root for root in roots if root != top))
        if not self.inside >> top & 1:
            return self._make_store(ordered)
        found = self._line.stores.get(ordered)
        if found is None:
            found = self._line.stores[ordered] = self._make_store(ordered)
        assert isinstance(found, Store)
        return found

    def _make_store(self, roots: tuple[int, ...]) -> Store:
        model, top = self._shared.model, roots[0]
        writers: list[Writer] = []
        reads: list[tuple[int, Read]] = []
        for root in roots:
            for unit in bits(model.roots[root].users & self._mask):
                if unit_root(model, unit) == root:
                    own, place = self._rows[unit], self._rows[self._lies_in(unit, top)]
                    spread = place.end[0] - place.start[0] > own.end[0] - own.start[0]
                    writers.append(Writer(unit, place.start, place.end, bool(spread)))
                reads += [(unit, read) for read in self._rows[unit].reads if read.root == root]
        depth, shape = 0, self._shared.rows.roots[top]
        if self.inside >> top & 1 and shape.ring:
            units = [writer.unit for writer in writers]
            depth = ring_depth(self._line, units, reads, shape.height)
            depth = 0 if depth == shape.height else depth
        size = depth * shape.line if depth else model.roots[top].bytes
        size = -(-size // model.roots[top].align) * model.roots[top].align
        lives = self._lives(writers, reads) if depth == 1 else None
        return Store(roots, tuple(writers), tuple(reads), size, depth, shape.line, lives)

    def _lives(self, writers: Sequence[Writer], reads: Sequence[tuple[int, Read]]) -> Lives:
        """When the rows of a ring of one row are in use; every writer makes every row."""
        times = [self._line.times.get(writer.unit, NONE) for writer in writers]
        rows = min(map(len, times))
        begin = np.min([at[:rows] for at in times], axis=0)
        end = np.max([at[:rows] for at in times], axis=0)
        for unit, read in reads:
            at = self._line.times.get(unit, NONE)
            last = np.searchsorted(read.line[: len(at)], np.arange(rows), side="right") - 1
            end = np.where(last >= 0, np.maximum(end, at[np.maximum(last, 0)]), end) if len(at) else end
        return Lives(begin, end)

    def _lies_in(self, unit: int, top: int) -> int:
        """The unit whose output a unit's output lies in: its own, or that of a reader it is merged into."""
        root = unit_root(self._shared.model, unit)
        while root != top:
            unit = self._shared.merges[root]
            root = unit_root(self._shared.model, unit)
        return unit

    @cached_property
    def scratch(self) -> int:
        """Bytes that kernels of the group work in, one call after another."""
        return max((self._shared.model.units[unit].scratch for unit in self._members), default=0)

    @cached_property
    def accumulators(self) -> tuple[int, ...]:
        """Units that keep a sum from step to step; alone, a unit needs none."""
        if len(self._members) == 1:
            return ()
        return tuple(u for u in self._members if self._rows[u].accumulates)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """For each store the times from which and to which its bytes matter."""
        return tuple(self._span(store) for store in self.stores)

    def _span(self, store: Store) -> tuple[int, int]:
        if self._dying >> store.root & 1:
            first = -1
        else:
            first = min((self._at(w.unit, 0) for w in store.writers), default=-1)
        if self._born >> store.root & 1:
            return first, NEVER
        ends = [self._at(unit, -1) for unit, _ in store.reads] + [self._at(w.unit, -1) for w in store.writers]
        return first, max(ends, default=first)

    def _at(self, unit: int, step: int) -> int:
        times = self._line.times.get(unit)
        if times is None or not len(times):
            return -1
        return int(times[step])

    @cached_property
    def inner(self) -> int:
        """Most bytes of rings that are alive together; a group with more units before these has them too."""
        return self._together_at_most(self.inside)

    def _together_at_most(self, roots: int) -> int:
        """Most bytes alive at one time of the stores of some roots, but for rings of one row."""
        some = [
            (span, store.size)
            for store, span in zip(self.stores, self.spans, strict=True)
            if roots >> store.root & 1 and store.lives is None
        ]
        return max((sum(size for (lo, hi), size in some if lo <= at <= hi) for (at, _), _ in some), default=0)

    @property
    def outside(self) -> int:
        """Bytes of everything that is seen outside the group, none of it shared."""
        return self._stay + sum(s.size for s in self.stores if not self.inside >> s.root & 1)

    @cached_property
    def least(self) -> int:
        """Bytes that the group needs at least, wherever things are placed; looks at some moments only.

        At a moment, of what dies the bytes from the first that is still to be read are held, of what grows
        those up to the last that is written, of anything else all or none. No two things hold the same byte:
        `_distance` is, for each pair, at least what both hold at any moment when one is above the other.
        """
        if len(self._members) == 1:
            return self._rounded(self._stay + self._alone)
        if self.cut is not None:
            return self._rounded(self._stay + self._in_strips)
        ends = [time for span in self.spans for time in span if 0 <= time < NEVER]
        every = self._moments()
        some = every[:: max(1, len(every) // SAMPLES)]
        at = np.unique(np.concatenate((self._line.times[self.last], ends, some)).astype(np.int64))
        return self._rounded(self._most(at))

    def _rounded(self, size: int) -> int:
        """What a placement that needs so much takes: offsets and sizes are multiples of the alignment."""
        align = self._shared.request.align
        return -(-size // align) * align

    @property
    def _in_strips(self) -> int:
        """Bytes beside what stays; what a strip is done with, the next one needs again."""
        short = [(s.lives, s.size) for s in self.stores if s.lives is not None]
        total = sum(s.size for s in self.stores if s.lives is None)
        if not short:
            return total
        at = np.concatenate([lives.begin for lives, _ in short])
        held = np.zeros(len(at), np.int64)
        for lives, size in short:
            held[lives.holds(at)] += size
        return total + int(held.max())

    @cached_property
    def tight(self) -> int:
        """The same, looking at all moments and at what cannot be between an output and an input."""
        if len(self._members) == 1 or self.cut is not None:
            return self.least
        return self._rounded(max(self.least, self._most(self._moments()), self._stay + self._between()))

    @cached_property
    def _stay(self) -> int:
        return self._shared.bytes(self.crossing) + self.scratch + (self.load.bytes if self.load else 0)

    def _moments(self) -> Ints:
        """The times of all steps of the group."""
        return np.sort(np.concatenate([self._line.times.get(unit, NONE) for unit in self._members]))

    def _most(self, at: Ints) -> int:
        """Most bytes that hold something at some moments and at the end."""
        at = np.append(at, NEVER)
        total = np.full(len(at), self._stay, np.int64)
        for store, span in zip(self.stores, self.spans, strict=True):
            total += self._bytes_at(store, span, at)
        for unit in self.accumulators:
            first, until = self._at(unit, 0), self._at(unit, -1)
            total[(at >= first) & (at <= until)] += self._rows[unit].accumulates
        return int(total.max())

    def _bytes_at(self, store: Store, span: tuple[int, int], at: Ints) -> Ints:
        """Bytes of a store that hold something at some moments."""
        if self._dying >> store.root & 1 and not store.writers:
            return store.size - first_needed(self._line, store.reads, at, store.size)
        if self._born >> store.root & 1:
            return self._grown(store, at)
        held = store.lives.holds(at) if store.lives is not None else (at >= span[0]) & (at <= span[1])
        return held * np.int64(store.size)

    def _between(self) -> int:
        """Bytes that an output, an input and things that are all alive together need.

        Whatever is between the output below and the input above starts so far above the output's start,
        and ends so far below the input's end; whatever is outside them adds all its bytes. So a set of
        things needs its bytes, and the least of those first distances and the least of the second; or, if
        nothing is between them, what the two need alone. Each distance counts on its own in any case. (If
        the input is below the output, what is below the input or above the output adds up to as much.)
        """
        items, apart = self.items
        distance = {(pair.lower, pair.upper): pair.distance for pair in apart}
        born = [k for k, i in enumerate(items) if i.root >= 0 and self._born >> i.root & 1]
        dying = [k for k, i in enumerate(items) if i.root >= 0 and self._dying >> i.root & 1]
        most = 0
        for rest in self._together([k for k in range(len(items)) if k not in born and k not in dying]):
            most = max(most, sum(items[k].size for k in rest))
            for out, into in product(born or [None], dying or [None]):
                most = max(most, _stacked(items, distance, out, into, rest))
        return most - self.scratch - (self.load.bytes if self.load else 0)

    def _together(self, things: Sequence[int]) -> list[list[int]]:
        """Sets of things of which no two may share a byte: what is always alive, and rings at one time."""
        apart = self.items[1]
        free = {frozenset((pair.lower, pair.upper)) for pair in apart if pair.distance <= 0}
        always = [k for k in things if not any(k in pair and pair <= set(things) for pair in free)]
        short = [k for k in things if k not in always]
        stores = [k for k in short if k < len(self.stores)]
        if not stores:
            return [always]
        times = np.unique(np.concatenate([self._begins(k) for k in stores]))
        sets = np.unique([self._alive(k, times) for k in stores], axis=1)
        return [[*always, *(stores[k] for k in np.flatnonzero(some))] for some in sets.T]

    def _begins(self, store: int) -> Ints:
        lives = self.stores[store].lives
        return np.array([self.spans[store][0]]) if lives is None else lives.begin

    def _alive(self, store: int, at: Ints) -> NDArray[np.bool_]:
        lives, (first, until) = self.stores[store].lives, self.spans[store]
        return (at >= first) & (at <= until) if lives is None else lives.holds(at)

    def _grown(self, store: Store, at: Ints) -> Ints:
        """At each time, the end of what is written or being written."""
        high = np.zeros(len(at), np.int64)
        for writer in store.writers:
            times = self._line.times.get(writer.unit, NONE)
            done = np.searchsorted(times, at)
            high = np.maximum(high, np.concatenate(([0], writer.end))[done])
            now = np.flatnonzero(np.append(times, -1)[done] == at)
            if self._line.atomic >> writer.unit & 1:
                whole = writer.end[np.searchsorted(times, times[done[now]], side="right") - 1]
                high[now] = np.maximum(high[now], whole)
                continue
            steps = done[now]
            high[now] = np.maximum(high[now], writer.reached(steps, self._reach(writer.unit)))
        return np.where(at == NEVER, store.size, high)

    def _reach(self, unit: int) -> int:
        """Least bytes of its row that a unit must have room for beside those of the row's inputs that die."""
        ways = [read.reach for read in self._rows[unit].reads if self._dying >> read.root & 1]
        return min(ways, default=NEVER // 2)

    @cached_property
    def _alone(self) -> int:
        """Bytes of the output and what dies under it, for a group of one unit; rows may run backward.

        No plan with every node alone is below it: a distance is the lesser of that by steps, as in larger
        groups, and of that by rows (`Unit.over`); and each input that dies may lie backward, although a
        placement has that only where no other dies.
        """
        items, apart = self.items
        out = next(
            (k for k, item in enumerate(items) if item.root == unit_root(self._model, self.last)), None
        )
        stores = {k: item for k, item in enumerate(items) if item.root >= 0}
        if out is None:
            return sum(item.size for item in stores.values())
        size, steps = stores.pop(out).size, {pair.upper: pair.distance for pair in apart if pair.lower == out}
        rows = {root: (ahead, back) for root, ahead, back in self._model.units[self.last].over}
        dying: list[tuple[int, int, int | None]] = []
        for k, item in stores.items():
            ahead, back = rows.get(item.root, (size, None))
            dying.append((min(steps.get(k, size), ahead), item.size, None if self._line.atomic else back))
        return cover(size, dying)

    @property
    def _model(self) -> MemoryModel:
        return self._shared.model

    @cached_property
    def items(self) -> tuple[tuple[Item, ...], tuple[Apart, ...]]:
        """Everything with bytes that does not merely stay, and which pairs of it may share some."""
        model, align = self._shared.model, self._shared.request.align
        items = [Item(s.root, -1, s.size, model.roots[s.root].align) for s in self.stores]
        spans = list(self.spans)
        for unit in self.accumulators:
            size = -(-self._rows[unit].accumulates // align) * align
            items.append(Item(-1, unit, size, max(4, align)))
            spans.append((self._at(unit, 0), self._at(unit, -1)))
        pairs: list[Apart] = []
        for a in range(len(items)):
            for b in range(len(items)):
                if a != b:
                    step = min(
                        items[a].align, items[b].align
                    )  # what two offsets differ by is a multiple of it
                    distance = max(self._distance(items, spans, a, b), -items[b].size)
                    distance = min(-(-distance // step) * step, items[a].size)
                    back = self._backward(items, a, b)
                    if distance < items[a].size or (back is not None and back < items[b].size):
                        pairs.append(Apart(a, b, distance, back))
        if self.scratch:
            items.append(Item(-1, -1, self.scratch, align))
        return (*items, *self._constants()), tuple(pairs)

    def _constants(self) -> Iterator[Item]:
        """Constants that stay while the group runs, and slots for those that come and go."""
        if self.load is not None:
            for unit, blocks in self.load.resident:
                yield Item(-1, unit, aligned(blocks.bytes), ALIGN, BufferKind.STAGED)
            for slot in (-1, -2)[: self.load.slots] if self.load.streamed else ():
                yield Item(-1, slot, self.load.slot, ALIGN, BufferKind.STAGED)

    def _distance(
        self, items: Sequence[Item], spans: Sequence[tuple[int, int]], lower: int, upper: int
    ) -> int:
        """How far above item `lower` item `upper` must start, if it starts above.

        Enough that at no moment both hold the same byte (see `least`): what grows has been written so far,
        what dies is read from there on, and within a step as `Read.reach` says. Two things that die are both
        whole before the group begins, so nothing that this group does lets them share a byte.
        """
        (first, _), (_, until) = spans[lower], spans[upper]
        lower_root, upper_root = items[lower].root, items[upper].root
        if min(lower_root, upper_root) >= 0 and self._dying >> lower_root & self._dying >> upper_root & 1:
            return items[lower].size
        if self._take_turns(lower, upper) or (until < first and self.cut is None):
            return -NEVER  # one is gone before the other begins
        grows = lower_root >= 0 and self._born >> lower_root & 1 and self.cut is None
        shrinks = upper_root >= 0 and self._dying >> upper_root & 1 and self.cut is None
        shrinks = shrinks and not self.stores[upper].writers
        if grows and shrinks:
            return self._over(self.stores[lower], self.stores[upper])
        if grows:
            return self._grown_by(self.stores[lower], until)
        if shrinks:
            store = self.stores[upper]
            low = first_needed(self._line, store.reads, np.array([first]), store.size)
            return items[lower].size - int(low[0])
        return items[lower].size

    def _take_turns(self, one: int, other: int) -> bool:
        """True for two rings of one row that never hold one at the same time."""
        if max(one, other) >= len(self.stores):
            return False
        lives, others = self.stores[one].lives, self.stores[other].lives
        return lives is not None and others is not None and not lives.meets(others)

    def _grown_by(self, store: Store, until: int) -> int:
        """The end of what has been written up to a time."""
        if until >= NEVER:
            return store.size
        ends = [0]
        for writer in store.writers:
            done = int(self._line.done(writer.unit, np.array([until + 1]))[0])
            ends += [int(writer.end[done - 1])] if done else []
        return max(ends)

    def _over(self, out: Store, into: Store) -> int:
        """The distance of an output from an input that dies row by row."""
        most = -NEVER
        for writer in out.writers:
            at = self._line.times.get(writer.unit, NONE)
            steps = len(at)
            own = [read for unit, read in into.reads if unit == writer.unit]
            rest = [(unit, read) for unit, read in into.reads if unit != writer.unit]
            after = first_needed(self._line, rest, at, into.size)
            if self._line.atomic >> writer.unit & 1:
                for read in own:
                    after = np.minimum(after, read.low[np.searchsorted(at, at)])
                whole = writer.end[np.searchsorted(at, at, side="right") - 1]
                most = max(most, int((whole - after).max()))
                continue
            for read in own:
                count = min(steps, len(read.own))  # a batched unit may be called more often than it has rows
                after = np.minimum(after, np.append(read.low[1:count], into.size))
                reached = writer.reached(slice(steps), read.reach)
                most = max(most, int((reached - read.own[:steps]).max()))
            most = max(most, int((writer.end[:steps] - after).max()))
        return most

    def _backward(self, items: Sequence[Item], lower: int, upper: int) -> int | None:
        """The distance for rows made from the last to the first; only where the group is one unit.

        The output is then above the one thing that dies; of two, one could be used forward and one backward.
        """
        unit, root = self._model.units[self.last], items[upper].root
        if len(self._members) > 1 or self._line.atomic or items[lower].root != unit.output:
            return None
        if root < 0 or self._dying != 1 << root or self._dying >> unit.output & 1:
            return None
        return next((back for other, _, back in unit.over if other == root), None)


def _stacked(
    items: Sequence[Item],
    distance: Mapping[tuple[int, int], int],
    out: int | None,
    into: int | None,
    rest: Sequence[int],
) -> int:
    """Bytes of an output, an input and things between them of which no two share a byte."""
    head, tail, pair = dict.fromkeys(rest, 0), dict.fromkeys(rest, 0), 0
    if out is not None:
        head = {k: max(0, distance.get((out, k), items[out].size)) for k in rest}
    if into is not None:
        room = {k: distance.get((k, into), items[k].size) - items[k].size for k in rest}
        tail = {k: max(0, items[into].size + room[k]) for k in rest}
    if out is not None and into is not None:
        pair = max(0, distance.get((out, into), items[out].size) + items[into].size)
    most = 0
    for a in set(head.values()):
        for b in set(tail.values()):
            size = sum(items[k].size for k in rest if head[k] >= a and tail[k] >= b)
            most = max(most, size + max(min(a + b, pair), a, b) if size else 0)
    return most
