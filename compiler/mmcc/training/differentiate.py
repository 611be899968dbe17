# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation, graph to graph: behind the forward nodes, those that make the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmcc.ir.graph import Graph, Node
from mmcc.ops.elementwise import Binary
from mmcc.passes.draft import Draft
from mmcc.training.gradients import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.training.gradients.registry import RULES, Backward, repeated
from mmcc.training.gradients.unknown import no_gradient


def differentiate(draft: Draft, seeds: Mapping[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """Write into a draft, which has all nodes of its source, the gradients of the tensors `wanted`.

    `seeds` are the gradients of the loss, by the tensor that it is computed from. The result has a tensor for
    each one wanted that the loss depends on, in its shape. Only what lies between those and the seeds is
    looked at; CompileError MM208 if a node there has no gradient.
    """
    graph, wanted = draft.source, tuple(wanted)
    moving = depending(graph, wanted)
    known = dict(seeds)
    for node in reversed(graph.nodes):
        if moving.isdisjoint(node.outputs) or known.keys().isdisjoint(node.outputs):
            continue
        for name, g in _backward(draft, node, known, moving):
            known[name] = g if name not in known else _sum(draft, node, known[name], g)
    found = {name: known[name] for name in wanted if name in known}
    shapes = {name: graph.tensors[name].shape for name in found}
    where = {name: graph.consumers[name][0].where for name in found}
    return {name: repeated(draft, g, shapes[name], where[name]) for name, g in found.items()}


def depending(graph: Graph, wanted: Iterable[str]) -> frozenset[str]:
    """The tensors wanted and all that is computed from them."""
    moving = set(wanted)
    for node in graph.nodes:
        if not moving.isdisjoint(node.inputs):
            moving.update(node.outputs)
    return frozenset(moving)


def _backward(
    draft: Draft, node: Node, known: Mapping[str, str], moving: frozenset[str]
) -> Iterable[tuple[str, str]]:
    """The operands of a node whose gradient is asked for, each with what this node adds to it."""
    if type(node.op) not in RULES:
        raise no_gradient(node)
    first, *others = node.outputs
    if not known.keys().isdisjoint(others):  # rules know of the first result's alone
        raise no_gradient(node, "not only its first result is read")
    mine = frozenset(k for k, name in enumerate(node.inputs) if name in moving)
    found = RULES[type(node.op)](node.op, Backward(draft, node, known[first], mine))
    return [(node.inputs[k], g) for k, g in found.items() if k in mine]


def _sum(draft: Draft, node: Node, one: str, other: str) -> str:
    return draft.add(Binary("add"), (one, other), f"{node.outputs[0]}_gradient", node.where)
