# SPDX-License-Identifier: Apache-2.0
"""The search for the best plan with groups: over layouts, over levels of bytes, and under each over paths.

Every group's bytes are known from a bound before anything is placed. The largest on a path is a bound for the
path; the path with the least such bound is found exactly, and placed. Only where the placement does not reach
the bound do candidates and offsets go into one model for the solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan, aligned
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.lazy import LazyPaths
from mmcc.planner.fusion.paths import Path, Paths, Table
from mmcc.planner.layer_by_layer import LayoutChoice
from mmcc.planner.layouts import MOST_IN_STRIPS, Layouts
from mmcc.planner.placing import Placer
from mmcc.planner.request import PlanRequest

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

    def run(self) -> Plan:
        """The cheapest plan within the limit; the least if there is no limit or none is within it."""
        limit = self._request.limit
        if limit is not None and (found := self._cheapest(self._layouts.first, limit)) is not None:
            return found
        if self._request.staging is not None and limit is not None:
            return self._least_staged()
        paths, least = self._layouts.least(self._most())
        if limit is not None and least <= limit:
            choice = self._layouts.of(paths)
            found = None if choice in self._layouts.first else self._cheapest((choice,), limit)
            if found is not None:
                return found
        placed, proved = self._placer.least(paths, least)
        # what the solver proves is about this layout; that no path is below `least` holds for all of them
        bound = self._layouts.known(least if self._layouts.operands else proved)
        peak = self._most()
        if self._alone is not None and placed.placement.peak >= peak:
            return replace(self._alone, proved_optimal=peak <= bound, bound=min(bound, peak))
        return Builder(paths.space, placed.path).plan(placed, bound)

    def _cheapest(self, layouts: Sequence[LayoutChoice], limit: int) -> Plan | None:
        """The plan of least cost within the limit, if one is found.

        The cost of a layout's cheapest path, placed or not, is a bound for its plans: layouts are tried in
        that order. If the first path of all can be placed, nothing is cheaper.
        """
        found = [self._within(choice, limit) for choice in layouts]
        costs = [sum(map(paths.cost, path)) if path else inf for paths, path, _ in found]
        known, least = self._layouts, min(low for _, _, low in found)
        for k in sorted(range(len(found)), key=lambda k: costs[k]):
            paths, path, low = found[k]
            placed = self._placer.within(paths, path, low, limit) if path else None
            if placed is not None:
                # a limit leaves out ways to stage constants that need less than it: no bound for those
                staged = self._request.staging is not None
                bound = known.joined if staged else known.known(least)
                every = known.every_layout and known.every_group and not staged
                made = Builder(paths.space, placed.path).plan(placed, bound)
                return replace(made, cheapest=every and sum(map(paths.cost, placed.path)) <= min(costs))
        return None

    def _within(self, choice: LayoutChoice, limit: int) -> tuple[Paths, Path, int]:
        """Paths of a layout, the cheapest within the limit, and what no path is below."""
        request, known = self._request, self._layouts
        if request.staging is None:
            lazy = LazyPaths(known.space(choice, request), limit)
            path = lazy.cheapest(limit, self._macs)
            low = lazy.least(self._macs) if request.recompute <= 1 else min(limit, known.joined)
            if path or len(choice.model.kernels) > MOST_IN_STRIPS:
                known.every_group = known.every_group and lazy.exact
                return lazy, path, low
        table = known.table(choice, limit, request)
        return table, table.cheapest(limit, self._macs), table.least(self._macs)

    def _most(self) -> int:
        """Bytes that are enough."""
        if self._alone is not None:
            return self._request.peak(self._alone)
        tilings = self._request.staging.tilings.values() if self._request.staging else ()
        double_buffer = 2 * max((aligned(blocks[0].bytes) for blocks in tilings), default=0)
        return double_buffer + sum(
            tensor.bytes + tensor.dtype.size + self._request.align for tensor in self._graph.tensors.values()
        )

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
            placed = self._placer.within(table, path, table.least(self._macs), level)
            if placed is not None:
                return table, placed
        return None
