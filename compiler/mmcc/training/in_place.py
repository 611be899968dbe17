# SPDX-License-Identifier: Apache-2.0
"""Gradients of parameters that are summed as rows come, or never whole: added to a sum, or a step."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.elementwise import Binary
from mmcc.ops.movement import Reshape
from mmcc.ops.optimizer import Descend, Moment
from mmcc.ops.reduce import Reduce
from mmcc.passes.draft import Draft, sole_reader


@dataclass(frozen=True, slots=True)
class _Joined:
    """A node in place of some others, the last of which made `output`."""

    op: Op
    inputs: tuple[str, ...]
    replaced: tuple[Node, ...]


def in_place(graph: Graph, gradients: Collection[str]) -> Graph:
    """The graph in which `gradients`, those of parameters, are made by nodes that can take in rows one by
    one, and do what their one reader did; sums come early.

    A step is made in place only where the gradient would take as much as the layer's input: until then that
    input, and the gradient of the layer's result, have to be there.
    """
    graph = _replaced(graph, lambda node: _bias(graph, node) if node.outputs[0] in gradients else None)
    return sums_early(_replaced(graph, lambda node: _joined(graph, node)))


def _replaced(graph: Graph, joined_at: Callable[[Node], _Joined | None]) -> Graph:
    """The graph with other nodes in place of some."""
    found = {node.output: joined for node in graph.nodes if (joined := joined_at(node)) is not None}
    gone = {node.output for joined in found.values() for node in joined.replaced}
    draft = Draft(graph)
    for node in graph.nodes:
        if len(node.outputs) == 1 and node.output in found:
            joined = found[node.output]
            draft.write(joined.op, joined.inputs, node.output, joined.replaced[0].where)
        elif gone.isdisjoint(node.outputs):
            draft.keep(node)
    return draft.graph()


def sums_early(graph: Graph) -> Graph:
    """The graph in which nodes that only sum for after the run come as soon as what they read is there.

    So they are before the others that read the same, and may ride along with these.
    """
    early = [node for node in graph.nodes if node.op.traits.rides]
    made = {name for name in graph.tensors if name not in graph.producer}
    nodes: list[Node] = []
    for node in (None, *(node for node in graph.nodes if not node.op.traits.rides)):
        if node is not None:
            nodes.append(node)
            made.update(node.outputs)
        while ready := next((one for one in early if made.issuperset(one.inputs)), None):
            early.remove(ready)
            nodes.append(ready)
            made.update(ready.outputs)
    return replace(graph, nodes=tuple(nodes))


def _joined(graph: Graph, reader: Node) -> _Joined | None:
    """What a node and the gradient that only it reads become together; None if they stay."""
    source = graph.producer.get(reader.inputs[1]) if len(reader.inputs) > 1 else None
    if source is None or sole_reader(graph, source.outputs[0]) is not reader:
        return None
    if isinstance(source.op, WeightGradient):
        return _weights(graph, source, reader)
    return _bias_sum(graph, source, reader) if isinstance(source.op, BiasGradient) else None


def _bias_sum(graph: Graph, source: Node, reader: Node) -> _Joined | None:
    decay = _decay_of_sum(graph, reader)
    if decay is None or source.inputs[1:]:  # goes on with a sum by now
        return None
    return _Joined(BiasGradient("sum", decay), (*source.inputs, reader.inputs[0]), (source,))


def _weights(graph: Graph, source: Node, reader: Node) -> _Joined | None:
    assert isinstance(source.op, WeightGradient)
    if source.op.into:
        return None
    decay = _decay_of_sum(graph, reader)
    if decay is not None:
        op = replace(source.op, into="sum", decay=decay)
        return _Joined(op, (*source.inputs, reader.inputs[0]), (source,))
    if isinstance(reader.op, Descend):
        if graph.tensors[source.output].bytes < graph.tensors[source.inputs[0]].bytes:
            return None
        op = replace(source.op, into="step", decay=reader.op.decay)
        return _Joined(op, (*source.inputs, reader.inputs[0], reader.inputs[2]), (source,))
    return None


def _bias(graph: Graph, source: Node) -> _Joined | None:
    """What becomes of a `source` that gives the sum over all axes but the last its shape."""
    total = graph.producer.get(source.inputs[0]) if isinstance(source.op, Reshape) else None
    if total is None or sole_reader(graph, total.outputs[0]) is not source:
        return None
    shape = graph.tensors[total.inputs[0]].shape
    over = tuple(k for k in range(len(shape) - 1) if shape[k] > 1)
    vector = graph.tensors[source.output].shape == shape[-1:]
    if not isinstance(total.op, Reduce) or total.op.function != "sum" or not vector or len(shape) > 3:
        return None
    if tuple(total.op.axes) != over:
        return None
    return _Joined(BiasGradient(), total.inputs, (total, source))


def _decay_of_sum(graph: Graph, reader: Node) -> float | None:
    """What of its first operand a node adds its second to; None if it does something else."""
    match reader.op:
        case Binary("add"):
            same = graph.tensors[reader.inputs[0]].shape == graph.tensors[reader.inputs[1]].shape
            return 1.0 if same else None
        case Moment(decay, 1, False):
            return decay
        case _:
            return None
