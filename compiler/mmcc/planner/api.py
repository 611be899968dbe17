# SPDX-License-Identifier: Apache-2.0
"""The planner's entrance: `best_plan` plans layer by layer, and searches for groups where that needs less."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Place, Plan
from mmcc.ir.regions import Region, states_in
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.cached import WORTH, in_caches
from mmcc.planner.caches import predicted
from mmcc.planner.chunks import apart, in_chunks
from mmcc.planner.concurrent import moved_up, plan_concurrent
from mmcc.planner.cost import node_costs
from mmcc.planner.layer_by_layer import LayoutChoice, best_layout, plan_alone
from mmcc.planner.lend import lend
from mmcc.planner.paging import place_paged
from mmcc.planner.regions.search import best_in_regions, floor_cost
from mmcc.planner.regions.states import kept_by, rounded
from mmcc.planner.request import PlanRequest
from mmcc.planner.search import Search
from mmcc.planner.spread import spread
from mmcc.planner.states import place_states, state_bytes, state_places

ROUNDING = 1e-9  # of a cost


def best_plan(graph: Graph, request: PlanRequest) -> Plan:
    """The plan with the least cost within `request.limit`, or with the least peak if there is no limit.

    If nothing fits, the plan with the least peak that was found. Elements must have addresses: 4-bit integers
    cannot be planned, and kernels' contracts refuse nodes that have some (`mmcc.kernels.contract`).
    """
    in_ram = (tensor for tensor in graph.tensors.values() if not graph.is_constant(tensor.name))
    assert all(tensor.dtype.per_cell == 1 for tensor in in_ram), "a packed tensor is in RAM"
    start = time.perf_counter()
    found = _best(graph, request)
    states = request.states or state_places(graph.states, request.align, found.states)
    found = place_paged(graph, place_states(graph, found, states))
    return replace(found, seconds=time.perf_counter() - start)


def plan_module(module: Module, requests: Mapping[str, PlanRequest]) -> MemoryPlan:
    """The best plan of each entry for its request; what it leaves is lent to kernels. States lie at the same
    place in all of them: in several memories, where they cost least (`_in_several_memories`). Where an entry
    does not keep its limit, those after it may have as much as it takes: they share the arena, and to search
    for less would be in vain.

    Entries that may run at the same time have parts of the arena of their own, of which nothing is lent; the
    limit of the requests is for all together."""
    align = max(request.align for request in requests.values())
    graphs = {entry.name: entry.graph for entry in module.entries}
    places = state_places(module.states, align, first=module.parameters)

    def best(name: str, request: PlanRequest) -> Plan:
        return best_plan(graphs[name], replace(request, states=places))

    def cut(name: str, plan: Plan) -> Plan:
        wide = spread(graphs[name], plan, requests[name])
        return in_chunks(graphs[name], wide, requests[name])

    if module.states and all(request.by_region for request in requests.values()):
        plans, places = _in_several_memories(module, requests, align)
        plans = {name: lend(cut(name, plan), requests[name]) for name, plan in plans.items()}
        return MemoryPlan(plans, places, state_bytes(module.states, places))
    size = state_bytes(module.states, places)
    if not module.concurrent:
        plans, largest = dict[str, Plan](), 0
        for name, request in requests.items():
            if request.limit is not None and not request.by_region:
                request = replace(request, limit=max(request.limit, largest))
            plans[name] = best(name, request)
            largest = max(largest, request.peak(plans[name]))
        return MemoryPlan(
            {name: lend(cut(name, plans[name]), requests[name]) for name in graphs}, places, size
        )
    plans, parts = plan_concurrent(module, requests, best)
    begins = dict(parts.begins)
    plans = {name: cut(name, moved_up(plan, begins[name])) for name, plan in plans.items()}
    return MemoryPlan(plans, places, size, begins, parts.proved)


def _in_several_memories(
    module: Module, requests: Mapping[str, PlanRequest], align: int
) -> tuple[dict[str, Plan], dict[str, Place]]:
    """The plans of entries, and where states are: where they are best for the entry that costs most, with
    what others read and write of them. If another entry does not fit beside that, for the next one."""
    graphs = {entry.name: entry.graph for entry in module.entries}
    if len(graphs) == 1:
        ((name, graph),) = graphs.items()
        plan = best_plan(graph, requests[name])
        return {name: plan}, state_places(module.states, align, plan.states)
    failed: CompileError | None = None
    for leader in sorted(graphs, key=lambda name: -floor_cost(graphs[name], requests[name])):
        kept = tuple(kept_by(module, requests, leader, align))
        try:
            chosen = best_plan(graphs[leader], replace(requests[leader], kept=kept))
            places = state_places(module.states, align, chosen.states, module.parameters)
            taken = state_bytes(module.states, places)
            return {
                name: best_plan(graph, _beside(requests[name], places, taken))
                for name, graph in graphs.items()
            }, places
        except CompileError as error:
            failed = failed or error
    assert failed is not None, "a module has entries"
    raise failed


def _beside(request: PlanRequest, places: Mapping[str, Place], taken: Mapping[Region, int]) -> PlanRequest:
    """The request with states where they are, and what they leave of each region."""
    within = dict(request.within)
    for region in request.regions:
        size = within.get(region.name, region.size)
        memory = states_in(region)
        if size is not None and memory in taken:
            within[region.name] = max(0, size - rounded(taken[memory], region))
    return replace(request, states=places, within=within)


def _best(graph: Graph, request: PlanRequest) -> Plan:
    """The best plan of the arena. For threads, kernels that can be made in chunks are apart from what they
    read, unless that needs more than there is."""
    spread = apart(graph, request)
    if spread and (request.limit is not None or not request.fuse):
        wide = replace(request, apart=spread)
        found = plan_alone(graph, wide, best_layout(graph, wide))
        if request.limit is None or request.peak(found) <= request.limit:
            together = plan_alone(graph, request, best_layout(graph, request))
            bound = min(found.bound, together.bound)
            return replace(found, bound=bound, proved_optimal=request.peak(found) <= bound)
    return _least(graph, request)


def _least(graph: Graph, request: PlanRequest) -> Plan:
    """The best plan of the arena for one thread."""
    chosen = best_layout(graph, request)
    if request.staging is not None and request.staging.tilings and not request.by_region:
        return _grouped(graph, request, chosen.choice, None)
    alone = plan_alone(graph, request, chosen)
    if request.by_region:
        return best_in_regions(graph, request, chosen.choice, alone)
    fits = request.limit is not None and request.peak(alone) <= request.limit
    least = request.peak(alone) <= trivial_bound(graph, request)
    if least:  # no plan of any kind needs less
        alone = replace(alone, proved_optimal=True, bound=request.peak(alone), over_groups=True)
    if not alone.groups:
        return alone
    if fits or request.limit is None:
        grouped = in_caches(graph, request, chosen.choice, alone)
        if grouped is not None:
            return grouped
    if not request.fuse or (least and not fits) or (fits and request.rough):
        return alone
    return (_cheapest if fits else _grouped)(graph, request, chosen.choice, alone)


def _cheapest(graph: Graph, request: PlanRequest, choice: LayoutChoice, alone: Plan) -> Plan:
    """The cheapest plan within a limit that every node alone keeps. It has more bytes than that only where it
    saves WORTH with them: predictions are no better."""
    cost, avoidable = predicted(graph, alone, request), _avoidable(graph, request, alone)
    if avoidable <= ROUNDING * cost:
        return replace(alone, cheapest=True, least_cost=cost)
    order, peak = choice.ordering.order, request.peak(alone)
    found = Search(graph, replace(request, limit=peak), choice, alone).run_within(order)
    if request.limit == peak:
        return found
    found = replace(found, cheapest=False, least_cost=0.0)  # of all with so many bytes: others may have more
    if avoidable <= WORTH * cost:
        return found
    wide = Search(graph, request, choice, alone).run_within(order)
    worth = predicted(graph, wide, request) <= (1 - WORTH) * predicted(graph, found, request)
    return wide if worth else found


def _avoidable(graph: Graph, request: PlanRequest, alone: Plan) -> float:
    """What of the cost of every node alone other plans may not have: copies, calls for rows that are made
    backward, and bytes beyond caches."""
    forward = replace(alone, groups=tuple(replace(group, backward=False) for group in alone.groups))
    costs = node_costs(graph, forward, request.cost)
    least = sum(cost for k, cost in costs.items() if graph.nodes[k].op.traits.alias is None)
    return predicted(graph, alone, request) - least


def _grouped(graph: Graph, request: PlanRequest, first: LayoutChoice, alone: Plan | None) -> Plan:
    """The best plan with groups. Where strips make the search too hard to find a plan within the limit, there
    may be one without: then what is found without a limit, where nothing is computed twice, is within it."""
    found = Search(graph, request, first, alone).run()
    limit, peak = request.limit, request.peak(found)
    if limit is None or peak <= limit or found.proved_optimal or request.recompute <= 1:
        return replace(found, over_groups=True)
    once = Search(graph, replace(request, recompute=1.0), first, alone).run()
    if request.peak(once) >= peak:
        return replace(found, over_groups=True)
    bound = min(found.bound, request.peak(once))  # of plans with strips, too
    return replace(once, bound=bound, proved_optimal=bound == request.peak(once), over_groups=True)
