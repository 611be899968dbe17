# SPDX-License-Identifier: Apache-2.0
"""A layer before a mean over the image, both made some channels at a time.

A net's last layer often has many channels, and all that is left of them is the mean of each: so a row of all
channels and a sum for each exist at the same time, where those of some would do. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from mmcc.ir.channels import channel_axes
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ops.int16 import OVER_AXES
from mmcc.ops.movement import Concat
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool
from mmcc.passes.draft import Draft, sole_reader

# that are the same for any number of channels: a Slice of the last row, say, states its shape
REDUCTIONS = (*OVER_AXES, AveragePool, AveragePoolInt8, MaxPool)


def sliceable(graph: Graph) -> Mapping[str, Node]:
    """By their results, reductions of each channel over all rows, and the layer that each alone reads."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        maker = graph.producer.get(node.inputs[0]) if len(node.inputs) == 1 else None
        if maker is not None and sole_reader(graph, node.inputs[0]) is node and _slices(graph, maker, node):
            found[node.output] = maker
    return found


def _slices(graph: Graph, maker: Node, node: Node) -> bool:
    """Whether a layer and what reduces its result can be made in slices of channels."""
    if not isinstance(node.op, REDUCTIONS) or len(maker.outputs) != 1:
        return False
    nest, shape = nest_of(graph, node), graph.tensors[maker.output].shape
    (read,), write = nest.reads, nest.write
    if len(shape) != 3 or len(write.shape) != 3 or write.shape[:2] != (1, 1) or 1 in (shape[0], shape[2]):
        return False
    own = write.index[2].loop if write.index[2] is not None else None
    by_channel = own is not None and read.index[2] is not None and read.index[2].loop == own
    return by_channel and bool(channel_axes(graph, maker))


def sliced(graph: Graph, count: int) -> Graph:
    """The graph with all these in `count` slices of about as many channels each, at least one."""
    some = sliceable(graph)
    makers = {maker.output for maker in some.values()}
    draft = Draft(graph)
    for node in graph.nodes:
        if node.output in some:
            _in_slices(graph, draft, some[node.output], node, count)
        elif node.output not in makers:
            draft.keep(node)
    return draft.graph()


def _in_slices(graph: Graph, draft: Draft, maker: Node, node: Node, count: int) -> None:
    channels = graph.tensors[maker.output].shape[2]
    axes = channel_axes(graph, maker) or {}
    count = min(count, channels)
    made: list[str] = []
    for k in range(count):
        span = range(channels * k // count, channels * (k + 1) // count)
        inputs = [
            draft.constant(graph.constants[name].take(span, axis=axes[i]), name) if i in axes else name
            for i, name in enumerate(maker.inputs)
        ]
        quant = graph.tensors[maker.output].quant
        part = draft.add(maker.op, inputs, maker.output, maker.where, quant)
        quant = graph.tensors[node.output].quant
        made.append(draft.add(node.op, (part,), node.output, node.where, quant))
    draft.write(Concat(2), made, node.output, node.where, graph.tensors[node.output].quant)
