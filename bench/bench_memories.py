# SPDX-License-Identifier: Apache-2.0
"""Plans in several memories against plans in one, and against a greedy choice of memories by size.

    python bench/bench_memories.py MODEL [--target stm32h743] [--ram dtcm=128K,axi=512K] [--count]

Lines: the best plan in each memory alone; the same plan as the best of these with its buffers put into the
fastest memory by size, the smallest or the largest first, as far as they fit; and the plan that mmcc chooses.
Columns: predicted cost in millions of cycles, what no plan is below, bytes of each arena, bytes read and
written in each. With --count the same as QEMU counts it: instructions, or the core's modelled cycles where
predictions are in cycles, and bytes times their costs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmcc.boards import board_of
from mmcc.checker.plan import check_plan
from mmcc.driver import build
from mmcc.driver.ask import plan_request
from mmcc.driver.compile import compile_model
from mmcc.driver.load import load_graph
from mmcc.driver.memories import parse_ram
from mmcc.driver.options import CompileOptions
from mmcc.driver.rows import Planned
from mmcc.driver.twin import in_place
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Place, Plan
from mmcc.ir.regions import Region
from mmcc.package.record import load_package
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.memory.placement import place
from mmcc.planner.regions.traffic import access_cost, constants_cost, region_traffic
from mmcc.planner.request import PlanRequest
from mmcc.target import Target, load_target
from mmcc.verification.compare import run_qemu
from mmcc.verification.cycles import bench_cycles
from mmcc.verification.samples import made_up


def by_size(graph: Graph, plan: Plan, request: PlanRequest, *, largest: bool) -> Plan | None:
    """The plan with each buffer in the fastest memory in which it still fits, one after the other by size."""
    plan = in_place(plan)
    inside = [b for b in plan.buffers if isinstance(plan.places[b.name].region, Region)]
    homes: dict[Region, list[str]] = {region: [] for region in request.regions}
    places = dict(plan.places)
    overlaps = [replace(o, backward=None) for o in plan.overlaps]
    for b in sorted(inside, key=lambda b: (-b.size if largest else b.size, b.name)):
        for region in request.regions:
            names = {*homes[region], b.name}
            here = [other for other in inside if other.name in names]
            own = [o for o in overlaps if {o.output, o.input} <= names]
            found = place(here, own, region.size, effort=1.0)
            if region.size is None or found.peak <= region.size:
                homes[region].append(b.name)
                places |= {name: Place(region, at) for name, at in found.offsets.items()}
                break
        else:
            return None
    groups = tuple(replace(group, backward=False) for group in plan.groups)
    same = tuple(o for o in overlaps if places[o.output].region == places[o.input].region)
    buffers = tuple(replace(b, regions=request.regions) if b in inside else b for b in plan.buffers)
    made = replace(plan, places=places, overlaps=same, groups=groups, buffers=buffers)
    cost = predicted(graph, made, request) + access_cost(graph, made, request)
    cost += constants_cost(graph, made, request)
    return replace(made, cost=cost, least_cost=0.0)


def plans(graph: Graph, request: PlanRequest) -> dict[str, Plan]:
    """The plans to be compared, by what they are."""
    found: dict[str, Plan] = {}
    for region in request.regions:
        try:
            found[f"{region} alone"] = best_plan(graph, replace(request, regions=(region,)))
        except CompileError:
            print(f"{region} alone: no plan")
    best = min(found.values(), key=lambda plan: plan.cost, default=None)
    for largest in (False, True):
        greedy = by_size(graph, best, request, largest=largest) if best is not None else None
        if greedy is not None:
            found[f"by size, {'largest' if largest else 'smallest'} first"] = greedy
    start = time.process_time()
    found["chosen"] = best_plan(graph, request)
    print(f"chosen in {time.process_time() - start:.1f} CPU s")
    for name, plan in found.items():
        wrong = check_plan(graph, plan)
        if wrong:
            raise ValueError(f"{name}: {wrong}")
    return found


def counted(model: Path, options: CompileOptions, plan: Plan) -> tuple[int, Mapping[str, tuple[int, int]]]:
    """Work of one inference in the target's unit, and bytes read and written in each arena, as counted."""
    with tempfile.TemporaryDirectory() as folder:
        usual = build.plan_rows

        def planned(module: Module, requests: Mapping[str, PlanRequest], _: Any) -> Planned:
            return Planned(module, MemoryPlan.of(plan), requests)

        build.plan_rows = planned
        try:  # within what the target has: limits are for arenas here
            compile_model(model, Path(folder) / "net", replace(options, regions={}))
        finally:
            build.plan_rows = usual
        package = load_package(Path(folder) / "net")
        samples = made_up(package.inputs, 1)
        _, run = run_qemu(Path(folder) / "net", package, samples, profile=True)
        regions = [region.name for region in plan.regions()]
        accesses = run.accesses if len(regions) > 1 else {regions[0]: run.accesses["arena"]}
        target = load_target(options.target)
        if target.cost_unit == "instructions":
            return run.instructions[0], accesses
        return bench_cycles(Path(folder) / "net", package, board_of(target))["core"], accesses


def show(name: str, plan: Plan, graph: Graph, request: PlanRequest) -> None:
    """One line of predictions."""
    size = plan.regions()
    parts = [
        f"{region} {size.get(region, 0):,} (read {traffic.read:,.0f}, written {traffic.written:,.0f})"
        for region, traffic in region_traffic(graph, plan, request).items()
    ]
    bound = f", none below {plan.least_cost / 1e6:,.3f}" if plan.least_cost else ""
    proved = " (proved)" if plan.cheapest and plan.least_cost else bound
    print(f"{name:<24}{plan.cost / 1e6:>12,.3f}{proved}; {'; '.join(parts)}")


def main(arguments: Sequence[str]) -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="stm32h743")
    parser.add_argument("--ram", default="")
    parser.add_argument("--count", action="store_true")
    given = parser.parse_args(arguments)
    target: Target = load_target(given.target)
    options = CompileOptions(
        target=given.target, regions=parse_ram(given.ram).regions, self_check=False, name="net"
    )
    graph = load_graph(given.model, options, lambda *_: None)
    request = replace(plan_request(options, graph, target, lambda *_: None), by_region=True)
    found = plans(graph, request)
    for name, plan in found.items():
        show(name, plan, graph, request)
    costs = {region.name: region for region in request.regions}
    for name, plan in found.items() if given.count else ():
        work, accesses = counted(given.model, options, plan)
        total = work + sum(
            read * costs[region].read_cost + written * (costs[region].write_cost or 0.0)
            for region, (read, written) in accesses.items()
        )
        print(f"{name:<24}{total / 1e6:>12,.3f} counted: {work:,} {target.cost_unit}, {dict(accesses)}")


if __name__ == "__main__":
    main(sys.argv[1:])
