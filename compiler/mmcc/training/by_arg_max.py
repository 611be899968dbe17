# SPDX-License-Identifier: Apache-2.0
"""Max pools whose gradient goes by which tap of each window was the largest, not by the pool's input."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ops.elementwise_gradient import UnaryGradient
from mmcc.ops.pool import MaxPool
from mmcc.ops.pool_arg_max import MOST_TAPS, PoolArgMax, PoolByArgMax, PoolByArgMaxGradient
from mmcc.ops.pool_gradient import MaxPoolGradient
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft, sole_reader


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool of the forward pass with its gradient, and the clamp's that alone reads that, if it is a clamp
    that made the pool's input."""

    window: Window
    forward: Node
    gradient: Node
    clamp: Node | None


def by_arg_max(graph: Graph, forward: Collection[str]) -> Graph:
    """The graph of a training step in which pools read the numbers of the taps that are the largest, and so
    do their gradients. `forward` are the results of the nodes of the forward pass.

    So only the numbers have to be there for the backward pass. Where others read the pool's input backward,
    it stays in any case, and nothing is changed. The gradient of a clamp in front of the pool goes by the
    pool's result, which the next layer keeps: a clamp lets pass the largest tap if it lets pass the pool's
    result, and the others of a window have no gradient.
    """
    pools = _pools(graph, forward)
    by_result = {pool.forward.output: pool for pool in pools}
    by_gradient = {pool.gradient.output: pool for pool in pools}
    by_clamp = {pool.clamp.output: pool for pool in pools if pool.clamp is not None}
    draft, taps = Draft(graph), dict[str, str]()
    for node in graph.nodes:
        name = node.outputs[0]
        if name in by_result:
            (x,), window = node.inputs, by_result[name].window
            taps[name] = draft.add(PoolArgMax(window), (x,), f"{name}_taps", node.where)
            draft.write(PoolByArgMax(window), (x, taps[name]), name, node.where)
        elif name in by_clamp:
            pool = by_clamp[name]
            g = draft.add(
                node.op, (pool.gradient.inputs[0], pool.forward.output), f"{name}_pooled", node.where
            )
            draft.write(_gradient(graph, pool), (g, taps[pool.forward.output]), name, node.where)
        elif name in by_gradient and by_gradient[name].clamp is None:
            pool = by_gradient[name]
            draft.write(_gradient(graph, pool), (node.inputs[0], taps[pool.forward.output]), name, node.where)
        elif name not in by_gradient:
            draft.keep(node)
    return draft.graph()


def _gradient(graph: Graph, pool: _Pool) -> PoolByArgMaxGradient:
    rows, cols, _ = graph.tensors[pool.forward.inputs[0]].shape
    return PoolByArgMaxGradient(pool.window, (rows, cols))


def _pools(graph: Graph, forward: Collection[str]) -> list[_Pool]:
    """The pools whose input nothing reads backward but their gradients, and those of a clamp."""
    found: list[_Pool] = []
    for node in graph.nodes:
        if not isinstance(node.op, MaxPool) or node.outputs[0] not in forward:
            continue
        (x,) = node.inputs
        late = [reader for reader in graph.consumers[x] if reader.outputs[0] not in forward]
        gradients = [reader for reader in late if reader.op == MaxPoolGradient(node.op.window)]
        others = [reader for reader in late if reader not in gradients]
        alone = len(gradients) == 1 and all(_is_clamp(reader, x) for reader in others)
        if alone and prod(node.op.window.kernel) <= MOST_TAPS:
            reader = sole_reader(graph, gradients[0].output)
            found.append(_Pool(node.op.window, node, gradients[0], reader if reader in others else None))
    return found


def _is_clamp(node: Node, x: str) -> bool:
    """Is a node the gradient of a clamp whose result is x?"""
    return isinstance(node.op, UnaryGradient) and node.op.function == "clamp" and node.inputs[1] == x
