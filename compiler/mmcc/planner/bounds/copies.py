# SPDX-License-Identifier: Apache-2.0
"""Movements of elements that have code in every layout, and what that costs at least."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mmcc.ir.graph import Graph
from mmcc.ir.traits import Alias
from mmcc.ir.types import geometry


def least_copies(
    graph: Graph,
    costs: Mapping[int, float],
    external: Collection[str],
    limit: int,
    outside: Collection[str],
) -> float:
    """What movements cost in any layout; `costs` has those that some layout may leave without code.

    A Concat needs none only if each of its operands lies in it, and a part (Slice, Transpose) only if it lies
    in what it is a part of. A tensor lies in one other at most, and a constant or a tensor of the caller's in
    none; nor does one lie in a Concat that is too large within `limit` bytes (`outside` of the arena none
    is). So of those that claim the same tensor all but one have code; sets of such claims that have no node
    in common add up.
    """
    claims: dict[str, set[int]] = {}
    total = 0.0
    for index, cost in costs.items():
        names = _children(graph, index)
        apart = any(graph.is_constant(n) or n in external for n in names)
        if apart or len(set(names)) < len(names) or is_too_large(graph, index, limit, outside):
            total += cost
        else:
            for name in names:
                claims.setdefault(name, set()).add(index)
    while claims:
        gains = {
            name: sum(costs[k] for k in some) - max(costs[k] for k in some) for name, some in claims.items()
        }
        best = max(gains, key=lambda name: gains[name])
        total += gains[best]
        left = {name: some - claims[best] for name, some in claims.items()}
        claims = {name: some for name, some in left.items() if len(some) > 1}
    return total


def is_too_large(graph: Graph, index: int, limit: int, outside: Collection[str]) -> bool:
    """True of a Concat that would need more than `limit` bytes with an operand in it.

    A ring holds an operand only if that has the same rows: with any other the Concat is there whole.
    """
    node = graph.nodes[index]
    made = graph.tensors[node.output]
    if node.op.traits.alias is not Alias.JOIN or node.output in outside or made.bytes <= limit:
        return False
    height = geometry(made.shape)[0]
    return height == 1 or any(geometry(graph.tensors[n].shape)[0] != height for n in node.inputs)


def _children(graph: Graph, index: int) -> tuple[str, ...]:
    """The tensors that have to lie in others if a movement is to have no code, as far as only one may."""
    node = graph.nodes[index]
    if node.op.traits.alias is Alias.JOIN:
        return node.inputs
    return (node.output,) if node.op.traits.alias is Alias.PART else ()
