# SPDX-License-Identifier: Apache-2.0
"""Slow memory in the plan: where values wait there, and what the copies there and back cost.

Within a graph such a value is a tensor outside the arena, whole, written row by row by one node and read by
another. All of them are there when the loss is known, so each has bytes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
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
class Copies:
    """What a group copies to slow memory and back: bytes, and those of a row of each value, which are the
    first that comes in, or the last that leaves, and have nothing beside them."""

    bytes: int = 0
    rows: int = 0

    def stalls(self, beside: float, cycles_per_byte: float) -> float:
        """Cycles that the processor waits, if it computes for so many cycles beside the copies, which go on
        one after the other."""
        alone = self.rows * cycles_per_byte
        return alone + max(0.0, self.bytes * cycles_per_byte - alone - beside)


def copies_of(graph: Graph, nodes: Sequence[int]) -> Copies:
    """What the nodes of a group copy."""
    if not graph.paged:
        return Copies()
    moving = (graph.nodes[index] for index in nodes)
    results = [n.output for n in moving if not graph.paged.isdisjoint((*n.inputs, *n.outputs))]
    tensors = [graph.tensors[name] for name in results]
    shapes = [geometry(tensor.shape) for tensor in tensors]
    rows = sum(t.dtype.bytes(cols * channels) for t, (_, cols, channels) in zip(tensors, shapes, strict=True))
    return Copies(sum(tensor.bytes for tensor in tensors), rows)


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
        copies = copies_of(graph, group.nodes)
        moved += copies.bytes
        stalls += copies.stalls(sum(costs[index] for index in group.nodes), cycles_per_byte)
    return Traffic(moved, moved * cycles_per_byte, stalls)
