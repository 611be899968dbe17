# SPDX-License-Identifier: Apache-2.0
"""A bound over all layouts and all groups of a graph, however large it is and however much it moves elements.

Let what moves elements (Concats, Slices, Transposes, Reshapes) cost nothing and have no bytes. A plan of any
layout is a path of groups here, and no group of that path needs more bytes than the plan's own group, for
three reasons.

*The same groups.* A movement that a layout leaves without code runs here in the first group that reads it; or
as soon as all that it moves is there already. Where it has code, a group may end with it.

*The same moments.* The steps of a group come in the same order, but for a Concat between the nodes of its
group. As code it asks for its operands row by row; as a view it passes on what its reader asks for. Where
that makes a difference both schedules are looked at, and the smaller figure counts.

*No more bytes.* At every moment the rows of a piece from the oldest that somebody surely needs to the newest
made are somewhere: in a buffer of their own, in a Concat's, copied, or some in each. No two hold the same
byte, but for the row being made: it may lie over what its step reads for the last time, as far as that is
read before it is written (`overlap.reach`); and with rows from the last to the first only element by element.

Where columns may be computed twice, a group of several nodes may run in column strips instead. Then it holds
all that is seen outside, and of what only its nodes see as little as one likes.

Paths are taken up in the order of their largest group, so the first that is complete has the least; where
that takes too long, the least path not yet complete is a bound as well.

A node is *free* after a set of others if all that it reads is there, if alone it needs no more than was
needed before, and if at each of its steps the rows that it has still to make are no more bytes than those
that die with the rows it has still to read. It is then the only one looked at: take any path on from there,
and let the node run first instead. Until its own group, what it made lies where what it read lay; in its
group, at every moment, the rows that were still to be made lie where those lay that were still to be read; a
group in strips had all that was read for all its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.splits import largest_split
from mmcc.planner.bounds.value_groups import ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
from mmcc.planner.bounds.value_sets import ValueSets, ValueStep
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.request import PlanRequest

MOST_GROUPS = 30_000  # looked at, of up to GROUP_OF nodes; one of more counts as several,
UNSEEN = 1 / 16  # and as so many one of which only what is seen outside was looked at
GROUP_OF = 40
MOST_CHECKS = 4_000_000  # of a set of finished nodes with a node that a group might end with


def value_bound(graph: Graph, request: PlanRequest, most: int, spans: Spans, floor: int = 0) -> int:
    """Bytes that no plan is below, in any layout; `most + 1` if that is more than `most`.

    That no plan is below `floor` is known already: all that needs less is as good as what needs that.
    """
    found = _Search(ValueRows(graph, request, spans), most, request.budget).run(floor)
    return -(-found // request.align) * request.align


@dataclass(slots=True)
class _Set:
    """A set of finished nodes, and the groups that may run next which are still to be looked at."""

    done: int
    steps: Iterator[ValueStep] | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """A group after a set of finished nodes, of which only what is seen outside was looked at."""

    done: int
    step: ValueStep


class _Search:
    """Sets and groups, least bytes first. What may follow a set is looked at until there is a path on that
    needs no more, and the rest when that has led nowhere; what is inside a group only when what is seen of
    it outside is not too much."""

    def __init__(self, rows: ValueRows, most: int, budget: float) -> None:
        self._rows, self._groups, self._most = rows, ValueGroups(rows), most
        self._sets = ValueSets(self._groups, largest_split(rows))
        self._count = len(rows.reads)
        self._heap: list[tuple[int, int, int, _Set | _Group]] = []
        self._best: dict[int, int] = {}  # by set, the largest group until then
        self._settled: set[int] = set()
        self._tick = count()
        self._looked_at, self._checks = 0.0, 0
        self._most_groups, self._most_checks = MOST_GROUPS * budget, MOST_CHECKS * budget

    def run(self, floor: int) -> int:
        """What the largest group of a path needs at least, as far as is known; `floor` if that is more."""
        start = self._sets.start()
        first = max(self._sets.bytes(start), self._groups.floor, floor)
        self._push(first, start, _Set(start))
        while self._heap:
            value, _, _, item = heappop(self._heap)
            if value > self._most or (isinstance(item, _Set) and item.done == self._sets.all):
                return min(value, self._most + 1)
            if self._looked_at > self._most_groups or self._checks > self._most_checks:
                return value
            if isinstance(item, _Group):
                self._look(value, item.done, item.step)
            else:
                self._advance(value, item)
        return self._most + 1

    def _push(self, value: int, done: int, item: _Set | _Group) -> None:
        heappush(self._heap, (value, -done.bit_count(), next(self._tick), item))

    def _advance(self, value: int, item: _Set) -> None:
        """Go on with what may follow a set."""
        if item.steps is None:
            if item.done in self._settled:
                return
            self._settled.add(item.done)
            free = self._sets.free(item.done, value)
            if free is not None:
                self._reach(value, free.after)
                return
            self._checks += self._count - item.done.bit_count()
            item.steps = self._sets.steps(item.done, self._most)
        for step in item.steps:
            outside = self._sets.outside(item.done, step)
            if outside > value:
                self._looked_at += UNSEEN
                if outside < self._best.get(step.after, self._most + 1):
                    self._push(outside, step.after, _Group(item.done, step))
            elif self._look(value, item.done, step):
                self._push(value, item.done, item)
                return

    def _look(self, value: int, done: int, step: ValueStep) -> bool:
        """Reach what comes after a group; true if that needs no more."""
        if step.after in self._settled:
            return False
        if step.members and self._groups.too_long(step.last, step.members, self._most):
            return False
        self._looked_at += 1 + step.members.bit_count() // GROUP_OF
        return self._reach(max(value, self._sets.least(done, step)), step.after) <= value

    def _reach(self, value: int, after: int) -> int:
        """Take up a set, if it has not been reached with less; what it was reached with."""
        if value < self._best.get(after, self._most + 1):
            self._best[after] = value
            self._push(value, after, _Set(after))
        return value
