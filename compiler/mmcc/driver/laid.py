# SPDX-License-Identifier: Apache-2.0
"""A graph in the form in which it was planned, and the better of two forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.passes.copy_rows import Read
from mmcc.passes.tiling import AS_IT_IS, Tiling
from mmcc.planner.caches import predicted
from mmcc.planner.request import PlanRequest

Ask = Callable[[Graph], PlanRequest]


@dataclass(frozen=True, slots=True)
class Laid:
    """A graph as it was planned, what was asked, and the plan.

    `turned`: it is that of `other_rows`. `apart`: it is that of `read_apart`, ONCE or AGAIN. `tiling` says
    what is made in tiles and slices. `row_copies` are the reads of `copy_rows`.
    """

    graph: Graph
    request: PlanRequest
    plan: Plan
    turned: bool = False
    apart: str = ""
    tiling: Tiling = AS_IT_IS
    row_copies: tuple[Read, ...] = ()


def limited(asked: PlanRequest, request: PlanRequest) -> PlanRequest:
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
        budget=request.budget,
    )


def better(first: Laid, second: Laid) -> Laid:
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
