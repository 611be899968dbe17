# SPDX-License-Identifier: Apache-2.0
"""Plans with groups: choose how to cut the graph, place what that leaves, and say what was proved.

Every group's bytes are known from a bound before anything is placed. The largest on a path is a bound for the
path; the path with the least such bound is found exactly, and placed. Only where the placement does not reach
the bound do candidates and offsets go into one model for the solver.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan, aligned
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.bounds.join_bound import join_bound
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.paths import Path, Table
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import Candidate as LayoutChoice
from mmcc.planner.layer_by_layer import Chosen, best_layout, choices_of, plan_alone
from mmcc.planner.memory.allocations import bits, make_model
from mmcc.planner.memory.layout import Operand, make_layout
from mmcc.planner.memory.order import best_order
from mmcc.planner.memory.overlap import distances
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.request import PlanRequest

TRIES = 5  # paths placed at most where the first cannot be placed as its bound has it
FEW_OPERANDS = 6  # up to this many operands of joins, every choice of which to copy is tried
UNITS_TRIED = 600  # other layouts are tried until their tables have so many units together
SOME_LAYOUTS = 4  # that many are looked at where it takes many levels to know what one needs
CLOSE = 64  # a level that can be met is searched for up to one part in so many
PLACING = 0.1  # of the effort for placing one path; the rest is for groups and offsets together


def best_plan(graph: Graph, request: PlanRequest) -> Plan:
    """The plan with the least cost within `request.limit`, or with the least peak if there is no limit.

    If nothing fits, the plan with the least peak that was found.
    """
    start = time.perf_counter()
    chosen = best_layout(graph, request)
    if request.staging is not None and request.staging.ways:
        found = _grouped(graph, request, chosen, None)
        return replace(found, over_groups=True, seconds=time.perf_counter() - start)
    alone = plan_alone(graph, request, chosen)
    fits = request.limit is not None and _peak(alone, request) <= request.limit
    least = _peak(alone, request) <= trivial_bound(graph, request)
    if least:  # no plan of any kind needs less
        alone = replace(alone, proved_optimal=True, bound=_peak(alone, request), over_groups=True)
    if not request.fuse or fits or least or not alone.groups:
        return replace(alone, seconds=time.perf_counter() - start)
    found = _grouped(graph, request, chosen, alone)
    return replace(found, over_groups=True, seconds=time.perf_counter() - start)


def _grouped(graph: Graph, request: PlanRequest, chosen: Chosen, alone: Plan | None) -> Plan:
    """The best plan with groups. Where strips make the search too hard to find a plan within the limit, there
    may be one without: then what is found without a limit, where nothing is computed twice, is within it."""
    found = _Search(graph, request, chosen, alone).run()
    limit, peak = request.limit, _peak(found, request)
    if limit is None or peak <= limit or found.proved_optimal or request.recompute <= 1:
        return found
    once = _Search(graph, replace(request, recompute=1.0), chosen, alone).run()
    if _peak(once, request) >= peak:
        return found
    bound = min(found.bound, _peak(once, request))  # of plans with strips, too
    return replace(once, bound=bound, proved_optimal=bound == _peak(once, request))


def _peak(plan: Plan, request: PlanRequest) -> int:
    return max((plan.peak(tier) for tier in request.tiers), default=0)


class _Search:
    """Tries layouts, and under the best one paths."""

    def __init__(self, graph: Graph, request: PlanRequest, chosen: Chosen, alone: Plan | None) -> None:
        """`alone` is the plan in which every node is a group of its own, if that is known."""
        self._graph, self._request, self._alone = graph, request, alone
        # The least is searched for in the same way whatever the limit is: bytes that were once said to be
        # enough are found again where they are the limit.
        self._unlimited = request if request.limit is None else replace(request, limit=0)
        self._distance = {k: distances(graph, node) for k, node in enumerate(graph.nodes)}
        self._operands = choices_of(graph, request.external(graph))
        self._every_layout = len(self._operands) <= FEW_OPERANDS
        copies = _subsets(self._operands) if self._every_layout else iter((frozenset[Operand](),))
        self._choices = {chosen.choice.layout.in_place: chosen.choice}
        for copied in copies:
            self._choice(copied)
        self._layouts = tuple(self._choices.values())
        self._spans = Spans(graph)
        self._macs = request.recompute * sum(self._spans.nest(k).macs for k in range(len(graph.nodes)))
        self._joined = trivial_bound(graph, request)  # bytes that no layout goes below
        self._units_left = UNITS_TRIED
        self._every_group = True  # so far no groups were left out of a layout's table

    def run(self) -> Plan:
        """The cheapest plan within the limit; the least if there is no limit or none is within it."""
        limit = self._request.limit
        if limit is not None and (found := self._cheapest(self._layouts, limit)) is not None:
            return found
        if self._request.staging is not None and limit is not None:
            return self._least_staged()
        table, least = self._least()
        if limit is not None and least <= limit:
            choice = self._choices[table.space.layout.in_place]
            found = None if choice in self._layouts else self._cheapest((choice,), limit)
            if found is not None:
                return found
        placed, proved = self._place_least(table, least)
        # what the solver proves is about this layout; that no path is below `least` holds for all of them
        bound = self._known(least if self._operands else proved)
        peak = self._most()
        if self._alone is not None and placed.placement.peak >= peak:
            return replace(self._alone, proved_optimal=peak <= bound, bound=min(bound, peak))
        return Builder(table.space, placed.path).plan(placed, bound)

    def _cheapest(self, layouts: Sequence[LayoutChoice], limit: int) -> Plan | None:
        """The plan of least cost within the limit, if one is found.

        The cost of a layout's cheapest path, placed or not, is a bound for its plans: layouts are tried in
        that order. If the first path of all can be placed, nothing is cheaper.
        """
        bounds: list[tuple[float, int]] = []
        least = limit + 1
        for k, choice in enumerate(layouts):
            table = self._table(choice, limit, self._request)
            bounds.append((table.least_cost(limit), k))
            least = min(least, table.least(self._macs))
        lowest = min(cost for cost, _ in bounds)
        for cost, k in sorted(bounds):
            table = self._table(layouts[k], limit, self._request)
            placed = self._within(table, limit) if cost < inf else None
            if placed is not None:
                every = self._every_layout and self._every_group and self._request.staging is None
                # a limit leaves out ways to stage constants that need less than it: no bound for those
                bound = self._joined if self._request.staging is not None else self._known(least)
                found = Builder(table.space, placed.path).plan(placed, bound)
                return replace(found, cheapest=every and sum(map(table.cost, placed.path)) <= lowest)
        return None

    def _most(self) -> int:
        """Bytes that are enough."""
        if self._alone is not None:
            return _peak(self._alone, self._request)
        ways = self._request.staging.ways.values() if self._request.staging else ()
        slots = 2 * max((aligned(blocks[0].bytes) for blocks in ways), default=0)
        return slots + sum(
            tensor.bytes + tensor.dtype.size + self._request.align for tensor in self._graph.tensors.values()
        )

    def _known(self, bound: int) -> int:
        """What the least of the tables looked at says of all plans: joins may copy any operands, and other
        orders and longer groups may need less."""
        return bound if self._every_layout and self._every_group else min(bound, self._joined)

    def _table(self, choice: LayoutChoice, most: int, request: PlanRequest | None = None) -> Table:
        order, request = choice.ordering.order, request or self._unlimited
        space = Space(self._graph, choice.layout, choice.model, order, request, self._spans)
        self._every_group = self._every_group and space.complete
        return Table(space, most)

    def _least(self) -> tuple[Table, int]:
        """The layout with the least bound; the table of its groups."""
        table = self._table(self._layouts[0], self._most())
        assert table.possible, "the plan without groups is among the candidates"
        best = table, table.least(self._macs)
        for choice in self._layouts[1:]:
            best = self._better(choice, best)
        if self._every_layout:
            return best
        best = self._changed(*best)
        found = join_bound(self._graph, self._request, self._operands, self._distance, best[1] - 1)
        if found is not None:
            self._joined = found.bytes
            if found.copied is not None:
                best = self._better(self._choice(found.copied), best)
        while best[1] > self._joined:
            after = self._changed(*best)
            if after[1] == best[1]:
                break
            best = after
        return best

    def _better(self, choice: LayoutChoice, best: tuple[Table, int]) -> tuple[Table, int]:
        """The table of a layout with its bound, if that is less than the best; else the best."""
        table = self._table(choice, best[1] - 1)
        bound = table.least(self._macs)
        return (table, bound) if bound < best[1] else best

    def _changed(self, table: Table, bound: int) -> tuple[Table, int]:
        """The best layout with one change, if that helps and not enough were tried; else the same.

        Only joins that the largest group touches can make it smaller.
        """
        best = table, bound
        for copied in self._flips(table, bound):
            known = len(self._choices)
            choice = self._choice(copied)
            if len(self._choices) > known and self._units_left > 0:
                self._units_left -= len(choice.model.units)
                best = self._better(choice, best)
        return best

    def _flips(self, table: Table, bound: int) -> Iterator[frozenset[Operand]]:
        """What to copy instead: one operand, or all, of a join that the largest group touches changed."""
        layout, space = table.space.layout, table.space
        copied = frozenset(self._operands) - layout.in_place
        largest = max(table.cheapest(bound, self._macs), key=lambda c: c.least)
        held = {space.model.roots[k].name for k in bits(space.footprint(largest).group.held)}
        for join in dict.fromkeys(node for node, _ in self._operands):
            node = self._graph.nodes[join]
            if any(layout.views[n].root in held for n in (node.output, *self._graph.activations(node))):
                mine = frozenset(o for o in self._operands if o[0] == join)
                yield from (copied ^ {operand} for operand in sorted(mine))
                yield from (copied - mine, copied | mine)

    def _choice(self, copied: frozenset[Operand]) -> LayoutChoice:
        """The layout that copies those operands, made once."""
        layout = make_layout(self._graph, self._request.external(self._graph), copied)
        if layout.in_place not in self._choices:
            model = make_model(self._graph, layout, self._request, self._distance)
            self._choices[layout.in_place] = LayoutChoice(layout, model, best_order(model))
        return self._choices[layout.in_place]

    def _least_staged(self) -> Plan:
        """The least where constants may be read again: which groups there are depends on how much they may
        need, so levels are tried. First until one that a bound allows is close to one that none allows; then
        until one that is placed is close to one that is not."""
        layouts = self._layouts[:SOME_LAYOUTS]
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
        placed, _ = self._place_least(table, least)
        failed = least - 1
        while placed.placement.peak > failed + 1 + failed // CLOSE:
            level = (failed + placed.placement.peak) // 2
            fitting = self._fitting(layouts, level)
            if fitting is None:
                failed = level
            else:
                table, placed = fitting
        every = len(layouts) == len(self._layouts)
        return Builder(table.space, placed.path).plan(
            placed, self._known(missed + 1) if every else self._joined
        )

    def _allowed(self, layouts: Sequence[LayoutChoice], level: int) -> list[tuple[int, Table]]:
        """The tables of groups within a level that have a path as far as bounds can tell, the least first."""
        tables = [self._table(choice, level) for choice in layouts]
        found = [(table.least(self._macs), table) for table in tables if table.possible]
        return sorted((pair for pair in found if pair[0] <= level), key=lambda pair: pair[0])

    def _fitting(self, layouts: Sequence[LayoutChoice], level: int) -> tuple[Table, Placed] | None:
        """A path that is placed within a level."""
        for _, table in self._allowed(layouts, level):
            placed = self._within(table, level)
            if placed is not None:
                return table, placed
        return None

    def _within(self, table: Table, limit: int) -> Placed | None:
        """The cheapest path that can be placed within the limit."""
        low, level = table.least(self._macs), limit
        path = table.cheapest(level, self._macs)
        placed = self._place(table, path, limit)
        if placed.placement.peak <= limit:
            return placed
        for _ in range(TRIES):  # paths of smaller groups are easier to place
            level = max(low, level - max(1, (limit - low) // TRIES))
            placed = self._place(table, table.cheapest(level, self._macs), limit)
            if placed.placement.peak <= limit:
                return self._cheaper(table, placed, limit)
        together, _ = self._together(table, placed, low)
        return together if together.placement.peak <= limit else None

    def _cheaper(self, table: Table, placed: Placed, limit: int) -> Placed:
        """A cheaper one than that, if the solver finds it."""
        from mmcc.planner.joint.search import cheapest  # imports the solver

        cost = sum(map(table.cost, placed.path))
        found = cheapest(table.space, table, limit, cost, self._request)
        if found is None or sum(map(table.macs, found[0])) > self._macs:
            return placed
        return self._placed(table, *found)

    def _placed(self, table: Table, path: Path, offsets: dict[str, int]) -> Placed:
        buffers, overlaps = Builder(table.space, path).buffers()
        peak = max(offsets[b.name] + b.size for b in buffers if b.tiers == self._request.tiers)
        return Placed(path, buffers, overlaps, Placement(offsets, peak, 0))

    def _place_least(self, table: Table, bound: int) -> tuple[Placed, int]:
        """A path with the least peak, and what no path is below."""
        best = self._place(table, table.cheapest(bound, self._macs), bound)
        proved = bound
        if best.placement.peak > bound:
            best, proved = self._together(table, best, bound)
        low, high = proved, best.placement.peak
        for _ in range(TRIES):  # where the solver gave up: larger groups' bounds, so that placing is easier
            level = (low + high) // 2
            if level <= low:
                break
            placed = self._place(table, table.cheapest(level, self._macs), level)
            best = min(best, placed, key=lambda p: p.placement.peak)
            low, high = (level, high) if placed.placement.peak > level else (low, placed.placement.peak)
        return best, proved

    def _place(self, table: Table, path: Path, goal: int) -> Placed:
        request = self._request
        buffers, overlaps = Builder(table.space, path).buffers()
        inside = [b for b in buffers if b.tiers == request.tiers]
        request.say(f"{len(path)} groups within {goal} bytes; placing {len(inside)} buffers")
        effort = request.effort * PLACING
        placement = place(inside, overlaps, goal, effort=effort, seed=request.seed, progress=request.progress)
        return Placed(path, buffers, overlaps, placement)

    def _together(self, table: Table, placed: Placed, bound: int) -> tuple[Placed, int]:
        """Groups and offsets in one model; and the bound it proves."""
        from mmcc.planner.joint.search import choose  # imports the solver

        goal = max(bound, table.space.request.limit or 0)
        found, proved = choose(table.space, table, goal, placed.placement.peak, self._request)
        if found is None:
            return placed, max(bound, min(proved, placed.placement.peak))
        made = self._placed(table, *found)
        return made, max(bound, min(proved, made.placement.peak))


def _subsets(operands: Sequence[Operand]) -> Iterator[frozenset[Operand]]:
    for count in range(len(operands) + 1):
        yield from map(frozenset, combinations(operands, count))
