# SPDX-License-Identifier: Apache-2.0
"""The best plan in several regions: the cheapest within their sizes, or the least of one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Place, Plan
from mmcc.ir.regions import Region
from mmcc.planner.bounds.bound import may_be_outside
from mmcc.planner.caches import Caches, predicted
from mmcc.planner.cost import figure, node_cost
from mmcc.planner.fusion.schedule import Sources
from mmcc.planner.layer_by_layer import LayoutChoice
from mmcc.planner.layouts import Layouts
from mmcc.planner.memory.placement import place
from mmcc.planner.regions.explain import no_plan
from mmcc.planner.regions.fetches import fetch_of
from mmcc.planner.regions.placing import Spread, spread
from mmcc.planner.regions.routes import Route, Routes
from mmcc.planner.regions.traffic import (
    access_cost,
    constants_cost,
    node_traffic,
    region_traffic,
    staged_traffic,
)
from mmcc.planner.request import PlanRequest

SOME_LAYOUTS = 4  # layouts looked at
TRIES = 6  # routes placed at most, each within less room than the one before
NEAR = 1e-9  # costs that differ by less, as a ratio, are equal


def best_in_regions(graph: Graph, request: PlanRequest, first: LayoutChoice, alone: Plan) -> Plan:
    """The plan of least predicted cost within the sizes of the request's regions.

    With `request.least` it takes as few bytes as possible of those regions, one after the other, and is the
    cheapest that does. `alone` is the plan in the first region with every node a group of its own. Raises
    CompileError MM040 or MM041 if there is no plan.
    """
    if not alone.groups:
        return _without_code(alone, request)
    sizes = (inf if region.size is None else float(region.size) for region in request.regions)
    room = [
        min(size, request.within.get(r.name, inf)) for size, r in zip(sizes, request.regions, strict=True)
    ]
    fast = _fastest(request.regions)
    peak = alone.peak(request.regions[0])
    staged = request.staging is not None and bool(request.staging.tilings)  # then `alone` is no plan
    if fast is not None and not request.least and not staged and peak <= room[fast]:
        plan = _all_in(alone, request, fast)
        floor = floor_cost(graph, request)
        if plan is not None and (told := _told(graph, replace(plan, least_cost=floor), request)).cheapest:
            return told
    return _told(graph, _Search(graph, request, first, room).run(), request)


def _without_code(alone: Plan, request: PlanRequest) -> Plan:
    """The plan of a graph of views: all is in the first region that has room for it, of those of which as few
    bytes as possible are to be taken in the last."""
    regions, least = request.regions, request.least
    wanted = {name: len(least) - k for k, name in enumerate(least)}  # the more, the later
    for home in sorted(range(len(regions)), key=lambda k: wanted.get(regions[k].name, 0)):
        size = regions[home].size
        here = home == 0 and (size is None or alone.peak(regions[0]) <= size)
        plan = alone if here else _all_in(alone, request, home)
        if plan is not None and least:
            bounds = dict.fromkeys(least, 0)
            return replace(plan, bounds=bounds, proved_optimal=_met(plan, bounds))
        if plan is not None:
            return plan
    raise no_plan(regions, {regions[0]: alone.peak(regions[0])}, proved=False)


def _told(graph: Graph, plan: Plan, request: PlanRequest) -> Plan:
    """The plan with what it costs and what it reads and writes."""
    traffic = {
        region.name: (round(count.read), round(count.written))
        for region, count in region_traffic(graph, plan, request).items()
    }
    cost = predicted(graph, plan, request) + access_cost(graph, plan, request)
    cost += constants_cost(graph, plan, request)
    least = min(cost, plan.least_cost)
    return replace(plan, cost=cost, least_cost=least, traffic=traffic, cheapest=cost <= least * (1 + NEAR))


def _fastest(regions: Sequence[Region]) -> int | None:
    """The first region in which no access costs more than in any other; None if there is none."""
    costs = [(region.read_cost, region.write_cost or 0.0) for region in regions]
    least = tuple(map(min, zip(*costs, strict=True)))
    return next((k for k, cost in enumerate(costs) if cost == least), None)


def _all_in(plan: Plan, request: PlanRequest, home: int) -> Plan | None:
    """A plan with every node alone, all that is in the first region in another, and no rows made backward
    to save bytes; None if there is not the room."""
    first, region = request.regions[0], request.regions[home]
    inside = [b for b in plan.buffers if plan.places[b.name].region == first]
    overlaps = [replace(o, backward=None) for o in plan.overlaps]
    size = request.within.get(region.name, region.size)
    placement = place(inside, overlaps, size, effort=request.effort, seed=request.seed)
    if size is not None and placement.peak > size:
        return None
    return replace(
        plan,
        groups=tuple(replace(g, backward=any(map(request.runs_backward, g.nodes))) for g in plan.groups),
        overlaps=tuple(overlaps),
        places=plan.places | {name: Place(region, at) for name, at in placement.offsets.items()},
        over_groups=True,
        bound=0,
        proved_optimal=False,
    )


class _Search:
    """Layouts with the routes through their groups."""

    def __init__(
        self, graph: Graph, request: PlanRequest, first: LayoutChoice, room: Sequence[float]
    ) -> None:
        self._graph, self._request, self._first, self._room = graph, request, first, list(room)
        total = sum(self._room)
        whole = sum(t.bytes + t.dtype.size + request.align for t in graph.tensors.values())
        most = int(min(total, whole))
        layouts = Layouts(graph, request, first)
        some = layouts.first[:SOME_LAYOUTS]
        staging = request.staging and replace(request.staging, rooms=_rooms(request.regions, most))
        limited = replace(request, limit=most, fuse=True, staging=staging)
        tables = [layouts.table(choice, most, limited) for choice in some]
        # where strips compute too much again, there may be a plan without
        ways = (True, False) if request.recompute > 1 else (True,)
        self._routes = [
            Routes(table, request.regions, most, strips=strips) for table in tables for strips in ways
        ]
        self._every = layouts.every_layout and layouts.every_group and len(some) == len(layouts.first)
        if request.staging is not None:  # of the ways to stage constants some are looked at
            self._every = False
        self._macs = layouts.macs

    def run(self) -> Plan:
        """The best plan; CompileError if there is none."""
        bounds: dict[str, int] = {}
        for name in self._request.least:
            k = next(k for k, region in enumerate(self._request.regions) if region.name == name)
            least = self._least(k)
            if least is None:
                break
            self._room[k], bounds[name] = float(least[0]), least[1]
        found, bound = self._cheapest(self._room, closely=True)
        if found is None:
            raise no_plan(self._request.regions, dict(self._enough()), proved=bound == inf and self._every)
        plan = self._plan(*found, bound)
        return replace(plan, bounds=bounds, proved_optimal=_met(plan, bounds))

    def _cheapest(
        self, room: Sequence[float], *, closely: bool = False
    ) -> tuple[tuple[Routes, Spread] | None, float]:
        """The cheapest route that was placed within so much room, and what none costs less than."""
        found: list[tuple[float, int, Route]] = []
        bound = inf
        for k, routes in enumerate(self._routes):
            route, least = routes.cheapest(room, closely=closely)
            bound = min(bound, least)
            if route is not None and sum(map(routes.table.macs, route.path)) <= self._macs:
                found.append((route.cost, k, route))
        if not self._every:
            bound = min(bound, floor_cost(self._graph, self._request))
        best: tuple[Routes, Spread] | None = None
        for _, k, route in sorted(found, key=lambda item: item[:2]):
            if best is not None and best[1].cost <= route.cost:
                break
            placed = self._placed(self._routes[k], route, room)
            if placed is not None and (best is None or placed.cost < best[1].cost):
                best = self._routes[k], placed
        return best, bound

    def _placed(self, routes: Routes, route: Route, room: Sequence[float]) -> Spread | None:
        """The route, or one that costs more, placed within the room of each region; None if none was."""
        effort = self._request.effort / TRIES
        tight = list(room)
        for _ in range(TRIES):
            placed = spread(routes.space, route, self._request, room, effort)
            if placed.within(room):
                return placed
            for k, peak in enumerate(placed.peaks):
                tight[k] -= max(0.0, peak - room[k])
            following = routes.cheapest(tight)[0] if min(tight) >= 0 else None
            if following is None or sum(map(routes.table.macs, following.path)) > self._macs:
                return None
            route = following
        return None

    def _least(self, k: int) -> tuple[int, int] | None:
        """The fewest bytes of a region with which a plan was found, and those that none has fewer than."""
        room, align = self._room, self._request.align
        found, _ = self._cheapest(room)
        if found is None:
            return None
        low, failed, high = (
            0,
            -1,
            found[1].peaks[k],
        )  # surely impossible below `low`; up to `failed` none found
        while high > max(low, failed + 1):
            level = (max(low, failed + 1) + high) // 2 // align * align
            trial = [*room[:k], float(level), *room[k + 1 :]]
            if level <= failed:
                break
            if not any(routes.possible(trial) for routes in self._routes):
                low = level + align  # peaks are multiples of it
                continue
            placed, _ = self._cheapest(trial)
            if placed is None:
                failed = level
            else:
                high = placed[1].peaks[k]
        return high, min(low, high) if self._every else 0

    def _plan(self, routes: Routes, placed: Spread, bound: float) -> Plan:
        return replace(placed.plan, over_groups=True, least_cost=bound)

    def _enough(self) -> Iterator[tuple[Region, int]]:
        """For each region with a size, bytes of it that would be enough if the others stayed as they are."""
        for k, region in enumerate(self._request.regions):
            if region.size is not None:
                room = [*self._room[:k], inf, *self._room[k + 1 :]]
                least = _Search(self._graph, self._request, self._first, room)._least(k)
                if least is not None:
                    yield region, least[0]


def _rooms(regions: Sequence[Region], most: int) -> tuple[int, ...]:
    """Bytes that staged constants of a group may have: those of each region."""
    return tuple(dict.fromkeys(most if r.size is None else min(most, r.size) for r in regions))


def _met(plan: Plan, bounds: Mapping[str, int]) -> bool:
    """True if a plan takes no more of the regions that were to be least than it must."""
    peaks = {region.name: size for region, size in plan.regions().items()}
    return bool(bounds) and all(peaks.get(name, 0) <= low for name, low in bounds.items())


def floor_cost(graph: Graph, request: PlanRequest) -> float:
    """What no plan of any layout costs less than: nodes that may be views cost nothing, and every access is
    where it costs least."""
    total, rows = 0.0, Sources(graph, frozenset())
    outside = may_be_outside(graph, request)  # what the caller brings is taken to be fast
    caches = Caches(graph, (), request.caches)
    for index, node in enumerate(graph.nodes):
        if node.op.traits.alias is None:
            total += caches.least(index)
            total += node_cost(graph, node, request.cost).total(rows.steps(index), 1, 1, 1.0)
            for name, count in node_traffic(graph, index, request.loads.get(index, 1.0)).items():
                if name not in outside:
                    total += min(count.cost(region) for region in request.regions)
            if request.staging is not None and index in request.staging.tilings:
                # each byte comes to an arena at least once; how many there are depends on the tiling
                once = min(blocks.total for blocks in request.staging.tilings[index])
                count = staged_traffic(request, index, once, once)
                total += figure(request.cost, "staged_byte") * once
                total += min(count.cost(region) for region in request.regions)
            if index in request.fetchable:
                constants = request.fetchable[index]
                total += fetch_of(index, constants, 1.0, request.regions, request.constants_cost).least
    return total
