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
from mmcc.planner.bounds.value_groups import Roles, ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
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
        self._count = len(rows.reads)
        self._all = (1 << self._count) - 1
        self._long: list[list[int]] = [[] for _ in range(self._count)]  # by last node, groups too long
        self._alive: dict[int, int] = {}
        self._free_nodes = [k for k in range(self._count) if (rows.computing & ~rows.alone) >> k & 1]

    def run(self, floor: int) -> int:
        """What the largest group of a path needs at least, as far as is known; `floor` if that is more."""
        start = self._closed(0)
        first = max(self._groups.bytes(self._alive_after(start)), self._groups.floor, floor)
        heap, best, settled = [(first, 0, start)], {start: first}, set[int]()
        looked_at = checks = 0
        while heap:
            value, _, done = heappop(heap)
            if done == self._all or value > self._most:
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
        free = self._free(done, value)
        if free is not None:
            yield free, value
            return
        alive = self._alive_after(done)
        for last in range(self._count):
            if done >> last & 1:
                continue
            members = self._rows.feeds[last] & ~done
            if self._is_long(last, members):
                continue
            after = self._closed(done | members)
            then = self._alive_after(after)
            through = self._groups.bytes(alive & then)
            if through > self._most:
                continue
            roles = Roles(alive & then & self._groups.touched(members), alive & ~then, then & ~alive)
            yield after, max(value, through + self._groups.least(last, members, roles))

    def _free(self, done: int, value: int) -> int | None:
        """The set after a node that is free after some others."""
        alive = self._alive_after(done)
        for node in self._free_nodes:
            if done >> node & 1 or self._rows.before[node] & ~done:
                continue
            after = self._closed(done | 1 << node)
            then = self._alive_after(after)
            roles = Roles(alive & then & self._groups.touched(1 << node), alive & ~then, then & ~alive)
            if self._groups.shrinks(node, roles):
                through = self._groups.bytes(alive & then)
                if through + self._groups.least(node, 1 << node, roles) <= value:
                    return after
        return None

    def _is_long(self, last: int, members: int) -> bool:
        """True if what is inside a group needs too much, or it has a node that runs alone with others."""
        if any(not long & ~members for long in self._long[last]):
            return True
        computing = members & self._rows.computing
        if computing & self._rows.alone and computing & (computing - 1):
            return True
        long = self._groups.too_long(last, members, self._most)
        if long:
            self._long[last].append(long)
        return bool(long)

    def _closed(self, done: int) -> int:
        """A set with all movements of what it has made."""
        for node in sorted(self._rows.moves):
            if not done >> node & 1 and not self._rows.before[node] & ~done:
                done |= 1 << node
        return done

    def _alive_after(self, done: int) -> int:
        if done not in self._alive:
            self._alive[done] = self._groups.alive(done)
        return self._alive[done]
