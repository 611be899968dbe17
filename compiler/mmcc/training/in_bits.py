# SPDX-License-Identifier: Apache-2.0
"""Results of clamps that only the clamps' own gradients read again are kept as bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mmcc.ir.graph import Graph, Node
from mmcc.ops.clamp_bits import BitsGradient, ClampBits
from mmcc.ops.elementwise_gradient import UnaryGradient
from mmcc.passes.draft import Draft

NONE = (0.0, 0.0)  # for a node that is no clamp's gradient


def in_bits(graph: Graph, forward: Collection[str]) -> Graph:
    """The graph of a training step with a node that packs each such value, behind the one that makes it.

    `forward` are the results of the nodes of the forward pass; what others read backward stays.
    """
    limits = _limits(graph, forward)
    draft, bits = Draft(graph), dict[str, str]()
    for node in graph.nodes:
        if _is_clamp(node) and node.inputs[1] in bits:
            channels = graph.tensors[node.inputs[1]].shape[-1]
            draft.write(
                BitsGradient(channels), (node.inputs[0], bits[node.inputs[1]]), node.output, node.where
            )
            continue
        draft.keep(node)
        for name in node.outputs:
            if name in limits:
                bits[name] = draft.add(ClampBits(*limits[name]), (name,), f"{name}_bits", node.where)
    return draft.graph()


def _limits(graph: Graph, forward: Collection[str]) -> Mapping[str, tuple[float, float]]:
    """The values of which only the gradients of one clamp are asked for, each with what clamps it."""
    found: dict[str, set[tuple[float, float]]] = {}
    for node in (node for node in graph.nodes if node.outputs[0] not in forward):
        for k, name in enumerate(node.inputs):
            if name in forward:
                found.setdefault(name, set()).add(_clamped(node) if k == 1 else NONE)
    kept = {name: next(iter(some)) for name, some in found.items() if len(some) == 1}
    return {name: limits for name, limits in kept.items() if limits != NONE}


def _clamped(node: Node) -> tuple[float, float]:
    """The limits of a clamp whose gradient a node is."""
    match node.op:
        case UnaryGradient("clamp", (low, high)):
            return low, high
        case _:
            return NONE


def _is_clamp(node: Node) -> bool:
    return isinstance(node.op, UnaryGradient) and node.op.function == "clamp"
