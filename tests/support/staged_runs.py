# SPDX-License-Identifier: Apache-2.0
"""Plans with staged weights, and their C run on this machine."""

from __future__ import annotations

from dataclasses import replace

from fused_c import request, staging
from mmcc.ir.graph import Graph
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target

HOST = load_target("host")


def staged_request(graph: Graph, limit: int | None = None, **more: object) -> PlanRequest:
    blocks = staging(graph, HOST, 1 << 20)
    return replace(request(graph), staging=blocks, limit=limit, effort=2.0, **more)
