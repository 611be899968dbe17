# SPDX-License-Identifier: Apache-2.0
"""A bound on the predicted cost of all plans within some bytes, over all layouts and all groups of a graph.

As in `value_bound`, what moves elements has no bytes here, and a plan of any layout is a path of groups none
of which needs more than the plan's own. Nor has it a cost, but for what no layout leaves without code
(`copies`). So the cheapest path within the bytes costs no more than any plan.

In a group of several nodes that compute a node is called for each of its rows, alone once. Groups that need
too much may run in column strips, if these hold nothing but what is seen outside: in two of them at least,
each with all rows, and with the columns that both compute wherever the cut is.

A node that is *free* (`value_bound`) runs alone here, too: there it costs least, and the group that loses it
costs no more without it.

Sets of finished nodes are taken up in the order of the cost up to them and of all that is left, each node
alone. The first complete path is cheapest; where that takes too long, the cheapest that is not is a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.bound import may_be_outside
from mmcc.planner.bounds.copies import is_too_large, least_copies
from mmcc.planner.bounds.value_groups import ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
from mmcc.planner.bounds.value_sets import ValueSets, ValueStep
from mmcc.planner.caches import Caches
from mmcc.planner.cost import node_cost
from mmcc.planner.fusion.schedule import Spans, rows_of
from mmcc.planner.memory.allocations import bits
from mmcc.planner.request import PlanRequest

MOST_GROUPS = 10_000  # whose bytes are looked at, of up to GROUP_OF nodes; one of more counts as several
GROUP_OF = 40


@dataclass(frozen=True, slots=True)
class _Costs:
    """What a node costs alone, in a group of several, and in a group in column strips."""

    alone: float
    together: float
    in_strips: float


@dataclass(slots=True)
class _Path:
    """A group that may be taken after a set, at the cost of the path up to its end."""

    cost: float
    done: int
    step: ValueStep
    cut: bool  # into strips


class CostBound:
    """What no plan of groups within `limit` bytes costs less than, in any layout."""

    def __init__(self, graph: Graph, request: PlanRequest, spans: Spans, limit: int) -> None:
        rows = ValueRows(graph, request, spans)
        caches = Caches(graph, (), request.caches, spans)
        self._rows, self._limit = rows, limit
        self._costs = [self._cost(k, caches) for k in range(len(rows.reads))]
        self.moves = {k: self._costs[k].alone for k in rows.moves}  # where they have code
        external, outside = request.external(graph), may_be_outside(graph, request)
        self.copies = least_copies(graph, self.moves, external, limit, outside)
        # joins that have code in any layout, since in place they need more bytes than there are
        self.forced = frozenset(k for k in self.moves if is_too_large(graph, k, limit, outside))

    def least(self, most: float) -> float:
        """The same but for `copies`: of nodes that compute; `most` if it is no less."""
        return min(most, _Search(self._rows, self._costs, self._limit, most).run())

    def _cost(self, node: int, caches: Caches) -> _Costs:
        rows = self._rows
        made, cost = rows.graph.nodes[node], node_cost(rows.graph, rows.graph.nodes[node], rows.request.cost)
        steps, alone = rows.steps(node), 1 if made.at_once else rows_of(rows.graph, made.outputs[0])
        calls = alone if rows.request.runs_backward(node) else 1
        beyond = caches.least(node)
        return _Costs(
            cost.total(alone, calls, 1, 1.0) + beyond,
            cost.total(steps, steps, 1, 1.0) + beyond,
            cost.total(steps, steps, 2, 1.0) + beyond,
        )


class _Search:
    """The cheapest path of groups within a limit."""

    def __init__(self, rows: ValueRows, costs: Sequence[_Costs], limit: int, most: float) -> None:
        self._rows, self._costs, self._limit, self._most = rows, costs, limit, most
        self._whole, self._cut = ValueGroups(rows, strips=False), ValueGroups(rows, strips=True)
        self._sets = ValueSets(self._whole)
        self._strips = rows.request.recompute > 1
        self._ahead: dict[int, float] = {}
        self._heap: list[tuple[float, int, int, _Path]] = []
        self._tick = count()
        self._settled: set[int] = set()
        self._looked_at, self._most_groups = 0, MOST_GROUPS * rows.request.budget

    def run(self) -> float:
        """The cost of the cheapest path, or what is left to look at costs at least; the most if that is all
        more."""
        start = self._sets.start()
        if self._whole.bytes(self._sets.alive(start)) > self._limit:
            return self._most
        if start == self._sets.all:  # nothing computes
            return 0.0
        self._take_up(start, 0.0)
        while self._heap:
            key, _, _, path = heappop(self._heap)
            after = path.step.after
            if self._looked_at > self._most_groups:
                return key
            if after in self._settled:
                continue
            if not self._fits(path):
                self._in_strips(path)
            elif after == self._sets.all:
                return key
            else:
                self._take_up(after, path.cost)
        return self._most

    def _take_up(self, done: int, cost: float) -> None:
        """Offer what may run after a set."""
        self._settled.add(done)
        free = self._sets.free(done, self._limit)
        if free is not None:
            self._push(_Path(cost + self._costs[free.last].alone, done, free, cut=False))
            return
        for step in self._sets.steps(done):
            if step.after not in self._settled:
                self._push(_Path(cost + self._of(step.members), done, step, cut=False))

    def _in_strips(self, path: _Path) -> None:
        """The same group in strips, if that may be."""
        members = path.step.members & self._rows.computing
        if self._strips and not path.cut and members & (members - 1):
            more = sum(self._costs[k].in_strips - self._costs[k].together for k in bits(members))
            self._push(_Path(path.cost + more, path.done, path.step, cut=True))

    def _fits(self, path: _Path) -> bool:
        """False if a group surely needs more bytes than there are."""
        groups, done, step = self._cut if path.cut else self._whole, path.done, path.step
        through = self._sets.through(done, step)
        if through > self._limit or groups.too_long(step.last, step.members, self._limit - through):
            return False
        self._looked_at += 1 + step.members.bit_count() // GROUP_OF
        return through + groups.least(step.last, step.members, self._sets.roles(done, step)) <= self._limit

    def _push(self, path: _Path) -> None:
        key = path.cost + self._left(path.step.after)
        if key < self._most:
            heappush(self._heap, (key, -path.step.after.bit_count(), next(self._tick), path))

    def _left(self, done: int) -> float:
        """What the nodes that are not finished cost, each alone."""
        if done not in self._ahead:
            left = self._rows.computing & ~done
            self._ahead[done] = sum(self._costs[k].alone for k in bits(left))
        return self._ahead[done]

    def _of(self, members: int) -> float:
        """What a group costs that is not in strips."""
        nodes = bits(members & self._rows.computing)
        if len(nodes) == 1:
            return self._costs[nodes[0]].alone
        return sum(self._costs[k].together for k in nodes)
