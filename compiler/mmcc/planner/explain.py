# SPDX-License-Identifier: Apache-2.0
"""Why a plan does not fit, in words a person can act on, with numbers that were computed, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mmcc.errors import NAME_COLUMNS, CompileError, Exit, printable
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import Buffer, MemoryPlan, Plan
from mmcc.ir.regions import Region
from mmcc.ops.stream import ReadRows
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.cost import plan_macs
from mmcc.planner.request import PlanRequest

Replan = Callable[[Graph, PlanRequest], Plan]
MOST_WORK = 2.0  # times the model's, in what is proposed
SHOWN = 6  # buffers listed at the peak; the rest is summed
LEAST_TOLD = 1.005  # of work, in multiples of the model's
LARGEST_POINTER = 8  # bytes
STACK_OF_ROWS, STACK_OF_STRIPS = 64, 192  # bytes of stack more at most, over models and targets


def does_not_fit(
    graph: Graph,
    plan: Plan,
    request: PlanRequest,
    replan: Replan,
    besides: int = 0,
) -> CompileError:
    """The error for a plan larger than the limit; `replan` measures what else could be asked for.

    `besides` is RAM that is needed on top of the arena: remedies are told with it, as --ram counts.

    Proved too large is one exit code; a search that ended before it knew is another.
    """
    assert request.limit is not None
    region = request.regions[0]
    peak = plan.peak(region)
    step = peak_step(plan, region)
    least = plan.bound >= peak
    needs = f"{peak:,} bytes is the least possible" if least else f"best found is {peak:,} bytes"
    if not least:
        needs += f" (no plan needs less than {plan.bound:,})"
    lines = [f"the model does not fit in {request.limit:,} bytes of {region}: {needs}"]
    nodes = plan.groups[step].nodes if plan.groups else ()
    ends = dict.fromkeys(nodes[:1] + nodes[-1:])
    at = tuple(graph.nodes[k].where[0] for k in ends if graph.nodes[k].where)
    of = " to ".join(f"{k} ({graph.nodes[k].op.kernel})" for k in ends)
    alive = alive_at(plan, region, step)
    shared = sum(b.size for b in alive) - peak
    lines += [f"step {step} of {len(plan.groups)} needs it, node {of}; there live, in bytes"]
    lines += _table(alive) + ([f"{-shared:>11,}  shared by those that overlap"] if shared > 0 else [])
    impossible = plan.bound > request.limit
    return CompileError(
        "MM040" if impossible else "MM041",
        "\n".join(lines),
        exit=Exit.DOES_NOT_FIT if impossible else Exit.NO_PLAN,
        at=at,
        hint=lambda: "\n".join(_remedies(graph, request, plan, replan, besides)),
    )


def parts_do_not_fit(module: Module, plan: MemoryPlan, limit: int, hint: str) -> CompileError:
    """The error for entries that may run at the same time, and need more than `limit` bytes of arena.

    As of one plan, proved too large is one exit code, and a search that ended before it knew another.
    """
    sizes = {name: peak - plan.begins[name] for name, peak in _ends(plan).items()}
    bounds = {name: own.bound for name, own in plan.entries.items()}
    worst = max(module.cliques, key=lambda clique: sum(sizes[name] for name in clique))
    least = max(sum(bounds[name] for name in clique) for clique in module.cliques)
    lines = [
        f"models that may run at the same time do not fit in {limit:,} bytes of arena; these need, in bytes"
    ]
    lines += [
        f"{sizes[name]:>11,}  {name}, "
        + ("proved least" if own.bound >= sizes[name] else f"none below {own.bound:,}")
        for name, own in plan.entries.items()
        if name in worst
    ]
    code, status = ("MM040", Exit.DOES_NOT_FIT) if least > limit else ("MM041", Exit.NO_PLAN)
    return CompileError(code, "\n".join(lines), exit=status, hint=hint)


def _ends(plan: MemoryPlan) -> dict[str, int]:
    """Where the part of each entry ends."""
    return {
        name: max(
            (size for region, size in own.regions().items() if not region.keeps), default=plan.begins[name]
        )
        for name, own in plan.entries.items()
    }


def peak_step(plan: Plan, region: Region) -> int:
    """The step at which most bytes are alive, the first of several."""
    steps = range(max(1, len(plan.groups)))
    return max(steps, key=lambda s: (sum(b.size for b in alive_at(plan, region, s)) - _shared(plan, s), -s))


def alive_at(plan: Plan, region: Region, step: int) -> list[Buffer]:
    """Buffers of a region that hold bytes at a step, the largest first."""
    going = {t.move.buffer: t.move.target.region for t in plan.transfers if t.start <= step < t.wait}
    alive = [
        b
        for b in plan.buffers
        if b.live.lo <= step < b.live.hi and region in (plan.place_at(b.name, step).region, going.get(b.name))
    ]
    return sorted(alive, key=lambda b: (-b.size, b.name))


def _shared(plan: Plan, step: int) -> int:
    """Bytes that outputs at a step take over from inputs at their last use."""
    size = {b.name: b.size for b in plan.buffers}
    total = 0
    for o in plan.overlaps:
        if o.step == step:
            out, in_ = plan.places[o.output].offset, plan.places[o.input].offset
            total += max(0, min(out + size[o.output], in_ + size[o.input]) - max(out, in_))
    return total


def _table(buffers: list[Buffer]) -> list[str]:
    """The largest buffers, one a line, and the sum of the others."""
    lines = [f"{b.size:>11,}  {b.kind.value:<8} {printable(b.name, NAME_COLUMNS)}" for b in buffers[:SHOWN]]
    rest = buffers[SHOWN:]
    return lines + ([f"{sum(b.size for b in rest):>11,}  {len(rest)} more"] if rest else [])


@dataclass(frozen=True, slots=True)
class _Remedy:
    """What could be asked for instead: the options that do, what they mean, and the plan's request."""

    options: str
    meaning: str
    graph: Graph
    request: PlanRequest
    instead_of: str = ""  # options of a remedy of less trouble: not worth a line unless it needs less


def _remedies(graph: Graph, request: PlanRequest, plan: Plan, replan: Replan, besides: int) -> list[str]:
    """What the user could change, each with the RAM that is enough then; nothing that does not help."""
    assert request.limit is not None
    region = request.regions[0]
    peak = plan.peak(region)
    least = f"the model as it is, in the least arena{'' if plan.bound >= peak else ' found'}"
    found = [(f"--ram {peak + besides}", least if besides else "")]
    if request.limit == region.size:
        found = [(f"size = {peak}", f"of {region} in the target's file: {least}")]
    told = {"": peak + besides}
    for remedy in _options(graph, request):
        plan = replan(remedy.graph, remedy.request)
        enough = plan.peak(region) + (besides + _margin(graph, plan) if besides else 0)
        if enough < min(told[""], told.get(remedy.instead_of, told[""])):
            told[remedy.options] = enough
            fits = ", fits" if enough <= request.limit + besides else ""
            found.append(
                (f"--ram {enough} {remedy.options}", remedy.meaning + _work(remedy.graph, plan) + fits)
            )
    width = max(len(options) for options, _ in found)
    return [f"{options:<{width}}  {meaning}".rstrip() for options, meaning in found]


def _work(graph: Graph, plan: Plan) -> str:
    """What columns that are computed again cost."""
    once = replace(plan, groups=tuple(replace(group, strips=()) for group in plan.groups))
    ratio = plan_macs(graph, plan) / max(1, plan_macs(graph, once))
    return f", {ratio:.2f}x the work" if ratio > LEAST_TOLD else ""


def _margin(graph: Graph, plan: Plan) -> int:
    """What another plan's code may need beyond this one's context and stack, measured only once it is made.

    A context has up to three addresses more for a port; loops over rows and strips hold more on the stack.
    """
    pointers = 3 * (len(graph.inputs) + len(graph.outputs)) + 1
    strips = any(group.strips for group in plan.groups)
    return LARGEST_POINTER * pointers + (STACK_OF_STRIPS if strips else STACK_OF_ROWS)


def _options(graph: Graph, request: PlanRequest) -> Iterator[_Remedy]:
    """What the command line could ask for instead; the least trouble first."""
    base = replace(request, limit=None)
    again = replace(base, recompute=max(base.recompute, MOST_WORK))
    more = f" --recompute {MOST_WORK:g}" if request.fuse and again != base else ""
    if more:
        yield _Remedy(more.strip(), f"up to {MOST_WORK:g} times the work, in column strips", graph, again)
    if request.one_of_several:
        return
    everything = {"external_inputs": True, "external_outputs": True}
    if not (request.external_inputs and request.external_outputs):
        outside = replace(base, **everything)
        yield _Remedy("--io external", "inputs and outputs in the caller's memory", graph, outside)
    if request.fuse and not any(isinstance(node.op, ReadRows) for node in graph.nodes):
        meaning = "row by row through callbacks"
        yield _Remedy("--io rows", meaning, *_by_rows(graph, replace(base, **everything), again=False))
        meaning = "row by row, inputs as often as asked for"
        fed = _by_rows(graph, replace(again, **everything), again=True)
        yield _Remedy(f"--io rows-again{more}", meaning, *fed, instead_of="--io rows")


def _by_rows(graph: Graph, request: PlanRequest, *, again: bool) -> tuple[Graph, PlanRequest]:
    """The graph with callbacks at its ends; nodes have other numbers then."""
    shift, staging = len(graph.inputs), request.staging
    return stream_ports(graph, again=again), replace(
        request,
        scratch={node + shift: size for node, size in request.scratch.items()},
        ordered={node + shift: kind for node, kind in request.ordered.items()},
        pixels={node + shift: count for node, count in request.pixels.items()},
        accumulators={node + shift: size for node, size in request.accumulators.items()},
        riders={node + shift: tuple(k + shift for k in some) for node, some in request.riders.items()},
        staging=staging and replace(staging, tilings={k + shift: w for k, w in staging.tilings.items()}),
    )
