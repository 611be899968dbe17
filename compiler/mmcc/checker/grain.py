# SPDX-License-Identifier: Apache-2.0
"""The grain of a plan's memory: as many bytes as nothing in the plan divides."""

from __future__ import annotations

from math import gcd, prod

from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import Plan
from mmcc.ops.movement import Concat, Reshape, Slice, Transpose


def used(graph: Graph) -> list[str]:
    """Tensors that are in some memory."""
    names = [port.tensor for port in (*graph.inputs, *graph.outputs)]
    names += [name for state in graph.states for name in (state.begin, state.end)]
    names += [name for node in graph.nodes for name in (*node.inputs, *node.outputs)]
    return [name for name in dict.fromkeys(names) if not graph.is_constant(name)]


def grain_of(graph: Graph, plan: Plan) -> int:
    """Bytes that every size and address is a multiple of: memory is kept at that grain.

    If no view takes the last axis apart, these may be many elements; if one does, they are one or less.
    """
    views = [graph.nodes[index] for index in (*plan.aliases, *plan.copied)]
    names = {*used(graph), *(name for node in views for name in node.inputs)}
    tensors = [graph.tensors[name] for name in names]
    numbers: list[int] = []
    for name in used(graph):
        slot = plan.slots[name]
        numbers += [slot.offset, slot.row_stride, slot.col_stride]
    for b in plan.buffers:
        numbers += [b.size, plan.places[b.name].offset]
    numbers += [transfer.move.target.offset for transfer in plan.transfers]
    sizes = [tensor.dtype.size for tensor in tensors]
    grain = gcd(*numbers, *(t.dtype.bytes(prod(t.shape[-1:])) for t in tensors))
    whole = all(_keeps_last_axis(graph, node) for node in views)
    return max(1, grain if whole and not any(grain % size for size in sizes) else gcd(*numbers, *sizes))


def _keeps_last_axis(graph: Graph, node: Node) -> bool:
    """True if what lies along the last axis of a view lies so in what it is a view of."""
    if isinstance(node.op, Slice):
        whole = graph.tensors[node.inputs[0]].shape[-1:]
        return (node.op.starts[-1:], node.op.steps[-1:], node.op.shape[-1:]) in (
            ((0,), (1,), whole),
            ((), (), ()),
        )
    if isinstance(node.op, Transpose):
        return node.op.perm[-1:] == tuple(range(len(node.op.perm)))[-1:]
    return isinstance(node.op, Reshape | Concat)  # of others it is not known
