# SPDX-License-Identifier: Apache-2.0
"""What the options ask of the planner."""

from __future__ import annotations

from mmcc.codegen.staged import staging
from mmcc.driver.options import CompileOptions, Progress
from mmcc.ir.graph import Graph
from mmcc.kernels.accumulate import accumulators
from mmcc.kernels.traits import pixels_at_once
from mmcc.planner.request import PlanRequest, Staging
from mmcc.target import Target

MOST_RECOMPUTE = 2.0  # with --ram N, and none is given: what is computed again costs, and is chosen last


def plan_request(options: CompileOptions, graph: Graph, target: Target, progress: Progress) -> PlanRequest:
    """What the options ask of the planner."""
    external = options.io != "arena"
    return PlanRequest(
        external_inputs=external,
        external_outputs=external,
        pixels=pixels_at_once(graph),
        accumulators=accumulators(graph),
        staging=_staging(options, graph, target),
        fuse=options.least_ram,
        recompute=options.recompute or (MOST_RECOMPUTE if options.ram else 1.0),
        cost=target.cost,
        effort=options.time_limit,
        progress=progress,
    )


def _staging(options: CompileOptions, graph: Graph, target: Target) -> Staging | None:
    if options.weights != "staged":
        return None
    most = options.ram or max(2 * max(t.bytes for t in graph.tensors.values()), 64 * 1024)
    return staging(graph, target, most)
