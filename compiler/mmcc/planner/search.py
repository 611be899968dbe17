# SPDX-License-Identifier: Apache-2.0
"""The search for the best plan with groups: over layouts, over levels of bytes, and under each over paths.

Every group's bytes are known from a bound before anything is placed. The largest on a path is a bound for the
path; the path with the least such bound is found exactly, and placed. Only where the placement does not reach
the bound do candidates and offsets go into one model for the solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from heapq import heapify, heappop, heappush
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan, aligned
from mmcc.planner.caches import predicted
from mmcc.planner.cheaper import Cheaper, Priced
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.lazy import LazyPaths
from mmcc.planner.fusion.paths import Path, Paths, Table, single_path
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import LayoutChoice
from mmcc.planner.layouts import FOOTPRINTS_TRIED, MOST_IN_STRIPS, Layouts
from mmcc.planner.placing import Placer, cost_of
from mmcc.planner.request import PlanRequest

MOST_PLACED = 8  # layouts that are placed where the one with the least bound needs more than that
SOME_LAYOUTS = 4  # that many are looked at where it takes many levels to know what one needs
CLOSE = 64  # a level that can be met is searched for up to one part in so many


class Search:
    """Tries layouts, and under the best one paths."""

    def __init__(self, graph: Graph, request: PlanRequest, first: LayoutChoice, alone: Plan | None) -> None:
        """`alone` is the plan in which every node is a group of its own, if that is known."""
        self._graph, self._request, self._alone = graph, request, alone
        self._layouts = Layouts(graph, request, first)
        self._macs = self._layouts.macs
        self._placer = Placer(request, self._macs)
        self._quick_placer = Placer(replace(request, effort=request.effort / MOST_PLACED), self._macs)

    def run(self) -> Plan:
        """The cheapest plan within the limit; the least if there is no limit or none is within it."""
        limit = self._request.limit
        if limit is not None and (found := self._cheapest(self._layouts.first, limit)) is not None:
            return found
        if self._request.staging is not None and limit is not None:
            return self._least_staged()
        paths, least = self._layouts.least(self._asked())
        if limit is not None and least <= limit:
            choice = self._layouts.of(paths)
            found = None if choice in self._layouts.first else self._cheapest((choice,), limit)
            if found is not None:
                return found
        if self._alone is not None and self._needs_too_much(least):
            peak, bound = self._most(), self._layouts.known(least)
            return replace(self._alone, proved_optimal=peak <= bound, bound=min(bound, peak))
        placed, proved = self._placer.least(paths, least)
        # what the solver proves is about this layout; that no path is below `least` holds for all of them
        paths, placed, proved = self._other_layouts(paths, placed, least, proved)
        if isinstance(paths, Table):  # which may have listed more by now
            self._layouts.looked_at(paths)
        bound = self._layouts.known(proved)
        peak = self._most()
        if self._alone is not None and placed.placement.peak >= peak:
            return replace(self._alone, proved_optimal=peak <= bound, bound=min(bound, peak))
        return Builder(paths.space, placed.path).plan(placed, bound)

    def _needs_too_much(self, least: int) -> bool:
        """Whether the least path need not be placed, since it needs no fewer bytes than are asked for, or
        none was found that does."""
        below = self._request.below
        return below is not None and least - self._layouts.slack >= below

    def _other_layouts(
        self, paths: Paths, placed: Placed, least: int, proved: int
    ) -> tuple[Paths, Placed, int]:
        """The best of all layouts, and what none of them is below. `paths` has the least path of all; where
        that is not placed as its bound has it, one of a larger bound may be placed within less."""
        known = self._layouts
        if not known.operands:
            return paths, placed, proved
        if proved == least or not (known.every_layout and known.every_group) or self._request.rough:
            return paths, placed, least
        best, first, tried = (paths, placed), known.of(paths), 0
        for choice in known.first:  # a layout whose path needs as much as a plan is no better
            peak = best[1].placement.peak
            if choice is first:
                continue
            others = known.paths(choice, peak - 1)
            low = others.least(self._macs)
            known.slack = max(known.slack, others.slack)
            if not others.exact or tried == MOST_PLACED:
                return *best, least
            if low >= peak:
                continue
            tried += 1
            found, bound = self._quick_placer.least(others, low)
            proved = min(proved, max(low, bound))
            best = min(best, (others, found), key=lambda pair: pair[1].placement.peak)
        return *best, proved

    def run_within(self, order: Sequence[int]) -> Plan:
        """The cheapest plan within a limit that every node alone keeps, in this order,the first layout."""
        limit, alone, request = self._request.limit, self._alone, self._request
        assert limit is not None
        assert alone is not None
        space = self._layouts.space(self._layouts.first[0], request)
        paths, path = LazyPaths(space, limit), single_path(space, order)
        placed = self._placer.exactly(paths, path, limit)
        # what is placed by rows may not be by steps, which are all that groups know
        first = None if placed is None else Priced(paths, placed, cost_of(paths, placed), 0.0)
        found = self._cheapest_of(first, self._layouts.first, limit)
        cost = predicted(self._graph, alone, request)
        if found is None:
            return alone
        if found.cost >= cost:
            return replace(alone, cheapest=found.cheapest, least_cost=min(cost, found.least))
        made = self._made(found, self._layouts.joined)
        if any(len(group.nodes) > 1 for group in made.groups):
            return replace(made, over_groups=True)
        bound = min(alone.bound, request.peak(made))
        return replace(made, bound=bound, proved_optimal=bound == request.peak(made))

    def _cheapest(self, layouts: Sequence[LayoutChoice], limit: int) -> Plan | None:
        """The plan of least cost within the limit, if one is found; in these layouts first."""
        found = self._cheapest_of(None, layouts, limit)
        return None if found is None else self._made(found, self._bound(found.paths, found.placed))

    def _cheapest_of(self, best: Priced | None, layouts: Sequence[LayoutChoice], limit: int) -> Priced | None:
        """The same as a path in its place; one that costs less than `best`, if that is known, or that."""
        found = self._priced(best, layouts, limit)
        if found is None or self._request.staging is not None:
            return found
        if found.cheapest and self._layouts.every_layout:
            return found
        return Cheaper(self._graph, self._request, self._layouts, self._placer).search(found, limit)

    def _made(self, found: Priced, bound: int) -> Plan:
        """The plan of what was found within a limit; no plan needs less than `bound`."""
        made = Builder(found.paths.space, found.placed.path).plan(found.placed, bound)
        return replace(made, cheapest=found.cheapest, least_cost=found.least)

    def _priced(self, best: Priced | None, layouts: Sequence[LayoutChoice], limit: int) -> Priced | None:
        """A plan within the limit that costs less than `best`, if one is found, else that; and what is below
        the cost of all plans in these layouts.

        What the nodes of a layout cost in the largest calls is a bound for the cost of its cheapest path, and
        that for its plans: layouts are looked at, and placed, best first, until the next cannot cost less
        than what was found.
        """
        known, every = self._layouts, self._request.staging is None
        spaces = [known.space(choice, self._request) for choice in layouts]
        waiting: list[tuple[float, int, bool]] = [
            (space.least_cost, k, False) for k, space in enumerate(spaces)
        ]
        heapify(waiting)
        ways: dict[int, tuple[Paths, Path]] = {}
        least, looked_at, tried = inf, 0, 0
        while waiting:
            cost, k, searched = heappop(waiting)
            if best is not None and (cost >= best.cost or tried == MOST_PLACED):
                least = min(least, cost)
                break
            if searched:
                paths, path = ways.pop(k)
                placer = self._placer if best is None else self._quick_placer
                placed, low = placer.within(paths, path, partial(self._low, paths, limit), limit)
                least, tried = min(least, low), tried + (best is not None)
                if placed is not None:
                    made = Priced(paths, placed, cost_of(paths, placed), 0.0)
                    best = made if best is None or made.cost < best.cost else best
            elif looked_at > FOOTPRINTS_TRIED * self._request.budget:
                every = False
            else:
                paths, path = self._within(spaces[k], limit)
                looked_at += paths.space.footprints
                if path:
                    ways[k] = paths, path
                    heappush(waiting, (sum(map(paths.cost, path)), k, True))
        if best is None:
            return None
        return replace(best, least=min(least, best.cost) if every and known.every_group else 0.0)

    def _within(self, space: Space, limit: int) -> tuple[Paths, Path]:
        """Paths of a layout, and the cheapest within the limit."""
        known = self._layouts
        if self._request.staging is None:
            lazy = LazyPaths(space, limit)
            path = lazy.cheapest(limit, self._macs)
            if path or self._request.recompute <= 1 or len(space.model.kernels) > MOST_IN_STRIPS:
                known.every_group = known.every_group and lazy.exact
                return lazy, path
        table = known.listed(space, limit)
        return table, table.cheapest(limit, self._macs)

    def _low(self, paths: Paths, limit: int) -> int:
        """What no path within the limit is below."""
        if isinstance(paths, Table) or self._request.recompute <= 1:
            return paths.least(self._macs) - paths.slack
        return min(limit, self._layouts.joined)

    def _bound(self, paths: Paths, placed: Placed) -> int:
        """What no plan is below, in bytes. A limit leaves out ways to stage constants that need less than it:
        they give no bound."""
        known = self._layouts
        if self._request.staging is not None:
            return known.joined
        if not known.operands:
            low = self._low(paths, placed.placement.peak)
            known.every_group = known.every_group and paths.exact  # also of the search for the least
            return known.known(low)
        known.bound_values(placed.placement.peak)
        return known.joined

    def _most(self) -> int:
        """Bytes that are enough."""
        if self._alone is not None:
            return self._request.peak(self._alone)
        tilings = self._request.staging.tilings.values() if self._request.staging else ()
        double_buffer = 2 * max((aligned(blocks[0].bytes) for blocks in tilings), default=0)
        return double_buffer + sum(
            tensor.bytes + tensor.dtype.size + self._request.align for tensor in self._graph.tensors.values()
        )

    def _asked(self) -> int:
        """The same, or as many as a path may need that is of any use."""
        below, most = self._request.below, self._most()
        return most if below is None or self._alone is None else max(0, min(most, below - 1))

    def _least_staged(self) -> Plan:
        """The least where constants may be read again: which groups there are depends on how much they may
        need, so levels are tried. First until one that a bound allows is close to one that none allows; then
        until one that is placed is close to one that is not."""
        layouts = self._layouts.first[:SOME_LAYOUTS]
        best: tuple[int, Table] | None = None
        missed, most = 0, self._most()
        while best is None or best[0] > missed + 1 + missed // CLOSE:
            allowed = self._allowed(layouts, most)
            if allowed:
                best = allowed[0]
            else:
                missed = most
            assert best is not None, "every node alone is among the candidates"
            most = (missed + best[0]) // 2
        least, table = best
        placed, _ = self._placer.least(table, least)
        failed = least - 1
        while placed.placement.peak > failed + 1 + failed // CLOSE:
            level = (failed + placed.placement.peak) // 2
            fitting = self._fitting(layouts, level)
            if fitting is None:
                failed = level
            else:
                table, placed = fitting
        every = len(layouts) == len(self._layouts.first)
        return Builder(table.space, placed.path).plan(
            placed, self._layouts.known(missed + 1) if every else self._layouts.joined
        )

    def _allowed(self, layouts: Sequence[LayoutChoice], level: int) -> list[tuple[int, Table]]:
        """The tables of groups within a level that have a path as far as bounds can tell, the least first."""
        tables = [self._layouts.table(choice, level) for choice in layouts]
        found = [(table.least(self._macs), table) for table in tables if table.possible]
        return sorted((pair for pair in found if pair[0] <= level), key=lambda pair: pair[0])

    def _fitting(self, layouts: Sequence[LayoutChoice], level: int) -> tuple[Table, Placed] | None:
        """A path that is placed within a level."""
        for _, table in self._allowed(layouts, level):
            path = table.cheapest(level, self._macs)
            placed, _ = self._placer.within(table, path, partial(table.least, self._macs), level)
            if placed is not None:
                return table, placed
        return None
