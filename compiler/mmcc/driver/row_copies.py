# SPDX-License-Identifier: Apache-2.0
"""A plan in several memories in which rows of what waits in slow memory are copied as readers need them.

A convolution reads each value of its input many times. Where that lies in slow memory, it may cost less to
copy each row once, to a ring in fast memory. The copy is a node of its own, so that groups, rings and regions
are chosen with it as with any other; copies that found no room in faster memory are left out. Where the plan
then costs no less, the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mmcc.driver.laid import Ask, Laid, limited
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import Plan
from mmcc.ir.regions import Region
from mmcc.ops.movement import Expand
from mmcc.passes.copy_rows import Read, copy_rows
from mmcc.planner.api import best_plan
from mmcc.planner.cost import node_cost, shares
from mmcc.planner.regions.traffic import Bytes, node_traffic
from mmcc.planner.request import PlanRequest


def with_row_copies(found: Laid, ask: Ask) -> Laid:
    """The best plan of a graph, or of it with copies for what reads slow memory often.

    What is proved of it is of plans with the same copies, or without any: not of all that there could be.
    Where as few bytes of memories as possible are asked for, rings are within those bytes. `ask` says what
    kernels promise of another graph. A graph stays as it is in one memory, and where there are states or
    functions of the user's.
    """
    graph, request = found.graph, found.request
    if not request.by_region or graph.states or any(node.handoff for node in graph.nodes):
        return found
    taken = {region.name: size for region, size in found.plan.regions().items()}
    least = {name: taken.get(name, 0) for name in request.least}
    some = [region for region in request.regions if least.get(region.name, 1)]
    reads = tuple(_worth_copying(graph, found.plan, request, some))
    if not reads:
        return found
    best, seconds = found, found.plan.seconds
    while reads:
        other = copy_rows(graph, reads)
        asked = limited(ask(other), request)
        try:
            plan = best_plan(other, replace(asked, least=(), within=least))
        except CompileError:
            break
        seconds += plan.seconds
        if plan.cost < best.plan.cost:
            plan = replace(plan, bounds=found.plan.bounds, proved_optimal=found.plan.proved_optimal)
            best = replace(found, graph=other, request=asked, plan=plan, row_copies=reads)
        faster = tuple(read for read in reads if _is_faster(graph, other, plan, read))
        if faster == reads:
            break
        reads = faster  # without copies that are in slow memory, too
    return replace(best, plan=replace(best.plan, seconds=seconds))


def _is_faster(graph: Graph, other: Graph, plan: Plan, read: Read) -> bool:
    """True if a copy is in memory that is read faster than that of the tensor."""
    name, result = read
    copy = other.producer[result].inputs[graph.producer[result].inputs.index(name)]
    step_of = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    step = next(step_of[k] for k, node in enumerate(other.nodes) if copy in node.outputs)
    source, ring = (plan.place_at(plan.slots[each].buffer, step).region for each in (name, copy))
    return isinstance(source, Region) and isinstance(ring, Region) and ring.read_cost < source.read_cost


def _worth_copying(
    graph: Graph, plan: Plan, request: PlanRequest, regions: Sequence[Region]
) -> Iterator[Read]:
    """Tensors, and who reads them so often, where they are in the plan, that copies in one of `regions` would
    cost less."""
    for step, group in enumerate(plan.groups):
        share = shares(graph, group)
        for index in group.nodes:
            node = graph.nodes[index]
            if len(node.outputs) > 1:  # alone in its group, it needs all rows at once
                continue
            traffic = node_traffic(graph, index, request.loads.get(index, 1.0), plan.copied.get(index))
            for name in dict.fromkeys(graph.activations(node)):
                region = plan.place_at(plan.slots[name].buffer, step).region
                if isinstance(region, Region) and name in traffic and node.op.traits.alias is None:
                    read = Bytes(read=traffic[name].read * share[index])
                    if read.cost(region) > _with_copy(graph, name, read, region, request, regions):
                        yield name, node.output


def _with_copy(
    graph: Graph, name: str, read: Bytes, source: Region, request: PlanRequest, regions: Sequence[Region]
) -> float:
    """What it costs to copy a tensor to the region that is best for that, and to read it there."""
    tensor = graph.tensors[name]
    copy = replace(tensor, name=f"{name}_rows")
    there = replace(graph, tensors=graph.tensors | {copy.name: copy})
    node = Node(Expand(tensor.shape), (name,), (copy.name,))
    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    copying = node_cost(there, node, request.cost).total(rows, rows, 1, 1.0)
    once = tensor.bytes * source.read_cost
    written = Bytes(read.read, tensor.bytes)
    return copying + once + min(written.cost(region) for region in regions)
