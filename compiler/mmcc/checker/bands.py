# SPDX-License-Identifier: Apache-2.0
"""Kernels that make the rows of a call in no order: nothing that they write may be what they still read.

A plan is replayed row by row, so it does not show whether another order would be right. It is where a node
runs alone, and its output shares no byte with what it reads. What a kernel does, its field `band` says.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode, ProgramNode
from mmcc.ir.types import geometry


def check_bands(graph: Graph, plan: Plan, code: EntryCode) -> Iterator[str]:
    """A sentence for each kernel that makes rows together which only may be made in their order."""
    steps = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    for node in code.nodes:
        band = max((_band(node, k) for k in range(len(node.uses))), default=1)
        if band > 1:
            yield from (
                f"{label(graph, node.index)} makes {band} rows together, but {why}"
                for why in _in_the_way(graph, plan, node.index, steps[node.index])
            )


def _band(node: ProgramNode, number: int) -> int:
    found = dict(node.uses[number][1].fields).get("band", 1)
    assert isinstance(found, int)
    return found


def _in_the_way(graph: Graph, plan: Plan, index: int, step: int) -> Iterator[str]:
    group, node = plan.groups[step], graph.nodes[index]
    if group.nodes != (index,) or group.strips or group.batched or group.backward or group.accumulating:
        yield "is not made by one call for all rows"
    for name in node.outputs:
        made, where = _rows(graph, plan, name, step)
        if plan.slots[name].rows < geometry(graph.tensors[name].shape)[0]:
            yield f'its output "{name}" is a ring'
        for read in graph.activations(node):
            held, there = _rows(graph, plan, read, step)
            if where == there and any(a.lo < b.hi and b.lo < a.hi for a in made for b in held):
                yield f'its output "{name}" lies over "{read}", which it reads'


def _rows(graph: Graph, plan: Plan, name: str, step: int) -> tuple[list[Span], object]:
    """The bytes of each row of a tensor, from its first to its last, and the memory they are in."""
    slot, tensor = plan.slots[name], graph.tensors[name]
    rows, cols, channels = geometry(tensor.shape)
    place = plan.place_at(slot.buffer, step)
    size = (cols - 1) * slot.col_stride + tensor.dtype.bytes(channels)
    begins = (place.offset + slot.offset + row * slot.row_stride for row in range(min(rows, slot.rows)))
    return [Span(begin, begin + size) for begin in begins], place.region
