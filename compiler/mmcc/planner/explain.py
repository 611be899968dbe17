"""Why a plan does not fit, in words a person can act on, with numbers that were computed, not guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, Plan
from mmcc.planner.request import PlanRequest

SHOWN = 6  # buffers listed at the peak; the rest is summed


def does_not_fit(
    graph: Graph,
    plan: Plan,
    request: PlanRequest,
    replan: Callable[[PlanRequest], Plan],
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
        hint="; ".join(_remedies(request, peak, replan, besides)),
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


def _remedies(
    request: PlanRequest, peak: int, replan: Callable[[PlanRequest], Plan], besides: int
) -> list[str]:
    """What the user could change, each with the RAM it leads to; nothing that does not help."""
    assert request.limit is not None
    found = [f"give it {peak + besides:,} bytes"]
    options = {
        "inputs in memory of the caller's": replace(request, limit=None, external_inputs=True),
        "outputs in memory of the caller's": replace(request, limit=None, external_outputs=True),
        "inputs and outputs in memory of the caller's": replace(
            request, limit=None, external_inputs=True, external_outputs=True
        ),
    }
    best = peak
    for what, other in options.items():
        if (other.external_inputs, other.external_outputs) == (
            request.external_inputs,
            request.external_outputs,
        ):
            continue
        needed = replan(other).peak(request.tiers[0])
        if needed < best:
            best = needed
            fits = ", which fits" if needed <= request.limit else ""
            found.append(f"{what}: {needed + besides:,} bytes{fits}")
    return found
