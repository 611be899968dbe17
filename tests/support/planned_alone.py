# SPDX-License-Identifier: Apache-2.0
"""Plans in which every node runs alone."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.planner.api import best_plan
from mmcc.planner.explain import does_not_fit
from mmcc.planner.request import PlanRequest


def planned_alone(graph: Graph, request: PlanRequest | None = None) -> Plan:
    """The best plan without groups; CompileError if it is above the limit of the request."""
    request = replace(request or PlanRequest(), fuse=False)
    made = best_plan(graph, request)
    if request.limit is not None and request.peak(made) > request.limit:
        raise does_not_fit(graph, made, request, best_plan)
    return made
