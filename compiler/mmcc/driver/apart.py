# SPDX-License-Identifier: Apache-2.0
"""A plan of the graph whose layers make what is read row by row apart, where that is better."""

from __future__ import annotations

from mmcc.driver.laid import Ask, Laid, better, limited
from mmcc.passes.read_apart import AGAIN, ONCE, read_apart
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.bound import trivial_bound


def with_readers_apart(found: Laid, ask: Ask) -> Laid:
    """The best plan of a graph, or of it after `read_apart`, where groups are searched and no limit is kept.

    Operators are computed again where `--recompute` is above 1.

    `ask` says what kernels promise of another graph. A graph stays as it is where there are states, staged
    constants, several memories or functions of the user's.
    """
    graph, request, plan = found.graph, found.request, found.plan
    within = request.limit is not None and request.peak(plan) <= request.limit
    if not request.fuse or within or request.by_region or request.staging is not None:
        return found
    if graph.states or any(node.handoff for node in graph.nodes):
        return found
    if request.peak(plan) <= trivial_bound(graph, request):
        return found
    apart = AGAIN if request.recompute > 1 else ONCE
    other = read_apart(graph, apart)
    if other is None:
        return found
    asked = limited(ask(other), request)
    return better(found, Laid(other, asked, best_plan(other, asked), apart=apart))
