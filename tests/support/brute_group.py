# SPDX-License-Identifier: Apache-2.0
"""What one group holds, and how far each two things must be apart, from its calls one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from brute_laid import Laid, bits
from mmcc.ir.nest import Span
from mmcc.ir.types import geometry

FREE = -(2**40)  # a distance that asks for nothing
BLOCK = 16  # constants are at multiples of it


@dataclass(frozen=True)
class Thing:
    """Something with bytes: its size, alignment and, within a group, when and how it is used."""

    key: Any
    size: int
    align: int


class Group:
    """One group as it runs in one layout."""

    def __init__(
        self,
        laid: Laid,
        events: Sequence[tuple[int, int]],
        mask: int,
        before: set[str],
        after: set[str],
        inside: set[str],
        merged: Mapping[str, str],
        *,
        backward: bool = True,
    ) -> None:
        """With `backward` one kernel alone may make its rows from the last to the first."""
        self.only_backward = mask.bit_count() == 1 and bool(laid.ordered.get(bits(mask)[0]))
        self.backward = self.only_backward or (backward and laid.rules.backward and mask.bit_count() == 1)
        self.laid, self.events, self.mask = laid, events, mask
        self.before, self.after, self.inside, self.merged = before, after, inside, merged
        self.last_used = before - after
        self.defined = after - before
        self._pairs: dict[tuple[Any, Any], tuple[int, int]] = {}
        self._depths: dict[str, int] = {}
        self._spans: dict[Any, tuple[int, int]] = {}

    def top(self, allocation: str) -> str:
        while allocation in self.merged:
            allocation = self.merged[allocation]
        return allocation

    @cached_property
    def things(self) -> list[Thing]:
        laid, found = self.laid, list[Thing]()
        for allocation in laid.allocations:
            if allocation in self.before | self.after and laid.size(allocation):
                found.append(Thing(allocation, laid.size(allocation), laid.align(allocation)))
            elif allocation in self.inside and allocation not in self.merged and laid.size(allocation):
                found.append(Thing(("ring", allocation), self.ring(allocation)[0], laid.align(allocation)))
        step = laid.rules.align
        several = self.mask.bit_count() > 1
        kept = {k: laid.sums[k] for k in self.summing}
        work = {k: laid.rules.scratch.get(laid.kernels[k].node, 0) for k in bits(self.mask)}
        kept |= {k: work.pop(k) for k in laid.ordered if several and k in work}
        for k, size in kept.items():
            if size:
                found.append(Thing(("kept", k), -(-size // step) * step, max(4, step)))
        most = max(work.values(), default=0)
        if most:
            found.append(Thing(("scratch", -1), -(-most // step) * step, step))
        return [*found, *self._constants()]

    def _constants(self) -> Iterator[Thing]:
        """What was read from slow memory as the group began, and stays while it runs."""
        for k in bits(self.mask):
            _, size = self.laid.rules.constants.get(self.laid.kernels[k].node, (0, 0))
            if size:
                yield Thing(("constants", k), -(-size // BLOCK) * BLOCK, BLOCK)

    @cached_property
    def summing(self) -> list[int]:
        """Kernels that take in row after row, and keep a sum meanwhile."""
        several = self.mask.bit_count() > 1
        return [k for k in bits(self.mask) if several and k in self.laid.sums]

    @cached_property
    def writes(self) -> dict[str, list[tuple[int, int, int, int]]]:
        """By allocation: time, row, first byte and end of what each call writes."""
        found: dict[str, list[tuple[int, int, int, int]]] = {r: [] for r in self.laid.allocations}
        for time, (k, row) in enumerate(self.events):
            if k in self.summing:
                if self.laid.sums[k] and row + 1 < self.laid.steps(k):
                    continue  # the result is there with the last
                row = 0
            name = self.laid.graph.nodes[self.laid.kernels[k].node].output
            allocation = self.laid.views[name].allocation
            while allocation in self.merged:
                reader = next(u for u in bits(self.laid.users[allocation] & ~self.laid.writers[allocation]))
                name = self.laid.graph.nodes[self.laid.kernels[reader].node].output
                allocation = self.laid.views[name].allocation
            view = self.laid.views[name]
            end = view.end[-1 if k in self.summing else row]  # a sum is written as a whole
            found[allocation].append((time, row, view.start[row], end))
        return found

    @cached_property
    def reads(self) -> dict[str, list[tuple[int, int, int, int, str]]]:
        """By allocation: when each call reads which rows, from and to, from which byte on, of what."""
        laid = self.laid
        found: dict[str, list[tuple[int, int, int, int, str]]] = {r: [] for r in laid.allocations}
        for time, (k, row) in enumerate(self.events):
            index = laid.kernels[k].node
            for name in laid.kernels[k].reads:
                spans = [
                    laid.step_reads(k, o, row, alone=k not in self.summing)
                    for o, n in enumerate(laid.graph.nodes[index].inputs)
                    if n == name
                ]
                some = [s for s in spans if s[1] > s[0]]
                if some:
                    low, high = min(s[0] for s in some), max(s[1] for s in some)
                    view = laid.views[name]
                    found[self.top(view.allocation)].append((time, low, high, view.start[low], name))
        return found

    def ring(self, allocation: str) -> tuple[int, bool]:
        """Bytes of a tensor inside, and whether it holds one row at a time."""
        laid, depth = self.laid, self.depth(allocation)
        whole = laid.views[allocation]
        height = len(whole.start)
        stride = whole.start[1] - whole.start[0] if height > 1 else laid.graph.tensors[allocation].bytes
        size = stride * depth if depth < height else laid.graph.tensors[allocation].bytes
        align = laid.align(allocation)
        return -(-size // align) * align, depth == 1 < height

    def depth(self, allocation: str) -> int:
        """Rows of a tensor inside that are held at once; all of them, if it can be no ring."""
        if allocation not in self._depths:
            self._depths[allocation] = self._rows_held(allocation)
        return self._depths[allocation]

    def _rows_held(self, allocation: str) -> int:
        laid = self.laid
        whole = laid.views[allocation]
        height = len(whole.start)
        stride = whole.start[1] - whole.start[0] if height > 1 else laid.graph.tensors[allocation].bytes
        same = all(
            len(v.start) == height
            and (height == 1 or v.start[1] - v.start[0] == stride)
            and v.end[0] <= stride
            for v in (laid.views[n] for n in laid.members[allocation])
        )
        if not same or any(laid.writers[allocation] >> k & 1 for k in self.summing):
            return height
        depth = 1
        for time, row, _, _ in self.writes[allocation]:
            needed = [low for at, low, *_ in self.reads[allocation] if at >= time]
            depth = max(depth, row + 1 - min([*needed, row]))
        return min(depth, height)

    def uses(self, allocation: str) -> list[tuple[int, int]]:
        """Times from and to which each row of a ring of one row is held."""
        return [
            (
                min(w[0] for w in self.writes[allocation] if w[1] == row),
                max(
                    [w[0] for w in self.writes[allocation] if w[1] == row]
                    + [r[0] for r in self.reads[allocation] if r[1] <= row < r[2]]
                ),
            )
            for row in sorted({w[1] for w in self.writes[allocation]})
        ]

    def apart(self, one: Any, other: Any) -> tuple[int, int]:
        """How far the other must be above the one, or the one above the other."""
        key = (one, other)
        if key not in self._pairs:
            up, down = self._distance(one, other), self._distance(other, one)
            self._pairs[key] = self._or_backward(one, other, up), self._or_backward(other, one, down)
        return self._pairs[key]

    def _or_backward(self, lower: Any, upper: Any, distance: int) -> int:
        """The lesser of a distance and that of rows backward: `upper` is then what one kernel makes."""
        laid = self.laid
        if not self.backward:
            return distance
        (k,) = bits(self.mask)
        out, over = laid.allocation_of(laid.kernels[k]), self._backward_over(laid.over(k))
        if len(over) != 1 or lower not in over or allocation_name(upper) != out or out in self.before:
            return distance
        return min(distance, over[lower][1])

    def _backward_over(self, over: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        return {r: d for r, d in over.items() if self.last_used == {r}}

    def _span(self, key: Any) -> tuple[int, int]:
        """Times from and to which a thing matters, as a whole."""
        if key not in self._spans:
            self._spans[key] = self._times(key)
        return self._spans[key]

    def _times(self, key: Any) -> tuple[int, int]:
        if key[0] == "kept":
            times = [time for time, (k, _) in enumerate(self.events) if k == key[1]]
            return times[0], times[-1]
        allocation = allocation_name(key)
        written = [w[0] for w in self.writes[allocation]]
        times = [*written, *(r[0] for r in self.reads[allocation])]
        first = -1 if allocation in self.last_used else min(written, default=-1)
        return first, (2**40 if allocation in self.defined else max(times, default=first))

    def _distance(self, lower: Any, upper: Any) -> int:
        size = next(t.size for t in self.things if t.key == lower)
        a, b = allocation_name(lower), allocation_name(upper)
        dies_or_grows = a in self.last_used or {a, b} <= self.defined or self.only_backward
        if (
            {"scratch", "constants"} & {lower[0], upper[0]}
            or {a, b} & self.before & self.after
            or dies_or_grows
        ):
            return size  # what dies is read to its end
        if a in self.inside and b in self.inside and self.ring(a)[1] and self.ring(b)[1]:
            together = any(lo <= top and at <= hi for lo, hi in self.uses(a) for at, top in self.uses(b))
            return size if together else FREE
        (first, _), (_, until) = self._span(lower), self._span(upper)
        if until < first:
            return FREE
        shrinks = b in self.last_used and not self.writes[b]
        end = self.laid.size(b) if shrinks else 0
        if a not in self.defined:
            gone = min([r[3] for r in self.reads[b] if r[0] >= first], default=end) if shrinks else 0
            return size - gone
        if not shrinks:
            ends = [w[3] for w in self.writes[a] if w[0] <= until]
            return size if b in self.defined else max(ends, default=0)
        most = FREE
        for time, _, start, stop in self.writes[a]:
            later = [r[3] for r in self.reads[b] if r[0] > time]
            most = max(most, stop - min(later)) if later else most
            for at, _, _, low, name in self.reads[b]:
                if at == time:
                    most = max(most, min(start + self._ahead(time, name, stop - start), stop) - low)
        return min(most, size)

    def _ahead(self, time: int, name: str, length: int) -> int:
        """How many bytes of a row a call has written at most when it still reads the first of a tensor's:
        what it has written at some moment, less how far its reading has come by then."""
        laid, (k, _) = self.laid, self.events[time]
        index = laid.kernels[k].node
        node, nest = laid.graph.nodes[index], laid.nest(index)
        own, into = laid.graph.tensors[node.output], laid.graph.tensors[name]
        view = laid.views[node.output]
        if k in self.summing or length != view.end[0] - view.start[0]:
            return length
        if not (view.dense and laid.views[name].dense):
            return length
        accesses = [(j, a) for j, a in enumerate(nest.reads) if node.inputs[a.operand] == name]
        most = 0
        for j, access in accesses:
            if nest.is_elementwise_in(j) and own.dtype.size <= into.dtype.size:
                continue  # each element is written when it was read
            count = laid.rules.pixels.get(index, 0)
            if not count or len(own.shape) < 3 or len(access.shape) < 3 or nest.axis_loop(1) is None:
                return length
            (_, cols, depth), (_, in_cols, in_depth) = geometry(own.shape), geometry(access.shape)
            for col in range(cols):  # so many pixels from this one on are made; it and all behind may be read
                spans = [nest.cols_needed(j, Span(c, c + 1)) for c in range(col, cols)]
                still = min([span.lo for span in spans if len(span)], default=in_cols)
                done = min(col + count, cols) * own.dtype.bytes(depth)
                most = max(most, done - still * into.dtype.bytes(in_depth))
        return most


class Single(Group):
    """A kernel alone where the row argument holds for whole tensors only: no groups are looked at."""

    def _backward_over(self, over: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        return {r: d for r, d in over.items() if r in self.last_used}

    def _distance(self, lower: Any, upper: Any) -> int:
        size = next(t.size for t in self.things if t.key == lower)
        (k,) = bits(self.mask)
        out = self.laid.allocation_of(self.laid.kernels[k])
        if allocation_name(lower) != out or out in self.before or upper not in self.last_used:
            return size
        return min(size, self.laid.over(k).get(upper, (size, 0))[0])


class InBlocks(Group):
    """A kernel alone whose constants come block by block: it reads its input until all is written."""

    def __init__(self, whole: Group) -> None:
        super().__init__(
            whole.laid, whole.events, whole.mask, whole.before, whole.after, whole.inside, whole.merged
        )
        self.backward = False

    def _constants(self) -> Iterator[Thing]:
        (k,) = bits(self.mask)
        size, _ = self.laid.rules.constants[self.laid.kernels[k].node]
        yield Thing(("constants", k), -(-size // BLOCK) * BLOCK, BLOCK)

    def _distance(self, lower: Any, upper: Any) -> int:
        size = next(t.size for t in self.things if t.key == lower)
        a, b = allocation_name(lower), allocation_name(upper)
        if a not in self.defined or b not in self.last_used or self.writes[b]:
            return size
        return max(w[3] for w in self.writes[a]) - min((r[3] for r in self.reads[b]), default=-FREE)


def group_of(laid: Laid, done: int, mask: int, last: int, *, backward: bool = True) -> Group:
    """What a group holds; without `backward` all rows are made from the first to the last."""
    before, after = laid.alive(done), laid.alive(done | mask)
    touched = {
        laid.views[n].allocation
        for k in bits(mask)
        for n in (*laid.kernels[k].reads, laid.graph.nodes[laid.kernels[k].node].output)
    }
    inside = touched - before - after
    single = mask == 1 << last
    events = [(last, r) for r in range(laid.height(last))] if single else laid.events(mask, last, after)
    merges = [] if single else [(r, k) for r in sorted(inside) for k in laid.mergers(r, mask, before - after)]
    taken: dict[int, tuple[str, int]] = {}
    for allocation, reader in merges:  # of several operands, the one made last
        made = max(bits(laid.writers[allocation]))
        if reader not in taken or taken[reader][1] < made:
            taken[reader] = allocation, made
    merged = {
        allocation: laid.allocation_of(laid.kernels[reader]) for reader, (allocation, _) in taken.items()
    }
    kind = Group if laid.rules.groups else Single
    return kind(laid, events, mask, before, after, inside, merged, backward=backward)


def allocation_name(key: Any) -> str:
    """The allocation of a thing, inside or not; "" for what is none."""
    return key if isinstance(key, str) else key[1] if key[0] == "ring" else ""
