# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization with operators that there are: by running statistics, or by those of a step's own x."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from mmcc.ir.graph import Graph, Node
from mmcc.ir.state import State
from mmcc.ops.batch_norm import BatchNorm
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Reshape
from mmcc.ops.optimizer import Moment
from mmcc.ops.reduce import Reduce
from mmcc.passes.draft import Draft
from mmcc.training.gradients.unknown import no_gradient


def by_running_statistics(graph: Graph) -> Graph:
    """The graph as inference has it: statistics are states that it reads."""
    draft, states = Draft(graph), list(graph.states)
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            draft.keep(node)
            continue
        mean, variance = node.inputs[3:]
        _normalize(draft, node, mean, variance)
        states += (State(name, name, graph.constants[name]) for name in (mean, variance))
    return _with_states(draft, states)


def by_own_statistics(graph: Graph) -> Graph:
    """The graph as a step of training has it: normalized by what x itself has, which the states follow.

    CompileError MM208 where a channel has one value.
    """
    draft, states = Draft(graph), list(graph.states)
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            draft.keep(node)
            continue
        own = _statistics(draft, node)
        _normalize(draft, node, *own)
        for name, now in zip(node.inputs[3:], own, strict=True):
            op = Moment(node.op.momentum, float(np.float32(1 - node.op.momentum)))
            end = draft.add(op, (name, now), f"{name}_next", node.where)
            states.append(State(name, end, graph.constants[name]))
    return _with_states(draft, states)


def _statistics(draft: Draft, node: Node) -> tuple[str, str]:
    """Mean and variance of each channel of x, as [C]; of all its values, as ONNX has it."""
    x, where = node.inputs[0], node.where
    shape = draft.tensors[draft.now(x)].shape
    axes = tuple(k for k, n in enumerate(shape[:-1]) if n > 1)
    if prod(shape[:-1]) < 2:
        reason = (
            "a channel has one value, so no variance; --batch-norm frozen leaves the statistics as they are"
        )
        raise no_gradient(node, reason)

    def mean(of: str, what: str) -> str:
        found = draft.add(Reduce("mean", axes), (of,), f"{node.output}_{what}", where)
        return draft.add(Reshape(shape[-1:]), (found,), f"{node.output}_{what}", where)

    middle = mean(x, "mean")
    apart = draft.add(Binary("sub"), (x, middle), f"{node.output}_centred", where)
    square = draft.add(Binary("mul"), (apart, apart), f"{node.output}_squares", where)
    return middle, mean(square, "variance")


def _normalize(draft: Draft, node: Node, mean: str, variance: str) -> None:
    """(x - mean) * (scale / sqrt(variance + epsilon)) + bias."""
    assert isinstance(node.op, BatchNorm)
    x, scale, bias = node.inputs[:3]
    epsilon = draft.constant(np.array([node.op.epsilon], np.float32), "epsilon")

    def add(function: str, a: str, b: str, what: str) -> str:
        return draft.add(Binary(function), (a, b), f"{node.output}_{what}", node.where)

    spread = add("add", variance, epsilon, "spread")
    root = draft.add(Unary("sqrt"), (spread,), f"{node.output}_deviation", node.where)
    scaled = add("mul", add("sub", x, mean, "centred"), add("div", scale, root, "factor"), "scaled")
    draft.write(Binary("add"), (scaled, bias), node.output, node.where)


def _with_states(draft: Draft, states: list[State]) -> Graph:
    graph = draft.graph(replace(draft.source, states=tuple(states)))
    given = {state.begin for state in states}
    return replace(graph, constants={k: data for k, data in graph.constants.items() if k not in given})
