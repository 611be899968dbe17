# SPDX-License-Identifier: Apache-2.0
"""The bodies of loops are planned as graphs of their own, before the graph that they are in: their arenas are
bytes that the loops work in."""

from __future__ import annotations

from dataclasses import replace

from mmcc.driver.cost import cost_of
from mmcc.driver.memories import regions_of
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import LOOP
from mmcc.ir.plan import Plan
from mmcc.ir.regions import Region
from mmcc.kernels.contract import contracts
from mmcc.kernels.scratch import REPEAT_ALIGN
from mmcc.ops.repeat import Repeat
from mmcc.planner.api import best_plan
from mmcc.target import load_target


def with_planned_bodies(graph: Graph, options: CompileOptions) -> Graph:
    """The graph with a plan for the body of each loop, of the fewest bytes where RAM is limited."""
    if not any(isinstance(node.op, Repeat) for node in graph.nodes):
        return graph
    return replace(graph, nodes=tuple(_planned(node, options) for node in graph.nodes))


def _planned(node: Node, options: CompileOptions) -> Node:
    if not isinstance(node.op, Repeat):
        return node
    body = with_planned_bodies(node.op.body, options)
    target = load_target(options.target)
    limited = options.ram > 0 or any(region.size is not None for region in regions_of(options, target))
    request = replace(
        request_from(contracts(body, target)),
        align=REPEAT_ALIGN,
        regions=(Region(LOOP),),
        external_inputs=True,
        external_outputs=True,
        fuse=options.least_ram or limited,
        cost=cost_of(target),
        effort=options.time_limit,
        budget=options.budget,
    )
    plan = as_far_as_proved(body, best_plan(body, request))
    return replace(node, op=replace(node.op, body=body, plan=plan))


def as_far_as_proved(graph: Graph, plan: Plan) -> Plan:
    """The plan of a graph, of which no more is proved than of those of its loops' bodies.

    Where nodes of a body run together, to need fewer bytes, others may be cheaper.
    """
    bodies = [node.op.plan for node in graph.nodes if isinstance(node.op, Repeat)]
    if any(own is None or not own.proved_optimal for own in bodies):
        bounds = dict.fromkeys(plan.bounds, 0)
        return replace(plan, proved_optimal=False, cheapest=False, least_cost=0.0, bound=0, bounds=bounds)
    known = [own for own in bodies if own is not None]
    if any(len(group.nodes) > 1 for own in known for group in own.groups):
        plan = replace(plan, cheapest=False, least_cost=0.0)
    return replace(plan, over_groups=plan.over_groups and all(own.over_groups for own in known))
