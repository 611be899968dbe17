# SPDX-License-Identifier: Apache-2.0
"""Fold an activation function into the layer that feeds it."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.activation import Activation, Clamp, Leaky
from mmcc.ops.elementwise import Unary
from mmcc.ops.layers import FloatLayer
from mmcc.passes.draft import Draft, sole_reader


def fuse_activation(graph: Graph) -> Graph:
    """A float layer applies the Clip or LeakyRelu that is its sole reader before it stores."""
    draft = Draft(graph)
    for node in graph.nodes:
        layer = draft.producer.get(draft.now(node.inputs[0])) if node.inputs else None
        activation = as_activation(node)
        if (
            activation is None
            or layer is None
            or not isinstance(layer.op, FloatLayer)
            or sole_reader(graph, node.inputs[0]) is None
        ):
            draft.keep(node)
            continue
        joined = _joined(layer.op.activation, activation)
        if joined is None:
            draft.keep(node)
            continue
        op = replace(layer.op, activation=joined)
        draft.write(op, layer.inputs, node.output, layer.where + node.where)
    return draft.graph()


def as_activation(node: Node) -> Activation | None:
    """The activation that a node is, if a layer could apply it."""
    match node.op:
        case Unary("clamp", (low, high)):
            return Clamp(low, high)
        case Unary("leaky_relu", (slope,)):
            return Leaky(slope)
        case _:
            return None


def _joined(first: Activation | None, second: Activation) -> Activation | None:
    """One activation for two; None if there is none."""
    if first is None:
        return second
    if not isinstance(first, Clamp) or not isinstance(second, Clamp):
        return None
    if second.low > first.high or first.low > second.high:
        return None
    return Clamp(max(first.low, second.low), min(first.high, second.high))
