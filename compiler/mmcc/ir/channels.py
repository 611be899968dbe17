# SPDX-License-Identifier: Apache-2.0
"""Which constants of a node have an axis of its output channels: what some of these channels are made of."""

from __future__ import annotations

from mmcc.ir.graph import Graph, Node, nest_of


def channel_axes(graph: Graph, node: Node) -> dict[int, int] | None:
    """By constant operand, its axis of output channels; None if a node's output cannot be made in parts."""
    nest = nest_of(graph, node)
    last = nest.write.index[-1] if nest.write.index else None
    loop = last.loop if last is not None else None
    if loop is None or not nest.multiplies or len(nest.writes) > 1 or nest.row_order is not None:
        return None
    axes: dict[int, int] = {}
    for access in nest.reads:
        walked = [k for k, axis in enumerate(access.index) if axis is not None and _uses(axis, loop)]
        exact = [k for k in walked if (axis := access.index[k]) is not None and axis.loop == loop]
        if walked and (not graph.is_constant(node.inputs[access.operand]) or exact != walked):
            return None
        if walked:
            axes[access.operand] = walked[0]
    return axes


def _uses(axis: object, loop: str) -> bool:
    terms = getattr(axis, "terms", None)
    return any(name == loop for name, _ in terms) if terms is not None else getattr(axis, "name", "") == loop
