# SPDX-License-Identifier: Apache-2.0
"""The limits that a package must keep: RAM is known once its C is compiled, and the C depends on the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mmcc.driver.ask import plan_request
from mmcc.driver.build import Built, Job, build, package_of
from mmcc.driver.cost import cost_of
from mmcc.driver.estimate import code_bytes
from mmcc.driver.memories import home_of
from mmcc.driver.weights_in_ram import check_one_memory, copies_weights, with_weights_in_ram
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import Group, Plan
from mmcc.kernels.contract import has_small_frames
from mmcc.ops.repeat import with_bodies
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.explain import does_not_fit, parts_do_not_fit
from mmcc.planner.request import PlanRequest
from mmcc.sizes import readable

ROUNDS = 3  # plans made at most until arena, context, static data and stack are within the limit together
LENDING = 1  # the same, where kernels are lent what the limit leaves
# times that kernels with small frames take where [cost_of_small_frames] does not say: on a Cortex-M4,
SLOWER = 1.1  # 9 % more instructions for depthwise windows of 5x5, and up to 5 % for other nets
BESIDES = (
    32  # part of RAM, one of so many, that stack and context are guessed to take, where a guess is needed
)


def package_within(job: Job, requests: Mapping[str, PlanRequest]) -> Built:
    """The package within its limits, with what flash has room for made larger for faster kernels.

    How much code there is beside the weights is guessed; where that was too little, less is made larger.
    """
    if job.options.weights_in_ram:
        check_one_memory(job.target)
    built = _package(job, _with_growth(requests, _growth(job)))
    for last in (False, True):
        over = built.report["flash"]["total"] - job.options.flash
        grown = sum(plan.grown for plan in built.plan.entries.values())
        if over <= 0 or not grown:
            break
        built = _package(job, _with_growth(requests, 0 if last else max(0, grown - over)))
    _check_limits(job, built)
    if copies_weights(job):
        built = with_weights_in_ram(job, built)
        _check_limits(job, built)
    return built


def _growth(job: Job) -> int:
    """Bytes by which constants may grow: what a limit of flash leaves beside them and the code."""
    graphs = [entry.graph for entry in job.module.entries]
    if not job.options.flash or job.options.stack or len(graphs) > 1:
        return 0
    constants = sum(array.nbytes for graph in with_bodies(graphs[0]) for array in graph.constants.values())
    return max(0, job.options.flash - constants - code_bytes(graphs[0]))


def _with_growth(requests: Mapping[str, PlanRequest], growth: int) -> dict[str, PlanRequest]:
    return {name: replace(request, growth=growth) for name, request in requests.items()}


def _package(job: Job, requests: Mapping[str, PlanRequest]) -> Built:
    """The package in as much RAM as there may be: what it holds besides the arena is known once it is
    compiled."""
    if any(request.by_region for request in requests.values()):
        return _within_memories(job, requests)
    staged = any(request.staging is not None for request in requests.values())
    if staged and job.options.ram:  # there is no plan that does without a limit
        requests = _limited(requests, job.options.ram - job.options.ram // BESIDES)
    elif not job.options.least_ram:
        requests = _limited(requests, None)
    built = _lent_or_not(job, requests)
    if not job.target.bare_metal or job.target.small_frames or not has_small_frames(job.target):
        return built
    if _fits(job, built) and (staged or not job.options.ram or not _costs_more(built)):
        return built
    small = replace(job, target=replace(job.target, small_frames=True))  # as --ram min has them
    other = _lent_or_not(small, _asked_again(small, requests))
    if not _fits(job, built):
        return other  # what is refused is told by what these need
    slower = 1.0 if job.target.cost_of_small_frames else SLOWER
    fits = _fits(job, other) and (_fits_flash(job, other) or not _fits_flash(job, built))
    if fits and slower * _cost(other) < _cost(built):
        return other
    return package_of(job, built, built.plan.entries)


def _costs_more(built: Built) -> bool:
    """Whether a plan costs so much more than its nodes alone that kernels with small frames, which leave more
    of a limit to the arena, may be worth while: it computes something again, or calls kernels row by row."""
    entries = {
        name: replace(plan, groups=tuple(Group((k,)) for group in plan.groups for k in group.nodes))
        for name, plan in built.plan.entries.items()
    }
    alone = replace(built, planned=replace(built.planned, memory=replace(built.plan, entries=entries)))
    return _cost(built) > SLOWER * _cost(alone)


def _cost(built: Built) -> float:
    """Predicted work of all entries."""
    plans, requests = built.plan.entries, built.planned.requests
    entries = built.planned.module.entries
    return sum(predicted(each.graph, plans[each.name], requests[each.name]) for each in entries)


def _asked_again(job: Job, requests: Mapping[str, PlanRequest]) -> dict[str, PlanRequest]:
    """The requests with what kernels of the job's target cost, and what these may be lent."""
    ask = partial(plan_request, job.options, target=job.target, progress=job.progress)
    useful = {entry.name: ask(entry.graph).useful for entry in job.module.entries}
    cost = cost_of(job.target)
    return {name: replace(r, useful=useful[name], cost=cost) for name, r in requests.items()}


def _lent_or_not(job: Job, requests: Mapping[str, PlanRequest]) -> Built:
    """The package with kernels that are lent memory or, where these change the stack from round to round, or
    are what is too much, without; if neither keeps the limit, what needs less."""
    built = _within(job, requests, ROUNDS if job.target.small_frames else LENDING)
    if not _fits(job, built) and any(request.useful for request in requests.values()):
        requests = {name: replace(r, useful={}) for name, r in requests.items()}
        built = min(built, _within(job, requests, ROUNDS), key=lambda each: each.report["ram"]["total"])
    return built


def _fits(job: Job, built: Built) -> bool:
    return not job.options.ram or built.report["ram"]["total"] <= job.options.ram


def _fits_flash(job: Job, built: Built) -> bool:
    return not job.options.flash or built.report["flash"]["total"] <= job.options.flash


def _within(job: Job, requests: Mapping[str, PlanRequest], rounds: int) -> Built:
    """The package, with so many rounds at most to keep the limit."""
    if not any(request.useful for request in requests.values()):
        rounds = ROUNDS
    built = build(job, requests)
    for _ in range(rounds):
        ram = built.report["ram"]
        if _fits(job, built):
            break
        arena = job.options.ram - (ram["total"] - ram["arena"])
        arena -= arena % home_of(job.target).align  # of which an arena's size is a multiple
        requests = _limited(requests, max(0, arena))
        built = build(job, requests)
        if any(requests[name].peak(plan) > arena for name, plan in built.plan.entries.items()):
            break
    return built


def _within_memories(job: Job, requests: Mapping[str, PlanRequest]) -> Built:
    """The package within what is allowed of each memory; that of variables has more than an arena."""
    home = home_of(job.target).name
    most = job.options.regions.get(home, 0)
    built = build(job, requests)
    for _ in range(ROUNDS if most else 0):  # a memory that --ram does not name is not in the report
        (here,) = (r for r in built.report["ram"]["regions"] if r["name"] == home)
        if here["bytes"] + here["besides"] <= most:
            break
        fixed = here["besides"] - here["states"]
        job.progress(f"{fixed} bytes of {home} are neither arena nor states")
        requests = {name: _cut(request, home, max(0, most - fixed)) for name, request in requests.items()}
        built = build(job, requests)
    return built


def _cut(request: PlanRequest, name: str, size: int) -> PlanRequest:
    """The request with so many bytes of one region."""
    regions = (replace(r, size=size) if r.name == name else r for r in request.regions)
    return replace(request, regions=tuple(regions))


def _limited(requests: Mapping[str, PlanRequest], most: int | None) -> dict[str, PlanRequest]:
    """The requests, each for at most so many bytes of arena, and no more than its region has."""
    found: dict[str, PlanRequest] = {}
    for name, request in requests.items():
        limits = [limit for limit in (most, request.regions[0].size) if limit is not None]
        found[name] = replace(request, fuse=True, limit=min(limits)) if limits else request
    return found


def _check_limits(job: Job, built: Built) -> None:
    options, requests, module = job.options, built.planned.requests, built.planned.module
    ram, flash = built.report["ram"], built.report["flash"]
    plans = built.plan.entries
    entry = max(module.entries, key=lambda entry: requests[entry.name].peak(plans[entry.name]))
    plan, request = plans[entry.name], requests[entry.name]
    if options.ram and ram["total"] > options.ram and job.module.concurrent:
        besides = ram["total"] - ram["arena"]
        hint = f"--ram {ram['total']}, {besides:,} of it besides the arena, or fewer models in --concurrent"
        raise parts_do_not_fit(job.module, built.plan, max(0, options.ram - besides), hint)
    if options.ram and ram["total"] > options.ram:
        raise _ram_exceeded(entry.graph, plan, ram, request)
    for region in ram["regions"]:
        if region["limit"] and region["bytes"] + region["besides"] > region["limit"]:
            raise _memory_exceeded(region)
    if options.flash and flash["total"] > options.flash:
        raise CompileError(
            "MM502",
            f"{flash['total']:,} bytes of flash are needed, {readable(options.flash)} are allowed: weights "
            f"{flash['weights']:,}, code and tables {flash['code']:,}",
            exit=Exit.DOES_NOT_FIT,
            hint=_less_flash(module, flash["total"]),
        )


def _memory_exceeded(region: dict[str, Any]) -> CompileError:
    """The arena and what lies beside it were still too large together after some rounds."""
    needed = region["bytes"] + region["besides"]
    return CompileError(
        "MM041",
        f"{needed:,} bytes of {region['name']} are needed, {region['limit']:,} are allowed: an arena of "
        f"{region['bytes']:,}, and {region['besides']:,} of context, static data, states and stack",
        exit=Exit.NO_PLAN,
    )


def _less_flash(module: Module, total: int) -> str:
    """Options that are enough; and what quantization would save, if there are floats to quantize."""
    graphs = [entry.graph for entry in module.entries]
    bytes_of = {n: g.tensors[n].bytes for g in graphs for n in g.constants if g.tensors[n].dtype.is_float}
    floats = sum(bytes_of.values())
    lines = [f"--flash {total}"]
    if 2 * floats > total:
        lines.append(f"quantizing the model: {floats:,} bytes are float weights, int8 has a quarter of that")
    return "\n".join(lines)


def _ram_exceeded(graph: Graph, plan: Plan, ram: dict[str, int], request: PlanRequest) -> CompileError:
    """The planner's explanation of the arena, with what RAM holds besides it."""
    besides = ram["total"] - ram["arena"]
    limited = replace(request, limit=max(0, ram["limit"] - besides))
    filled = ram["arena"] - request.peak(plan)  # a multiple of its alignment, where states follow it
    arena = does_not_fit(graph, plan, limited, best_plan, besides + filled)
    states = f"states ({ram['state']:,}), " if ram["state"] else ""
    workers = f" and those of other threads ({ram['workers']:,})" if ram["workers"] else ""
    message = (
        f"{ram['total']:,} bytes of RAM are needed for the least arena, {ram['limit']:,} are allowed; "
        f"{besides:,} are for "
        f"{states}context ({ram['context']:,}), static data ({ram['static']:,}) and worst-case stack "
        f"({ram['stack']:,}){workers}, and of the arena: {arena.message}"
    )
    return CompileError(arena.code, message, exit=arena.exit, at=arena.at, hint=lambda: arena.hint)
