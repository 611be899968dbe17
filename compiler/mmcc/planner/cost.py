"""Predicted instructions of a plan: a linear model with the figures of the target's `[cost]` table.

A node costs so much for each multiplication and each output, for each row it makes (pointers are set up anew),
and for each call. Only the ratio between plans of one model matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ir.nest import LoopKind, Nest
from mmcc.ir.plan import Group, Plan
from mmcc.planner.walk import Sources, nest_of, strip_columns

DEFAULTS = {
    "conv_mac": 2.0,
    "pointwise_mac": 2.0,
    "depthwise_mac": 8.0,
    "dense_mac": 2.0,
    "float_mac": 3.0,
    "element": 20.0,
    "output": 8.0,  # of a node that multiplies: what is done to a sum
    "row": 60.0,
    "call": 40.0,
}


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Instructions of one node: `work` for all rows and columns once, `row` and `call` for each one."""

    macs: int
    work: float
    row: float
    call: float

    def total(self, steps: int, calls: int, strips: int, share: float) -> float:
        """Of a node whose columns are computed `share` times on average."""
        return self.work * share + (self.row * steps + self.call * calls) * strips


def node_cost(graph: Graph, node: Node, figures: Mapping[str, float]) -> NodeCost:
    """The cost of one node."""
    nest = nest_of(graph, node)
    is_float = graph.tensors[node.output].dtype.is_float

    def figure(name: str) -> float:
        return figures.get(name, DEFAULTS[name])

    outputs = prod(graph.tensors[node.output].shape)
    if nest.macs:
        kind = "float_mac" if is_float else mac_kind(nest)
        work = nest.macs * figure(kind) + outputs * figure("output")
    else:
        work = nest.iterations * figure("element")
    return NodeCost(nest.macs, work, figure("row"), figure("call"))


def mac_kind(nest: Nest) -> str:
    """Which figure a nest of multiplications goes by: what is summed up, and over how many windows."""
    summed = [loop.extent for loop in nest.loops if loop.kind is LoopKind.REDUCE]
    if len(nest.write.shape) < 3:
        return "dense_mac"
    if summed and summed[-1] == 1 and prod(summed) > 1:
        return "depthwise_mac"
    return "pointwise_mac" if prod(summed[:-1]) == 1 else "conv_mac"


def plan_macs(graph: Graph, plan: Plan) -> int:
    """Multiply-accumulates of a plan, what is computed again counted again."""
    return round(
        sum(
            nest_of(graph, graph.nodes[index]).macs * share
            for group in plan.groups
            for index, share in shares(graph, group).items()
        )
    )


def plan_cost(graph: Graph, plan: Plan, figures: Mapping[str, float]) -> float:
    """Predicted instructions of a plan."""
    sources = Sources(graph, plan.aliases)
    total = 0.0
    for group in plan.groups:
        alone = len(group.nodes) == 1 and not group.strips and not group.backward
        for index, share in shares(graph, group).items():
            steps = sources.steps(index)
            cost = node_cost(graph, graph.nodes[index], figures)
            total += cost.total(steps, 1 if alone else steps, max(1, len(group.strips)), share)
    return total


def shares(graph: Graph, group: Group) -> dict[int, float]:
    """For each node of a group, columns computed in all strips over columns of its output."""
    if len(group.strips) < 2:
        return dict.fromkeys(group.nodes, 1.0)
    made = dict.fromkeys(group.nodes, 0)
    whole = strip_columns(graph, group, group.strips[0].columns.join(group.strips[-1].columns))
    for strip in group.strips:
        held = strip_columns(graph, group, strip.columns)
        for index in group.nodes:
            made[index] += len(held[graph.nodes[index].output])
    return {index: count / len(whole[graph.nodes[index].output]) for index, count in made.items()}
