# SPDX-License-Identifier: Apache-2.0
"""Which axis of a net's tensors are its rows: a plan for either, and the better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcc.driver.apart import with_readers_apart
from mmcc.driver.bodies import as_far_as_proved
from mmcc.driver.laid import Ask, Laid, better, limited
from mmcc.driver.row_copies import with_row_copies
from mmcc.driver.tiles import with_tiles
from mmcc.ir.graph import Graph
from mmcc.ir.module import FLUSH, STEP, Entry, Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.passes.copy_rows import Read
from mmcc.passes.other_rows import other_rows
from mmcc.passes.tiling import AS_IT_IS, Tiling
from mmcc.planner.api import best_plan, plan_module
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.chunks import in_chunks
from mmcc.planner.lend import lend
from mmcc.planner.request import PlanRequest
from mmcc.planner.spread import spread


@dataclass(frozen=True, slots=True)
class Planned:
    """A module as it was planned, its plan, and what was asked of the planner for it."""

    module: Module
    memory: MemoryPlan
    requests: Mapping[str, PlanRequest]
    turned: bool = False
    apart: str = ""
    tiling: Tiling = AS_IT_IS
    row_copies: tuple[Read, ...] = ()


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
        plans = {each.name: as_far_as_proved(each.graph, plans[each.name]) for each in module.entries}
        return Planned(module, replace(memory, entries=plans), requests)
    laid = best_rows(entry.graph, requests[entry.name], ask)
    if laid.graph is not entry.graph:
        module = replace(module, entries=(Entry(entry.name, laid.graph),))
    wide = spread(laid.graph, laid.plan, laid.request)
    cut = in_chunks(laid.graph, wide, laid.request)
    memory = MemoryPlan({entry.name: lend(cut, laid.request)})
    asked = {entry.name: laid.request}
    return Planned(module, memory, asked, laid.turned, laid.apart, laid.tiling, laid.row_copies)


def best_rows(graph: Graph, request: PlanRequest, ask: Ask) -> Laid:
    """The best plan of a graph, with the rows that it has or, where groups go over them, with others.

    `ask` says what kernels promise of another graph; its limits are those of `request`. Rows stay where there
    are states, staged constants, several memories or functions of the user's.
    """
    found = _best(graph, request, ask)
    return replace(found, plan=as_far_as_proved(found.graph, found.plan))


def _best(graph: Graph, request: PlanRequest, ask: Ask) -> Laid:
    found = with_readers_apart(Laid(graph, request, best_plan(graph, request)), ask)
    found = with_row_copies(with_tiles(found, ask), ask)
    other = _other(found)
    if other is None:
        plan = _of_one_axis(found.graph, found.request, found.plan)
        return replace(found, plan=plan) if _rows_stay(found) else found
    asked = limited(ask(other), found.request)
    return better(
        found, replace(found, graph=other, request=asked, plan=best_plan(other, asked), turned=True)
    )


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
