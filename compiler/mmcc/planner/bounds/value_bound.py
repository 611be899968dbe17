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
byte, but for the row being made: it may lie over what its step reads for the last time.

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
from heapq import heappop, heappush

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.value_groups import ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
from mmcc.planner.bounds.value_sets import ValueSets
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.request import PlanRequest

MOST_GROUPS = 30_000  # looked at, of up to GROUP_OF nodes; one of more counts as several
GROUP_OF = 40
MOST_CHECKS = 4_000_000  # of a set of finished nodes with a node that a group might end with


def value_bound(graph: Graph, request: PlanRequest, most: int, spans: Spans, floor: int = 0) -> int:
    """Bytes that no plan is below, in any layout; `most + 1` if that is more than `most`.

    That no plan is below `floor` is known already: all that needs less is as good as what needs that.
    """
    found = _Search(ValueRows(graph, request, spans), most).run(floor)
    return -(-found // request.align) * request.align


class _Search:
    def __init__(self, rows: ValueRows, most: int) -> None:
        self._rows, self._groups, self._most = rows, ValueGroups(rows), most
        self._sets = ValueSets(self._groups)
        self._count = len(rows.reads)

    def run(self, floor: int) -> int:
        """What the largest group of a path needs at least, as far as is known; `floor` if that is more."""
        start = self._sets.closed(0)
        first = max(self._groups.bytes(self._sets.alive(start)), self._groups.floor, floor)
        heap, best, settled = [(first, 0, start)], {start: first}, set[int]()
        looked_at = checks = 0
        while heap:
            value, _, done = heappop(heap)
            if done == self._sets.all or value > self._most:
                return min(value, self._most + 1)
            if looked_at > MOST_GROUPS or checks > MOST_CHECKS:
                return value
            if done in settled:
                continue
            settled.add(done)
            checks += self._count - done.bit_count()
            for after, least in self._following(done, value):
                looked_at += 1 + (after & ~done).bit_count() // GROUP_OF
                if least < best.get(after, self._most + 1):
                    best[after] = least
                    heappush(heap, (least, -after.bit_count(), after))
        return self._most + 1

    def _following(self, done: int, value: int) -> Iterator[tuple[int, int]]:
        """The sets of finished nodes one group on, and the largest group until then."""
        free = self._sets.free(done, value)
        if free is not None:
            yield free.after, value
            return
        for step in self._sets.steps(done, self._short):
            if self._sets.through(done, step) <= self._most:
                yield step.after, max(value, self._sets.least(done, step))

    def _short(self, last: int, members: int) -> bool:
        """False if what is inside a group needs too much."""
        return not self._groups.too_long(last, members, self._most)
