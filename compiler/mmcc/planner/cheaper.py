# SPDX-License-Identifier: Apache-2.0
"""Layouts in which a plan may cost less than one that was found within a limit.

No plan costs less than the cheapest path on which moving elements costs nothing (`cost_bound`), and what its
layout moves with code. So a layout in which that is more than what was found has no plan that costs less:
only those with few copies are left. They are taken up in the order of what their copies cost, and in each
only a path that costs less than the best so far is looked for. When all of them were looked at, nothing is
cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import combinations, islice
from math import inf

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.cost_bound import CostBound
from mmcc.planner.fusion.best_first import SPLIT
from mmcc.planner.fusion.build import Placed
from mmcc.planner.fusion.lazy import LazyPaths
from mmcc.planner.fusion.paths import Paths
from mmcc.planner.layouts import Layouts
from mmcc.planner.memory.layout import Operand
from mmcc.planner.placing import Placer, cost_of
from mmcc.planner.request import PlanRequest

MOST_LAYOUTS = 64  # looked at
MOST_FOOTPRINTS = 15_000  # groups looked at in them


@dataclass(frozen=True, slots=True)
class Priced:
    """Groups in their places, what they cost, and what no plan within the limit costs less than."""

    paths: Paths
    placed: Placed
    cost: float
    least: float

    @property
    def cheapest(self) -> bool:
        """True if nothing costs less. Of two paths that cost the same one of more groups was taken."""
        return self.cost <= self.least * (1 + 1e-12) + SPLIT * len(self.placed.path)


class Cheaper:
    """Looks for plans that cost less than one that was found."""

    def __init__(self, graph: Graph, request: PlanRequest, layouts: Layouts, placer: Placer) -> None:
        self._graph, self._request, self._layouts, self._placer = graph, request, layouts, placer

    def search(self, found: Priced, limit: int) -> Priced:
        """The cheapest that is found, and what no plan of any layout costs less than.

        `found.least` is that of its own layout; 0 if that is not known.
        """
        bound = CostBound(self._graph, self._request, self._layouts.spans, limit)
        free = bound.least(found.cost - bound.copies)
        best = replace(found, least=free + bound.copies)
        if best.cheapest:
            return best
        # what no plan is below that is not known to cost as much as the best
        least = inf if found.cheapest else max(found.least, best.least)
        looked_at, seen = 0, {found.paths.space.layout.in_place}
        forced = frozenset(o for o in self._layouts.operands if o[0] in bound.forced)
        others = {k: cost for k, cost in bound.moves.items() if k not in bound.forced}
        given = sum(bound.moves[k] for k in bound.forced)
        sets = islice(_copied(others, self._layouts.operands, found.cost - free - given), MOST_LAYOUTS + 1)
        for tried, (copies, copied) in enumerate(sets):
            this = free + max(copies + given, bound.copies)
            # the first has only what all layouts copy: it may cost less even if nothing more is known of all
            if this >= best.cost or (tried and this >= least):
                break
            if tried == MOST_LAYOUTS or looked_at > MOST_FOOTPRINTS * self._request.budget:
                least = this
                break
            space = self._layouts.bare(copied | forced, self._request)
            if space.layout.in_place not in seen:
                seen.add(space.layout.in_place)
                cheaper = self._within(LazyPaths(space, limit), limit, best, this)
                looked_at += space.footprints
                least = min(least, cheaper.least)
                best = min(best, cheaper, key=lambda priced: priced.cost)
        return replace(best, least=max(free + bound.copies, min(best.cost, least)))

    def _within(self, paths: LazyPaths, limit: int, best: Priced, least: float) -> Priced:
        """The best, or a cheaper plan in another layout; and what no plan of that layout is below, which is
        `least` or more. It is infinite where they are known to cost no less than the best."""
        path = paths.cheapest(limit, self._layouts.macs, best.cost)
        if not path:
            return replace(best, least=inf if paths.exact else least)
        cost = sum(map(paths.cost, path))
        placed = self._placer.exactly(paths, path, limit)
        if placed is None:
            return replace(best, least=cost if paths.exact else least)
        made = Priced(paths, placed, cost_of(paths, placed), least)
        return made if not paths.exact else replace(made, least=inf if made.cost <= cost else cost)


def _copied(
    costs: Mapping[int, float], operands: Sequence[Operand], most: float
) -> Iterator[tuple[float, frozenset[Operand]]]:
    """What to copy: operands of nodes that cost less than `most` together, those that cost least first."""
    mine: dict[int, list[Operand]] = {}
    for operand in operands:
        if operand[0] in costs:  # else it has code in any layout
            mine.setdefault(operand[0], []).append(operand)
    nodes = sorted(mine, key=lambda node: (costs[node], node))
    waiting: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    while waiting:
        total, some = heappop(waiting)
        if total >= most:
            return
        yield from ((total, copied) for copied in _some_of([mine[nodes[k]] for k in some]))
        after = some[-1] + 1 if some else 0
        if after < len(nodes):
            heappush(waiting, (total + costs[nodes[after]], (*some, after)))
            if some:
                more = costs[nodes[after]] - costs[nodes[after - 1]]
                heappush(waiting, (total + more, (*some[:-1], after)))


def _some_of(nodes: Sequence[Sequence[Operand]]) -> Iterator[frozenset[Operand]]:
    """Every choice of some operands of each node, first all of them."""
    if not nodes:
        yield frozenset()
        return
    for count in range(len(nodes[0]), 0, -1):
        for some in combinations(nodes[0], count):
            yield from (more | frozenset(some) for more in _some_of(nodes[1:]))
