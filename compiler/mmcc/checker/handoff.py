# SPDX-License-Identifier: Apache-2.0
"""Tensors and scratch of functions of the user's lie as these functions are promised."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.handoff import Handoff
from mmcc.ir.plan import Plan
from mmcc.ir.types import geometry


def check_handoffs(graph: Graph, plan: Plan) -> Iterator[str]:
    """What a function would find otherwise than it asks for, as sentences. That nothing is overwritten that
    it still reads is for the replay to see."""
    for index, node in enumerate(graph.nodes):
        handoff = node.handoff
        if handoff is None:
            continue
        here = f"{label(graph, index)}, handed to {handoff.function},"
        for name in dict.fromkeys((*graph.activations(node), *node.outputs)):
            yield from _tensor(graph, plan, name, handoff, here)
        work = (plan.scratch or {}).get(index)
        if handoff.scratch and work is None:
            yield f"{here} has no scratch"
        if work is not None and plan.places[work].offset % handoff.align:
            yield f"{here} works at byte {plan.places[work].offset}, not aligned to {handoff.align}"


def _tensor(graph: Graph, plan: Plan, name: str, handoff: Handoff, here: str) -> Iterator[str]:
    tensor, slot = graph.tensors[name], plan.slots[name]
    for stay in plan.stays()[slot.buffer]:
        at = stay.place.offset + slot.offset
        if at % handoff.align:
            yield f'{here} finds "{name}" at byte {at}, not aligned to {handoff.align}'
    rows, cols, channels = geometry(tensor.shape)
    size = tensor.dtype.size
    dense = (rows, size * cols * channels if rows > 1 else 0, size * channels if cols > 1 else 0)
    found = (slot.rows, slot.row_stride if rows > 1 else 0, slot.col_stride if cols > 1 else 0)
    if handoff.whole and found != dense:
        yield f'{here} finds "{name}" as {slot}, not whole and dense'
