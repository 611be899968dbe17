# SPDX-License-Identifier: Apache-2.0
"""The limits that a package must keep: RAM is known once its C is compiled, and the C depends on the plan."""

from __future__ import annotations

from dataclasses import replace

from mmcc.driver.build import Built, Job, build
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.planner.api import best_plan
from mmcc.planner.explain import does_not_fit
from mmcc.planner.request import PlanRequest
from mmcc.report.model import Report
from mmcc.sizes import readable

ROUNDS = 3  # plans made at most until arena, context, static data and stack are within the limit together
BESIDES = (
    32  # part of RAM, one of so many, that stack and context are guessed to take, where a guess is needed
)


def package_within(job: Job, request: PlanRequest) -> Built:
    """The package within its limits: what RAM holds besides the arena is known once it is compiled."""
    if request.staging is not None and job.options.ram:  # there is no plan that does without a limit
        request = replace(request, fuse=True, limit=job.options.ram - job.options.ram // BESIDES)
    built = build(job, request)
    for _ in range(ROUNDS):
        ram = built.report["ram"]
        if not job.options.ram or ram["total"] <= job.options.ram:
            break
        arena = job.options.ram - (ram["total"] - ram["arena"])
        request = replace(request, fuse=True, limit=max(0, arena))
        built = build(job, request)
        if built.plan.peak(request.regions[0]) > arena:
            break
    _check_limits(job.graph, built.plan, built.report, job.options, request)
    return built


def _check_limits(
    graph: Graph, plan: Plan, report: Report, options: CompileOptions, request: PlanRequest
) -> None:
    ram, flash = report["ram"], report["flash"]
    if options.ram and ram["total"] > options.ram:
        raise _ram_exceeded(graph, plan, ram, request)
    if options.flash and flash["total"] > options.flash:
        raise CompileError(
            "MM502",
            f"{flash['total']:,} bytes of flash are needed, {readable(options.flash)} are allowed: weights "
            f"{flash['weights']:,}, code and tables {flash['code']:,}",
            exit=Exit.DOES_NOT_FIT,
            hint=_less_flash(graph, flash["total"]),
        )


def _less_flash(graph: Graph, total: int) -> str:
    """Options that are enough; and what quantization would save, if there are floats to quantize."""
    floats = sum(graph.tensors[name].bytes for name in graph.constants if graph.tensors[name].dtype.is_float)
    lines = [f"--flash {total}"]
    if 2 * floats > total:
        lines.append(f"quantizing the model: {floats:,} bytes are float weights, int8 has a quarter of that")
    return "\n".join(lines)


def _ram_exceeded(graph: Graph, plan: Plan, ram: dict[str, int], request: PlanRequest) -> CompileError:
    """The planner's explanation of the arena, with what RAM holds besides it."""
    besides = ram["total"] - ram["arena"]
    limited = replace(request, limit=max(0, ram["limit"] - besides))
    arena = does_not_fit(graph, plan, limited, best_plan, besides)
    message = (
        f"{ram['total']:,} bytes of RAM are needed, {ram['limit']:,} are allowed; {besides:,} are for "
        f"context ({ram['context']:,}), static data ({ram['static']:,}) and worst-case stack "
        f"({ram['stack']:,}), and of the arena: {arena.message}"
    )
    return CompileError(arena.code, message, exit=arena.exit, at=arena.at, hint=arena.hint)
