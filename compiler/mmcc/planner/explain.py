"""Why a plan does not fit, in words a person can act on, with numbers that were computed, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, Plan
from mmcc.ops.stream import ReadRows
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.request import PlanRequest

Replan = Callable[[Graph, PlanRequest], Plan]
MOST_WORK = 2.0  # times the model's, in what is proposed
SHOWN = 6  # buffers listed at the peak; the rest is summed


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
    tier = request.tiers[0]
    peak = plan.peak(tier)
    step = peak_step(plan, tier)
    least = plan.bound >= peak
    needs = f"{peak:,} bytes is the least possible" if least else f"best found is {peak:,} bytes"
    if not least:
        needs += f" (no plan needs less than {plan.bound:,})"
    living = ", ".join(_describe(b) for b in _largest(alive_at(plan, tier, step)))
    message = f"the model does not fit in {request.limit:,} bytes of {tier}: {needs}; step {step} of "
    message += f"{len(plan.groups)} needs it, where these live: {living}"
    nodes = plan.groups[step].nodes if plan.groups else ()
    ends = dict.fromkeys(k for k in (nodes[:1] + nodes[-1:]))
    at = tuple(graph.nodes[k].where[0] for k in ends if graph.nodes[k].where)
    if not at:
        message += "".join(f" (node {k}, {graph.nodes[k].op})" for k in nodes)
    impossible = plan.bound > request.limit
    return CompileError(
        "MM040" if impossible else "MM041",
        message,
        exit=Exit.DOES_NOT_FIT if impossible else Exit.NO_PLAN,
        at=at,
        hint="; ".join(_remedies(graph, request, peak, replan, besides)),
    )


def peak_step(plan: Plan, tier: str) -> int:
    """The step at which most bytes are alive, the first of several."""
    steps = range(max(1, len(plan.groups)))
    return max(steps, key=lambda s: (sum(b.size for b in alive_at(plan, tier, s)) - _shared(plan, s), -s))


def alive_at(plan: Plan, tier: str, step: int) -> list[Buffer]:
    """Buffers of a tier that hold bytes at a step, the largest first."""
    alive = [b for b in plan.buffers if plan.places[b.name].tier == tier and b.live.lo <= step < b.live.hi]
    return sorted(alive, key=lambda b: (-b.size, b.name))


def _shared(plan: Plan, step: int) -> int:
    """Bytes that outputs at a step take over from dying inputs."""
    size = {b.name: b.size for b in plan.buffers}
    total = 0
    for o in plan.overlaps:
        if o.step == step:
            out, in_ = plan.places[o.output].offset, plan.places[o.input].offset
            total += max(0, min(out + size[o.output], in_ + size[o.input]) - max(out, in_))
    return total


def _describe(buffer: Buffer) -> str:
    return f'{buffer.kind.value} "{printable(buffer.name)}" {buffer.size:,}'


def _largest(buffers: list[Buffer]) -> list[Buffer]:
    return buffers[:SHOWN]


def _remedies(graph: Graph, request: PlanRequest, peak: int, replan: Replan, besides: int) -> list[str]:
    """What the user could change, each with the RAM it leads to; nothing that does not help."""
    assert request.limit is not None
    found = [f"give it {peak + besides:,} bytes"]
    for what, changed, other in _options(graph, request):
        needed = replan(changed, other).peak(request.tiers[0])
        if needed < peak:
            fits = ", which fits" if needed <= request.limit else ""
            found.append(f"{what}: {needed + besides:,} bytes{fits}")
    return found


def _options(graph: Graph, request: PlanRequest) -> Iterator[tuple[str, Graph, PlanRequest]]:
    """What could be asked for instead; the least trouble first."""
    asked = request.external_inputs, request.external_outputs
    base = replace(request, limit=None)
    again = replace(base, recompute=max(base.recompute, MOST_WORK))
    ways = {
        "inputs in memory of the caller's": (True, request.external_outputs),
        "outputs in memory of the caller's": (request.external_inputs, True),
        "inputs and outputs in memory of the caller's": (True, True),
    }
    if request.fuse and again != base:
        yield f"up to {MOST_WORK:g} times the work, in column strips", graph, again
    for what, (inputs, outputs) in ways.items():
        if (inputs, outputs) != asked and (inputs or not request.external_inputs):
            yield what, graph, replace(base, external_inputs=inputs, external_outputs=outputs)
    if request.fuse and not any(isinstance(node.op, ReadRows) for node in graph.nodes):
        everything = {"external_inputs": True, "external_outputs": True}
        yield "inputs and outputs row by row", *_by_rows(graph, replace(base, **everything), again=False)
        if again != base:
            what = f"inputs that are read again row by row, and up to {MOST_WORK:g} times the work"
            yield what, *_by_rows(graph, replace(again, **everything), again=True)


def _by_rows(graph: Graph, request: PlanRequest, *, again: bool) -> tuple[Graph, PlanRequest]:
    """The graph with callbacks at its ends; nodes have other numbers then."""
    shift = len(graph.inputs)
    return stream_ports(graph, again=again), replace(
        request,
        scratch={node + shift: size for node, size in request.scratch.items()},
        pixels={node + shift: count for node, count in request.pixels.items()},
        accumulators={node + shift: size for node, size in request.accumulators.items()},
    )
