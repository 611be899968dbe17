# SPDX-License-Identifier: Apache-2.0
"""The best plan in several regions: the cheapest within their sizes, or the least of one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from operator import add, le

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Place, Plan
from mmcc.ir.regions import External, Region
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
from mmcc.planner.regions.routes import Memories, Route, Routes
from mmcc.planner.regions.states import (
    Choice,
    any_possible,
    best_choice,
    choices,
    kept_apart,
    memories,
    rounded,
    state_accesses,
)
from mmcc.planner.regions.traffic import (
    Bytes,
    access_cost,
    constants_cost,
    node_traffic,
    region_traffic,
    staged_traffic,
)
from mmcc.planner.request import KeptTogether, PlanRequest
from mmcc.planner.states import place_states, state_places

SOME_LAYOUTS = 4  # layouts looked at
TRIES = 6  # routes placed at most, each within less room than the one before
NEAR = 1e-9  # costs that differ by less, as a ratio, are equal


def best_in_regions(graph: Graph, request: PlanRequest, first: LayoutChoice, alone: Plan) -> Plan:
    """The plan of least predicted cost within the sizes of the request's regions.

    With `request.least` it takes as few bytes as possible of those regions, one after the other, and is the
    cheapest that does. `alone` is the plan in the first region with every node a group of its own. Raises
    CompileError MM040 or MM041 if there is no plan.
    """
    kept = () if request.states else request.kept or kept_apart(graph.states, request.align)
    room = _room(request, states=bool(kept or request.states))
    if not alone.groups:
        return _without_code(alone, request, kept, room)
    fast = _fastest(request.regions)
    peak = alone.peak(request.regions[0])
    staged = request.staging is not None and bool(request.staging.tilings)  # then `alone` is no plan
    if fast is not None and not request.least and not staged:
        taken = rounded(sum(each.bytes for each in kept), request.regions[fast])
        plan = _all_in(alone, request, fast, room[fast] - taken) if peak <= room[fast] - taken else None
        if plan is not None:
            homes = memories(kept, [fast] * len(kept), request.regions)
            plan = replace(plan, least_cost=floor_cost(graph, request), states=homes)
            if (told := _told(graph, plan, request)).cheapest:
                return told
    return _told(graph, _Search(graph, request, first, room, kept).run(), request)


def _room(request: PlanRequest, *, states: bool) -> list[float]:
    """Bytes of each region. Where there are states, both they and the arena beside them take multiples of
    its alignment."""
    found: list[float] = []
    for region in request.regions:
        size = min(inf if region.size is None else region.size, request.within.get(region.name, inf))
        found.append(size - size % region.align if states and size < inf else size)
    return found


def _without_code(
    alone: Plan, request: PlanRequest, kept: Sequence[KeptTogether], room: Sequence[float]
) -> Plan:
    """The plan of a graph of views: all is in the first region that has room for it, of those of which as few
    bytes as possible are to be taken in the last. So are states, beside the rest."""
    regions, least = request.regions, request.least
    wanted = {name: len(least) - k for k, name in enumerate(least)}  # the more, the later
    for home in sorted(range(len(regions)), key=lambda k: wanted.get(regions[k].name, 0)):
        here = home == 0 and alone.peak(regions[0]) <= room[0]
        plan = alone if here else _all_in(alone, request, home, room[home])
        if plan is None:
            continue
        left = [
            there - rounded(plan.peak(region), region) for there, region in zip(room, regions, strict=True)
        ]
        some = choices(kept, [Bytes()] * len(kept), regions, left).some
        fitting = [each for each in some if all(map(le, each.taken(regions), left))]
        if not fitting:
            continue
        ranks = [wanted.get(region.name, 0) for region in regions]
        best = min(fitting, key=lambda each: [ranks[home] for home in each.homes])
        plan = replace(plan, states=memories(kept, best.homes, regions))
        bounds = dict.fromkeys(least, 0)
        taken = {r.name: plan.peak(r) + n for r, n in zip(regions, best.bytes, strict=True)}
        met = bool(least) and all(taken[name] <= 0 for name in least)
        return replace(plan, bounds=bounds, proved_optimal=met) if least else plan
    raise no_plan(regions, {regions[0]: alone.peak(regions[0])}, proved=False)


def _told(graph: Graph, plan: Plan, request: PlanRequest) -> Plan:
    """The plan with what it costs and what it reads and writes: of states, where they are to be."""
    placed = place_states(
        graph, plan, request.states or state_places(graph.states, request.align, plan.states)
    )
    traffic = {
        region.name: (round(count.read), round(count.written))
        for region, count in region_traffic(graph, placed, request).items()
    }
    cost = predicted(graph, plan, request) + access_cost(graph, placed, request)
    cost += constants_cost(graph, plan, request)
    assert plan.least_cost <= cost * (1 + NEAR), f"a plan costs {cost}, and none less than {plan.least_cost}"
    least = min(cost, plan.least_cost)
    return replace(plan, cost=cost, least_cost=least, traffic=traffic, cheapest=cost <= least * (1 + NEAR))


def _fastest(regions: Sequence[Region]) -> int | None:
    """The first region in which no access costs more than in any other; None if there is none."""
    costs = [(region.read_cost, region.write_cost or 0.0) for region in regions]
    least = tuple(map(min, zip(*costs, strict=True)))
    return next((k for k, cost in enumerate(costs) if cost == least), None)


def _all_in(plan: Plan, request: PlanRequest, home: int, room: float) -> Plan | None:
    """A plan with every node alone, all that is in the first region in one that has so much room, and no rows
    made backward to save bytes; None if that is too little."""
    first, region = request.regions[0], request.regions[home]
    inside = [b for b in plan.buffers if plan.places[b.name].region == first]
    overlaps = [replace(o, backward=None) for o in plan.overlaps]
    size = None if room == inf else int(room)
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


@dataclass(frozen=True, slots=True)
class _Found:
    """A plan, where states are, and the bytes of each region that both take."""

    spread: Spread
    choice: Choice
    taken: tuple[int, ...]


class _Search:
    """Layouts with the routes through their groups."""

    def __init__(
        self,
        graph: Graph,
        request: PlanRequest,
        first: LayoutChoice,
        room: Sequence[float],
        kept: Sequence[KeptTogether],
    ) -> None:
        self._graph, self._request, self._first, self._room = graph, request, first, list(room)
        self._kept = kept
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
        ends = [
            there if region.name not in request.least else min(there, whole + sum(k.bytes for k in kept))
            for there, region in zip(room, request.regions, strict=True)
        ]
        self._choices = choices(kept, [self._least_read(each) for each in kept], request.regions, ends)

    def _least_read(self, kept: KeptTogether) -> Bytes:
        """What a call reads and writes of some states at least, whatever the layout."""
        some = [state for state in self._graph.states if state.begin in kept.begins]
        counts = [sum(routes.of_states(some).values(), Bytes()) for routes in self._routes]
        return Bytes(min(c.read for c in counts), min(c.written for c in counts))

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
        names = [region.name for region in self._request.regions]
        met = bool(bounds) and all(found.taken[names.index(n)] <= low for n, low in bounds.items())
        homes = memories(self._kept, found.choice.homes, self._request.regions)
        if any(each.read or each.written for each in self._kept):
            bound = 0.0  # with what others read and write: of this entry alone nothing is known
        plan = replace(found.spread.plan, over_groups=True, least_cost=bound, states=homes)
        return replace(plan, bounds=bounds, proved_optimal=met)

    def _cheapest(
        self, room: Sequence[float], *, closely: bool = False, first: bool = False
    ) -> tuple[_Found | None, float]:
        """The cheapest plan that was found within so much room, or the `first`; what none costs less than."""

        def placed(choice: Choice) -> tuple[_Found | None, float, float]:
            return self._beside(choice, room, closely=closely)

        least = min(routes.floor for routes in self._routes)
        about = self._routes[0].about
        found, bound = best_choice(self._choices, room, least, about, placed, first=first)
        return found, bound if self._every else min(bound, floor_cost(self._graph, self._request))

    def _beside(
        self, choice: Choice, room: Sequence[float], *, closely: bool
    ) -> tuple[_Found | None, float, float]:
        """The cheapest plan that was found with a choice of where states are, with the accesses of other
        entries; what that costs, and none less than."""
        regions, states = self._request.regions, self._graph.states
        taken = choice.taken(regions)
        left = [there - used for there, used in zip(room, taken, strict=True)]
        if min(left) < 0:
            return None, inf, inf
        homes: dict[str, Region | External] = {**memories(self._kept, choice.homes, regions)}
        homes |= {begin: place.region for begin, place in self._request.states.items()}
        found: list[tuple[float, int, Route]] = []
        bound = inf
        for k, routes in enumerate(self._routes):
            there = routes.memories_of(homes, states)
            route, least = routes.cheapest(left, there, closely=closely)
            bound = min(bound, least)
            if route is not None and sum(map(routes.table.macs, route.path)) <= self._macs:
                found.append((route.cost, k, route))
        best: _Found | None = None
        for _, k, route in sorted(found, key=lambda item: item[:2]):
            if best is not None and best.spread.cost <= route.cost:
                break
            there = self._routes[k].memories_of(homes, states)
            placed = self._placed(self._routes[k], route, left, there)
            if placed is not None and (best is None or placed.cost < best.spread.cost):
                sums = (
                    rounded(peak, r) if any(taken) else peak
                    for peak, r in zip(placed.peaks, regions, strict=True)
                )
                best = _Found(placed, choice, tuple(map(add, sums, taken)))
        return best, inf if best is None else best.spread.cost + choice.besides, bound + choice.besides

    def _placed(self, routes: Routes, route: Route, room: Sequence[float], states: Memories) -> Spread | None:
        """The route, or one that costs more, placed within the room of each region; None if none was."""
        effort = self._request.effort / TRIES
        tight = list(room)
        for _ in range(TRIES):
            placed = spread(routes.space, route, self._request, room, effort)
            if placed.within(room):
                return placed
            for k, peak in enumerate(placed.peaks):
                tight[k] -= max(0.0, peak - room[k])
            following = routes.cheapest(tight, states)[0] if min(tight) >= 0 else None
            if following is None or sum(map(routes.table.macs, following.path)) > self._macs:
                return None
            route = following
        return None

    def _least(self, k: int) -> tuple[int, int] | None:
        """The fewest bytes of a region with which a plan was found, and those that none has fewer than."""
        room, region = self._room, self._request.regions[k]
        align = region.align if self._kept else self._request.align  # of what is taken
        found, _ = self._cheapest(room, first=True)
        if found is None:
            return None
        low, failed, high = (
            0,
            -1,
            found.taken[k],
        )  # surely impossible below `low`; up to `failed` none found
        while high > max(low, failed + 1):
            level = (max(low, failed + 1) + high) // 2 // align * align
            trial = [*room[:k], float(level), *room[k + 1 :]]
            if level <= failed:
                break
            if not self._possible(trial):
                low = level + align  # what is taken is a multiple of it
                continue
            placed, _ = self._cheapest(trial, first=True)
            if placed is None:
                failed = level
            else:
                high = placed.taken[k]
        return high, min(low, high) if self._every else 0

    def _possible(self, room: Sequence[float]) -> bool:
        """False if there is surely no plan within so much room."""

        def possible(left: Sequence[float]) -> bool:
            return any(routes.possible(left) for routes in self._routes if routes.strips)

        return any_possible(self._choices, room, possible)

    def _enough(self) -> Iterator[tuple[Region, int]]:
        """For each region with a size, bytes of it that would be enough if the others stayed as they are."""
        for k, region in enumerate(self._request.regions):
            if region.size is not None:
                room = [*self._room[:k], inf, *self._room[k + 1 :]]
                least = _Search(self._graph, self._request, self._first, room, self._kept)._least(k)
                if least is not None:
                    yield region, least[0]


def _rooms(regions: Sequence[Region], most: int) -> tuple[int, ...]:
    """Bytes that staged constants of a group may have: those of each region."""
    return tuple(dict.fromkeys(most if r.size is None else min(most, r.size) for r in regions))


def _of_states(graph: Graph, request: PlanRequest) -> Iterator[float]:
    """What accesses to each state cost at least. What may be a view of one may be a copy, in any region."""
    own = {name for state in graph.states for name in (state.begin, state.end)}
    whole: dict[str, Bytes] = {}
    for begin, name, count in state_accesses(graph, request):
        if name in own:
            whole[begin] = whole.get(begin, Bytes()) + count
        else:
            yield min(count.cost(region) for region in request.regions)
    for begin, count in whole.items():
        place = request.states.get(begin)
        where = request.regions if place is None else [place.region]
        yield min(count.cost(region) for region in where)


def floor_cost(graph: Graph, request: PlanRequest) -> float:
    """What no plan of any layout costs less than: nodes that may be views cost nothing, and every access is
    where it costs least."""
    total, rows = 0.0, Sources(graph, frozenset())
    outside = may_be_outside(graph, request)  # what the caller brings is taken to be fast; states are apart
    total += sum(_of_states(graph, request))
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
