# SPDX-License-Identifier: Apache-2.0
"""Functions of one tensor that a model spells out in several nodes: SiLU, HardSwish, Mish, GELU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ops.elementwise import Binary, Unary
from mmcc.passes.draft import Draft
from mmcc.passes.fold import is_known

KNOWN = tuple(Unary(name) for name in ("silu", "hard_swish", "mish", "gelu", "gelu_tanh"))
SAMPLES = np.linspace(-12, 12, 1001, dtype=np.float32)
CLOSE = 2e-6  # of max(1, |x|): what rounding in float32 may do to the steps
MAX_NODES = 12


def fuse_gate(graph: Graph) -> Graph:
    """One node for x * sigmoid(x) and its kin, so that x need not stay until the sigmoid is there.

    They are recognised by the values that they give, since models spell them in many ways.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        node = replace(node, inputs=tuple(draft.now(name) for name in node.inputs))
        found = _function(draft, node) if _may_end(draft, node) else None
        if found is None:
            draft.keep(node)
            continue
        op, source, inner = found
        draft.write(op, (source,), node.output, tuple(w for step in inner for w in step.where))
    return draft.graph()


def _may_end(draft: Draft, node: Node) -> bool:
    return (
        isinstance(node.op, Binary)
        and node.op.function in ("mul", "div")
        and draft.tensors[node.output].dtype == ElementType.F32
    )


def _function(draft: Draft, node: Node) -> tuple[Unary, str, list[Node]] | None:
    """The known function that ends in `node`, its argument, and the nodes it is made of."""
    cone = _cone(draft, node)
    for source in _sources(draft, cone):
        inner = _between(draft, cone, source)
        if inner is None:
            continue
        values = _evaluate(draft, inner, source)
        for op in KNOWN:
            gap = np.abs(values - op.reference(SAMPLES)[0])
            if (gap <= CLOSE * np.maximum(1, np.abs(SAMPLES))).all():
                return op, source, inner
    return None


def _cone(draft: Draft, node: Node) -> list[Node]:
    """The elementwise nodes that `node` is computed by, itself first, and no more than a few."""
    cone = [node]
    for reader in cone:  # grows while we walk it
        for name in reader.inputs:
            source = draft.producer.get(name)
            if source is not None and source not in cone and isinstance(source.op, (Unary, Binary)):
                cone.append(source)
        if len(cone) >= MAX_NODES:
            break
    return cone


def _sources(draft: Draft, cone: list[Node]) -> Iterator[str]:
    """The tensors of the result's shape that more than one node of the cone reads."""
    shape = draft.tensors[cone[0].output].shape
    reads = [name for node in cone for name in dict.fromkeys(node.inputs)]
    for name in dict.fromkeys(reads):
        if reads.count(name) > 1 and not is_known(draft, name) and draft.tensors[name].shape == shape:
            yield name


def _between(draft: Draft, cone: list[Node], source: str) -> list[Node] | None:
    """The nodes from `source` to the end, in order; None if they read anything else but numbers."""
    nodes: list[Node] = []
    waiting = [cone[0]]
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.append(node)
        for name in node.inputs:
            if name == source:
                continue
            before = draft.producer.get(name)
            if is_known(draft, name):
                if prod(draft.tensors[name].shape) != 1:
                    return None
            elif before is None or before not in cone or draft.tensors[name].dtype != ElementType.F32:
                return None
            else:
                waiting.append(before)
    return [*sorted(nodes[1:], key=lambda node: draft.position(node.output)), nodes[0]]


def _evaluate(draft: Draft, nodes: list[Node], source: str) -> NDArray[Any]:
    """What the last node gives for the samples."""
    known: dict[str, NDArray[Any]] = {source: SAMPLES}
    for node in nodes:
        values = [known[name] if name in known else draft.constants[name].reshape(()) for name in node.inputs]
        (known[node.output],) = node.op.reference(*values)
    return known[nodes[-1].output]
