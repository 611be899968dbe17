# SPDX-License-Identifier: Apache-2.0
"""Gradients of weights that are never whole: they are added to a sum, or make a step, as they come."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.elementwise import Binary
from mmcc.ops.optimizer import Descend, Moment
from mmcc.passes.draft import Draft, sole_reader


def in_place(graph: Graph) -> Graph:
    """The graph in which a WeightGradient does what its one reader did.

    A step is made in place only where the gradient would take as much as the layer's input: until then that
    input, and the gradient of the layer's result, have to be there.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if _joins(graph, node):
            continue
        source = next((graph.producer[name] for name in node.inputs if _joins_with(graph, name, node)), None)
        if source is None:
            draft.keep(node)
        else:
            op, more = _joined(source, node)
            draft.write(op, (*source.inputs, *more), node.output, source.where)
    return draft.graph()


def _joins(graph: Graph, node: Node) -> bool:
    reader = sole_reader(graph, node.outputs[0]) if isinstance(node.op, WeightGradient) else None
    return reader is not None and _joins_with(graph, node.output, reader)


def _joins_with(graph: Graph, name: str, reader: Node) -> bool:
    """True if `name` is a gradient of weights that only `reader` reads, which can be part of that node."""
    source = graph.producer.get(name)
    if source is None or not isinstance(source.op, WeightGradient) or source.op.into:
        return False
    if sole_reader(graph, name) is not reader or reader.inputs[1:2] != (name,):
        return False
    match reader.op:
        case Binary("add"):
            return graph.tensors[reader.inputs[0]].shape == graph.tensors[name].shape
        case Moment(_, weight, squares):
            return weight == 1 and not squares
        case Descend():
            return graph.tensors[name].bytes >= graph.tensors[source.inputs[0]].bytes
        case _:
            return False


def _joined(source: Node, reader: Node) -> tuple[WeightGradient, tuple[str, ...]]:
    """The op of both, and its operands behind those of the gradient."""
    assert isinstance(source.op, WeightGradient)
    match reader.op:
        case Descend(decay):
            return replace(source.op, into="step", decay=decay), (reader.inputs[0], reader.inputs[2])
        case Moment(decay, _, _):
            return replace(source.op, into="sum", decay=decay), reader.inputs[:1]
        case _:
            return replace(source.op, into="sum", decay=1.0), reader.inputs[:1]
