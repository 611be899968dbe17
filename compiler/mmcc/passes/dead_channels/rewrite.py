# SPDX-License-Identifier: Apache-2.0
"""A graph without the channels that nobody needs: fewer weights, and biases that hold what constants add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node, Removed, nest_of
from mmcc.ir.op import Op
from mmcc.ops.affine import AffineInt8
from mmcc.ops.elementwise_int8 import AddInt8, MulInt8
from mmcc.ops.movement import Expand, Reshape, Slice
from mmcc.passes.dead_channels.layers import centred
from mmcc.passes.dead_channels.needs import Needs, is_depthwise, is_free
from mmcc.passes.dead_channels.values import Range
from mmcc.passes.draft import Draft

Array = NDArray[Any]
Form = tuple[Op, list[Array | None]]  # the op, and its constants by operand; None: as it is


class Rewriter:
    """Writes every node with the channels that are kept of its operands and its result."""

    def __init__(self, graph: Graph, ranges: dict[str, Range], needs: Needs) -> None:
        self._graph, self._ranges, self._needs = graph, ranges, needs
        self._draft = Draft(graph)

    def run(self) -> Graph:
        """The graph, and what was left out of it."""
        for node in self._graph.nodes:
            self._write(node)
        made = self._draft.graph()
        return replace(made, removed=(*made.removed, *self._removed(made)))

    def _fewer(self, name: str) -> bool:
        return not self._needs.mask(name).all()

    def _write(self, node: Node) -> None:
        graph, draft = self._graph, self._draft
        names = [n for n in (*node.inputs, *node.outputs) if n in self._needs.kept]
        if not any(map(self._fewer, names)):
            draft.keep(node)
            return
        op, constants = self._form(node)
        inputs = [
            name if data is None else draft.constant(data, f"{node.output}_{k}")
            for k, (name, data) in enumerate(zip(node.inputs, constants, strict=True))
        ]
        draft.write(op, inputs, node.output, node.where, graph.tensors[node.output].quant)
        if node.output in draft.origins and self._fewer(node.output):
            kept = tuple(int(k) for k in np.flatnonzero(self._needs.mask(node.output)))
            draft.origins[node.output] = replace(draft.origins[node.output], channels=kept)

    def _form(self, node: Node) -> Form:
        if is_free(self._graph, node):
            return self._layer(node)
        if is_depthwise(self._graph, node):
            return self._depthwise(node)
        return _FORMS.get(type(node.op), Rewriter.as_it_is)(self, node)

    def _layer(self, node: Node) -> Form:
        """Weights of the channels that are kept; what the others add is in the bias."""
        op: Any = node.op
        w, b, *each = (self._graph.constants[name] for name in node.inputs[1:])
        rows, channels = (self._needs.mask(name) for name in (node.output, node.inputs[0]))
        # of those left out, only constants have weights that are not zero
        value = np.where(channels, 0, self._ranges[node.inputs[0]].low - op.x_zero)
        added = (centred(op, w[rows]).sum((1, 2)) * value).sum(1)
        bias = b[rows].astype(np.int64) + (added << getattr(op, "bias_bits", 0))
        assert np.array_equal(bias, bias.astype(b.dtype)), "the bias is no larger than the sums it is part of"
        return op, [None, w[rows][..., channels], bias.astype(b.dtype), *(data[rows] for data in each)]

    def _depthwise(self, node: Node) -> Form:
        op: Any = node.op
        rows = self._needs.mask(node.output)
        constants = [self._graph.constants[name][rows] for name in node.inputs[1:]]
        return replace(op, groups=int(rows.sum())), [None, *constants]

    # ---- other operators

    def as_it_is(self, node: Node) -> Form:
        return node.op, [None] * len(node.inputs)

    def each(self, node: Node) -> Form:
        """Constants with a number for each channel of the result have those that are kept."""
        mask = self._needs.mask(node.output)
        data = [self._graph.constants.get(name) for name in node.inputs]
        fewer = [d[..., mask] if d is not None and d.shape[-1:] == mask.shape else None for d in data]
        return node.op, fewer

    def shaped(self, node: Node) -> Form:
        """The shape of the result is in the op."""
        op: Any = node.op
        return replace(op, shape=(*op.shape[:-1], int(self._needs.mask(node.output).sum()))), [None]

    def slice(self, node: Node) -> Form:
        op: Any = node.op
        before = int(self._needs.mask(node.inputs[0])[: op.starts[-1]].sum())
        shape = (*op.shape[:-1], int(self._needs.mask(node.output).sum()))
        return Slice((*op.starts[:-1], before), op.steps, shape), [None]

    # ---- what was left out

    def _removed(self, made: Graph) -> list[Removed]:
        """By node that has fewer channels, or is gone."""
        found: list[Removed] = []
        for node in self._graph.nodes:
            name = node.outputs[0]
            after = made.producer.get(name)
            macs, size = _work(self._graph, node)
            macs_now, size_now = (0, 0) if after is None else _work(made, after)
            count = self._graph.tensors[name].shape[-1:]
            count_now = made.tensors[name].shape[-1:] if after is not None else (0,)
            if macs != macs_now or size != size_now or count != count_now:
                channels = sum(count) - sum(count_now)
                found.append(Removed(name, channels, sum(count), macs - macs_now, size - size_now))
        return found


def _work(graph: Graph, node: Node) -> tuple[int, int]:
    """Multiply-accumulates of a node, and bytes of its constants."""
    size = sum(graph.constants[name].nbytes for name in node.inputs if graph.is_constant(name))
    return nest_of(graph, node).macs, size


_FORMS: dict[type[Any], Callable[[Rewriter, Node], Form]] = {
    **dict.fromkeys((AffineInt8, AddInt8, MulInt8), Rewriter.each),
    **dict.fromkeys((Expand, Reshape), Rewriter.shaped),
    Slice: Rewriter.slice,
}
