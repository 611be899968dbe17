# SPDX-License-Identifier: Apache-2.0
"""Slow memory in the plan: where values wait there, and what the copies there and back cost.

Within a graph such a value is a tensor outside the arena, whole, written row by row by one node and read by
another. All of them are there when the loss is known, so each has bytes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import BufferKind, Place, Plan
from mmcc.ir.regions import SLOW
from mmcc.ir.types import geometry
from mmcc.planner.cost import node_costs

ALIGN = 16  # of each value in slow memory


def place_paged(graph: Graph, plan: Plan) -> Plan:
    """The plan with the values that are paged in slow memory, one behind the other."""
    places, end = dict(plan.places), 0
    for name in sorted(graph.paged, key=list(graph.tensors).index):
        places[plan.slots[name].buffer] = Place(SLOW, end)
        end += -(-graph.tensors[name].bytes // ALIGN) * ALIGN
    mine = {plan.slots[name].buffer for name in graph.paged}
    buffers = tuple(
        replace(b, kind=BufferKind.PAGED, regions=(SLOW,)) if b.name in mine else b for b in plan.buffers
    )
    return replace(plan, places=places, buffers=buffers)


def slow_bytes(sizes: list[int]) -> int:
    """Bytes of slow memory that values of these sizes take."""
    return sum(-(-size // ALIGN) * ALIGN for size in sizes)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the copies of a run move, and what is predicted of them: cycles of all copies, and those of them
    in which the processor waits."""

    bytes: int
    cycles: float
    stalls: float


def traffic(graph: Graph, plan: Plan, figures: Mapping[str, float], cycles_per_byte: float) -> Traffic:
    """Predict the copies of a plan.

    Within a group copies go on beside what its nodes compute, one after the other. The processor waits for
    the first row of what comes in and the last of what leaves, which nothing is beside, and for what is left.
    """
    costs = node_costs(graph, plan, figures)
    moved, stalls = 0, 0.0
    for group in plan.groups:
        nodes = [graph.nodes[index] for index in group.nodes]
        copies = [node for node in nodes if _is_paging(graph, node)]
        sizes = [graph.tensors[node.output].bytes for node in copies]
        alone = sum(_row_bytes(graph, node) for node in copies) * cycles_per_byte
        beside = sum(costs[index] for index in group.nodes)
        moved += sum(sizes)
        stalls += alone + max(0.0, sum(sizes) * cycles_per_byte - alone - beside)
    return Traffic(moved, moved * cycles_per_byte, stalls)


def _is_paging(graph: Graph, node: Node) -> bool:
    """True of a copy to slow memory or back."""
    return not graph.paged.isdisjoint((*node.inputs, *node.outputs))


def _row_bytes(graph: Graph, node: Node) -> int:
    tensor = graph.tensors[node.output]
    _, cols, channels = geometry(tensor.shape)
    return tensor.dtype.bytes(cols * channels)
