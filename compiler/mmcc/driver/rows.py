# SPDX-License-Identifier: Apache-2.0
"""Which axis of a net's tensors are its rows: a plan for either, and the better one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.module import FLUSH, STEP, Entry, Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.passes.other_rows import other_rows
from mmcc.planner.api import best_plan, plan_module
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.caches import predicted
from mmcc.planner.chunks import in_chunks
from mmcc.planner.lend import lend
from mmcc.planner.request import PlanRequest
from mmcc.planner.spread import spread

Ask = Callable[[Graph], PlanRequest]


@dataclass(frozen=True, slots=True)
class Laid:
    """A graph as it was planned, what was asked, and the plan. `turned`: it is that of `other_rows`."""

    graph: Graph
    request: PlanRequest
    plan: Plan
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A module as it was planned, its plan, and what was asked of the planner for it."""

    module: Module
    memory: MemoryPlan
    requests: Mapping[str, PlanRequest]
    turned: bool = False


def plan_rows(module: Module, requests: Mapping[str, PlanRequest], ask: Ask) -> Planned:
    """`plan_module`, and where there is one entry with nothing that lives longer than a call, `best_rows`.

    Kernels are cut into chunks for threads; what plans leave is lent to the others.
    """
    entry, *others = module.entries
    if others or module.states:
        memory = plan_module(module, requests)
        plans = {
            each.name: memory.entries[each.name]
            if each.name in (STEP, FLUSH)  # whose rows are time
            else _of_one_axis(each.graph, requests[each.name], memory.entries[each.name])
            for each in module.entries
        }
        return Planned(module, replace(memory, entries=plans), requests)
    laid = best_rows(entry.graph, requests[entry.name], ask)
    if laid.turned:
        module = replace(module, entries=(Entry(entry.name, laid.graph),))
    wide = spread(laid.graph, laid.plan, laid.request)
    cut = in_chunks(laid.graph, wide, laid.request)
    memory = MemoryPlan({entry.name: lend(cut, laid.request)}, {}, 0)
    return Planned(module, memory, {entry.name: laid.request}, laid.turned)


def best_rows(graph: Graph, request: PlanRequest, ask: Ask) -> Laid:
    """The best plan of a graph, with the rows that it has or, where groups go over them, with others.

    `ask` says what kernels promise of another graph; its limits are those of `request`. Rows stay where there
    are states, staged constants, several memories or functions of the user's.
    """
    found = Laid(graph, request, best_plan(graph, request))
    other = _other(found)
    if other is None:
        return replace(found, plan=_of_one_axis(graph, request, found.plan)) if _rows_stay(found) else found
    asked = _limited(ask(other), request)
    return _better(found, Laid(other, asked, best_plan(other, asked), turned=True))


def _other(found: Laid) -> Graph | None:
    """The graph with other rows, if they may make a difference."""
    plan, request = found.plan, found.request
    alone = request.limit is not None and request.peak(plan) <= request.limit and not plan.over_groups
    if (
        not request.fuse
        or alone
        or plan.for_caches
        or request.by_region
        or found.graph.states
        or _rows_stay(found)
    ):
        return None
    if request.peak(plan) <= trivial_bound(found.graph, request):
        return None
    return other_rows(found.graph)


def _rows_stay(found: Laid) -> bool:
    """Whether a graph is only planned with the rows that it has: constants are staged, or functions of the
    user's get its tensors."""
    return found.request.staging is not None or any(node.handoff for node in found.graph.nodes)


def _of_one_axis(graph: Graph, request: PlanRequest, plan: Plan) -> Plan:
    """The plan with what is known of it where columns might be rows, and were not tried."""
    if not request.fuse or request.by_region or not plan.over_groups or other_rows(graph) is None:
        return plan
    bound = min(plan.bound, trivial_bound(graph, request))
    return replace(
        plan, bound=bound, proved_optimal=request.peak(plan) == bound, cheapest=False, least_cost=0.0
    )


def _limited(asked: PlanRequest, request: PlanRequest) -> PlanRequest:
    """What is asked of another graph, within the limits of a request."""
    return replace(
        asked,
        limit=request.limit,
        fuse=request.fuse,
        recompute=request.recompute,
        useful=asked.useful if request.useful else {},
        growth=request.growth,
        regions=request.regions,
        by_region=request.by_region,
        least=request.least,
        effort=request.effort,
    )


def _better(first: Laid, second: Laid) -> Laid:
    """The one of less cost where both are within the limit, else of fewer bytes; what is proved of both."""
    both, request = (first, second), first.request
    peaks = [request.peak(laid.plan) for laid in both]
    within = [request.limit is not None and peak <= request.limit for peak in peaks]
    if all(within):
        costs = [predicted(laid.graph, laid.plan, request) for laid in both]
        best = int(costs[1] < costs[0])
    else:
        best = int(within[1] or (peaks[1] < peaks[0] and not within[0]))
    chosen, other = both[best], both[1 - best].plan
    bound = min(laid.plan.bound for laid in both)
    beyond = request.limit is not None and other.bound > request.limit
    plan = replace(
        chosen.plan,
        bound=bound,
        proved_optimal=chosen.plan.proved_optimal and peaks[best] == bound,
        cheapest=chosen.plan.cheapest and (other.cheapest or beyond),
        least_cost=chosen.plan.least_cost if beyond else min(laid.plan.least_cost for laid in both),
        seconds=sum(laid.plan.seconds for laid in both),
    )
    return replace(chosen, plan=plan)
