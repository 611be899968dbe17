# SPDX-License-Identifier: Apache-2.0
"""LSTMs whose steps backward are to be made show c of each step beside h."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.movement import Slice
from mmcc.ops.recurrent import Recurrent
from mmcc.passes.draft import Draft
from mmcc.training.differentiate import depending


def with_cells(graph: Graph, wanted: Iterable[str]) -> Graph:
    """The graph in which LSTMs that depend on the tensors `wanted` have one result, h and c of all steps.

    h of all steps, and h or c after the last, are parts of it. What cannot be trained through stays.
    """
    moving, draft = depending(graph, wanted), Draft(graph)
    for node in graph.nodes:
        if not moving.isdisjoint(node.outputs) and _hides_cells(node):
            _show(draft, node)
        else:
            draft.keep(node)
    return draft.graph()


def _hides_cells(node: Node) -> bool:
    op = node.op
    return isinstance(op, Recurrent) and op.cell == "lstm" and not op.rounded and "lengths" not in op.operands


def _show(draft: Draft, node: Node) -> None:
    assert isinstance(node.op, Recurrent)
    op = replace(node.op, cells=True, last=())
    both = draft.add(op, node.inputs, f"{node.outputs[0]}_cells", node.where)
    steps, *row, channels = draft.tensors[both].shape
    units, final = channels // 2, 0 if op.backward else steps - 1
    middle, ones = (0,) * len(row), (1,) * (2 + len(row))
    draft.write(Slice((0, *middle, 0), ones, (steps, *row, units)), (both,), node.outputs[0], node.where)
    for name, output in zip(node.op.last, node.outputs[1:], strict=True):
        at = (final, *middle, units if name == "c" else 0)
        draft.write(Slice(at, ones, (1, *row, units)), (both,), output, node.where)
