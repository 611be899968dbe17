# SPDX-License-Identifier: Apache-2.0
"""Outputs moved away from what their nodes read, where kernels are faster so and there is room below the
peak.

A placement lays outputs over inputs wherever that is allowed, also where nothing is gained by it. Nothing
else is moved, and the peak stays, so what was proved of the plan holds.
"""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, Group, Plan
from mmcc.ir.regions import Place, Region
from mmcc.planner.chunks import free_of_itself
from mmcc.planner.request import PlanRequest


def spread(graph: Graph, plan: Plan, request: PlanRequest) -> Plan:
    """The plan with the outputs of `request.spread` apart from their inputs, where that costs no bytes.

    Of nodes that run alone; first the output looks for another place, then what is read."""
    region = request.regions[0]
    if plan.transfers or request.by_region or request.staging is not None:
        return plan
    peak = plan.peak(region)
    for step, group in enumerate(plan.groups):
        index = group.nodes[0]
        alone = len(group.nodes) == 1 and not (group.strips or group.accumulating)
        if index not in request.spread or not alone or free_of_itself(graph, plan, index, step):
            continue
        node = graph.nodes[index]
        for tensor in (*node.outputs, *graph.activations(node)):
            moved = _moved(plan, plan.slots[tensor].buffer, region, peak)
            if moved is not None:
                plan = moved
                break
    return replace(plan, groups=tuple(_forward(plan, step, request) for step in range(len(plan.groups))))


def _moved(plan: Plan, name: str, region: Region, peak: int) -> Plan | None:
    """The plan with a buffer at the lowest place where it shares no bytes with any other, if there is one."""
    buffer = next(b for b in plan.buffers if b.name == name)
    place = plan.places[name]
    if place.region != region:
        return None
    align = max(region.align, buffer.align)
    at = 0
    for span in _taken(plan, buffer, region):
        if at + buffer.size <= span.lo:
            break
        at = max(at, -(-span.hi // align) * align)
    if at + buffer.size > peak:
        return None
    overlaps = tuple(o for o in plan.overlaps if name not in (o.output, o.input))
    return replace(plan, places=plan.places | {name: Place(region, at)}, overlaps=overlaps)


def _taken(plan: Plan, buffer: Buffer, region: Region) -> list[Span]:
    """Bytes of the buffers that live while this one does, lowest first."""
    there = (
        (b, plan.places[b.name])
        for b in plan.buffers
        if b.name != buffer.name and b.live.lo < buffer.live.hi and buffer.live.lo < b.live.hi
    )
    spans = (Span(place.offset, place.offset + b.size) for b, place in there if place.region == region)
    return sorted(spans, key=lambda span: (span.lo, span.hi))


def _forward(plan: Plan, step: int, request: PlanRequest) -> Group:
    """The group of a step, no longer backward if it lies over nothing that asked for it."""
    group = plan.groups[step]
    needed = any(o.step == step for o in plan.overlaps) or any(map(request.runs_backward, group.nodes))
    return group if needed or not group.backward else replace(group, backward=False)
