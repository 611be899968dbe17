# SPDX-License-Identifier: Apache-2.0
"""What is asked of the planner: what the options want, and what kernels promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mmcc.driver.cost import cost_of
from mmcc.driver.load import dump
from mmcc.driver.memories import least_of, regions_of
from mmcc.driver.options import CompileOptions, Progress
from mmcc.driver.promised import request_from
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Useful
from mmcc.kernels.contract import KernelContract, contracts
from mmcc.kernels.scratch import REPEAT_ALIGN
from mmcc.ops.repeat import Repeat
from mmcc.planner.request import PlanRequest
from mmcc.planner.riders import riders
from mmcc.target import Target

MOST_RECOMPUTE = 2.0  # with --ram N, and none is given: what is computed again costs, and is chosen last


def plan_request(options: CompileOptions, graph: Graph, target: Target, progress: Progress) -> PlanRequest:
    """What the options ask of the planner."""
    external = options.io != "arena"
    regions = regions_of(options, target)
    by_region = _by_region(options, target)
    promised = promises(options, graph, target)
    limited = bool(options.ram) or any(region.size is not None for region in regions)
    asked = request_from(promised, staged=options.weights == "staged")
    aligned = [node.handoff.align for node in graph.nodes if node.handoff is not None]
    aligned += [REPEAT_ALIGN for node in graph.nodes if isinstance(node.op, Repeat)]
    return replace(
        asked,
        align=max(asked.align, *aligned, 1),
        riders=riders(graph, asked.accumulators),
        regions=regions,
        useful=_useful(asked, options, target, limited=limited) if not by_region else {},
        background=options.background_moves,
        by_region=by_region,
        least=least_of(options, target),
        external_inputs=external,
        external_outputs=external,
        fuse=options.least_ram,
        recompute=options.recompute or (MOST_RECOMPUTE if options.ram else 1.0),
        cost=cost_of(target),
        caches=target.cache,
        threads=options.threads,
        constants_cost=target.weights_cost,
        effort=options.time_limit,
        budget=options.budget,
        progress=progress,
    )


def in_one_memory(request: PlanRequest, target: Target) -> PlanRequest:
    """The same in the first of the target's memories alone, which one size for all RAM is about: for plans
    whose bytes are to be one number."""
    return replace(request, regions=target.memory[:1], by_region=False, least=())


def promises(options: CompileOptions, graph: Graph, target: Target) -> tuple[KernelContract, ...]:
    """What kernels promise of a graph; --dump has what was asked for last."""
    fetch = _by_region(options, target) and target.weights_cost > 0 and options.weights != "staged"
    parts = options.threads > 1
    promised = contracts(graph, target, _block_limit(options, graph), fetch=fetch, parts=parts)
    if options.dump:
        lines = (f"{index}: {each}" for index, each in enumerate(promised))
        dump(options.dump, "3-contracts.txt", "\n".join(lines))
    return promised


def _by_region(options: CompileOptions, target: Target) -> bool:
    return bool(options.regions) or len(regions_of(options, target)) > 1


def _useful(
    asked: PlanRequest, options: CompileOptions, target: Target, *, limited: bool
) -> Mapping[int, tuple[Useful, ...]]:
    """Memory that may be lent to kernels: with a limit, or what nothing needs of the least arena. Where stack
    counts, only kernels that then take less of it get some."""
    if not (limited or options.least_ram):
        return {}
    if not target.small_frames:
        return asked.useful
    offers = {node: tuple(each for each in some if each.less_stack) for node, some in asked.useful.items()}
    return {node: some for node, some in offers.items() if some}


def _block_limit(options: CompileOptions, graph: Graph) -> int:
    """The largest block of staged weights that can be of use; 0 if weights are not staged."""
    if options.weights != "staged":
        return 0
    return options.ram or max(2 * max((t.bytes for t in graph.tensors.values()), default=0), 64 * 1024)
