# SPDX-License-Identifier: Apache-2.0
"""The graph with another axis of its tensors as their rows: what kernels and planner go over row by row.

Rows are an image's height, since that is how ONNX has them. A net that looks along its width, or takes means
over the height of each column, needs whole images then where it could do with rings of a few columns. Here
columns become rows: from the first window on, through all that follows, as far as rules say how
(`other_rows/rules.py`). At the borders of that are transpositions, or views where one of the axes has extent
1. Inputs and outputs stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.ops.movement import Reshape, Transpose
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft
from mmcc.passes.expand_broadcasts import expand_broadcasts
from mmcc.passes.fold_pad import fold_pad
from mmcc.passes.other_rows.rules import Perm, Turned, is_window, turned
from mmcc.passes.simplify import simplify


def other_rows(graph: Graph) -> Graph | None:
    """The same function of the same inputs and outputs, with columns as rows; None if that changes nothing:
    where no node can, or all images are square, and so are all windows."""
    turning = _Turning(graph)
    return expand_broadcasts(turning.draft.graph()) if turning.differs else None


def led_by_columns(graph: Graph) -> Graph:
    """The same function with columns as rows, also in the outputs, as far as nodes can be had so."""
    turning = _Turning(graph)
    made = expand_broadcasts(turning.draft.graph())
    led = dict(turning.led)
    outputs = tuple(
        replace(_moved_port(port, led[port.tensor][1]), tensor=led[port.tensor][0])
        if port.tensor in led
        else port
        for port in made.outputs
    )
    return fold_pad(simplify(replace(made, outputs=outputs)))


class _Turning:
    """The graph that is written, and the order of axes in which each tensor of the old one is had first."""

    def __init__(self, graph: Graph) -> None:
        self.draft = Draft(graph)
        self.differs = False
        self.led: dict[str, tuple[str, Perm]] = {}  # of outputs: the tensor that is led by another axis
        self._graph = graph
        self._orders: dict[
            str, Perm
        ] = {}  # of old tensors that are led by another axis; others are as they were
        self._had: dict[tuple[str, Perm], str] = {}  # old tensors in other orders, the first one included
        for node in graph.nodes:
            self._take(node)

    def _take(self, node: Node) -> None:
        """Write the node, turned if it can be and something asks for it."""
        found = self._turned(node)
        if found is None:
            self.draft.keep(replace(node, inputs=tuple(map(self._plain, node.inputs))))
        else:
            self._write(node, found)

    def _turned(self, node: Node) -> Turned | None:
        graph = self._graph
        if len(node.outputs) != 1:
            return None
        inputs, output = graph.operands(node), graph.tensors[node.output]
        leads = [self._orders[name][0] if name in self._orders else None for name in node.inputs]
        asked = any(lead is not None for lead in leads)
        if is_window(node.op):
            weights = all(graph.is_constant(name) for name in node.inputs[1:])
            asked = weights and len(inputs[0].shape) == 3 and inputs[0].shape[1] > 1
        found = turned(node.op, inputs, leads, output) if asked else None
        return found if found is not None and self._can_be_had(node, found) else None

    def _can_be_had(self, node: Node, found: Turned) -> bool:
        """An activation has as many axes as it has; constants are given more."""
        graph = self._graph
        return all(
            order is None or len(order) == len(graph.tensors[node.inputs[k]].shape)
            for k, order in found.operands
            if not graph.is_constant(node.inputs[k])
        ) and not any(order is None and node.inputs[k] in self._orders for k, order in found.operands)

    def _write(self, node: Node, found: Turned) -> None:
        draft, old = self.draft, self._graph.tensors[node.output]
        inputs = [
            self._plain(node.inputs[k]) if order is None else self._in_order(node.inputs[k], order)
            for k, order in found.operands
        ]
        if node.op.traits.broadcasts:
            inputs = _without_repeats(draft, inputs)
        if found.result is None:
            draft.write(found.op, inputs, node.output, node.where, old.quant)
            return
        port = draft.origins.get(node.output)
        if node.output in self._graph.kept:
            name = draft.add(found.op, inputs, f"{node.output}_turned", node.where, old.quant)
        else:
            name = draft.write(found.op, inputs, node.output, node.where, old.quant)
        if port is not None:
            draft.origins[name] = _moved_port(port, found.result)
        self.differs |= _any_order(found.op) != _any_order(node.op) or draft.tensors[name].shape != old.shape
        self._orders[node.output] = found.result
        self._had[node.output, found.result] = name
        if node.output in self._graph.kept:
            self.led[node.output] = name, found.result
            self._back(node.output, node.output, port)

    def _plain(self, name: str) -> str:
        """An old tensor in the order that it had."""
        if name not in self._orders:
            return name
        order = tuple(range(len(self._graph.tensors[name].shape)))
        if (name, order) not in self._had:
            self._back(name, None, self._graph.origins.get(name))
        return self._had[name, order]

    def _back(self, name: str, to: str | None, port: Port | None) -> None:
        """Write a tensor that is led by another axis in the order that it had, as `to` or by a new name."""
        draft, old, order = self.draft, self._graph.tensors[name], self._orders[name]
        source = self._had[name, order]
        inverse = tuple(order.index(k) for k in range(len(order)))
        op = _moving(draft.tensors[source], inverse)
        where = draft.producer[source].where
        if to is None:
            to = draft.add(op, (source,), f"{name}_back", where, old.quant)
        else:
            draft.write(op, (source,), to, where, old.quant)
        if port is not None:
            draft.origins[to] = port
        self._had[name, tuple(range(len(order)))] = to

    def _in_order(self, name: str, order: Perm) -> str:
        """An old tensor, or a constant, with its axes in another order."""
        draft, key = self.draft, (name, order)
        if self._orders.get(name) is None and order == tuple(range(len(order))):
            return name
        if key not in self._had:
            if self._graph.is_constant(name):
                data = self._graph.constants[name]
                data = data.reshape((1,) * (len(order) - data.ndim) + data.shape).transpose(order)
                self._had[key] = draft.constant(data, f"{name}_turned")
            elif order == tuple(range(len(order))):
                self._plain(name)
            else:
                source = self._plain(name)
                tensor = draft.tensors[source]
                where = draft.producer[source].where if source in draft.producer else ()
                made = draft.add(_moving(tensor, order), (source,), f"{name}_turned", where, tensor.quant)
                port = self._graph.origins.get(name)
                if port is not None:
                    draft.origins[made] = _moved_port(port, order)
                self._had[key] = made
        return self._had[key]


def _any_order(op: Op) -> Op:
    """The op whatever the order in which it goes over its taps: that of square windows is no difference."""
    window: Window | None = getattr(op, "window", None)
    if window is None:
        return op
    return cast(Op, replace(cast(Any, op), window=replace(window, columns_first=False)))


def _without_repeats(draft: Draft, inputs: list[str]) -> list[str]:
    """Constants without what is repeated along axes that an activation has whole: other axes than those that
    were written out may now be repeated by kernels."""
    whole = [draft.tensors[name].shape for name in inputs if not draft.is_constant(name)]
    found: list[str] = []
    for name in inputs:
        if draft.is_constant(name):
            data = draft.constants[name]
            for axis in range(-data.ndim, 0):
                there = any(len(x) >= -axis and x[axis] == data.shape[axis] for x in whole)
                first = data.take([0], axis)
                if there and np.array_equal(data, np.broadcast_to(first, data.shape)):
                    data = first
            if data.shape != draft.constants[name].shape:
                name = draft.constant(data, name)
        found.append(name)
    return found


def _moving(tensor: Tensor, order: Perm) -> Transpose | Reshape:
    """A transposition; a view, where what moves past other axes are extents of 1."""
    shape = tuple(tensor.shape[k] for k in order)
    long = [k for k in order if tensor.shape[k] > 1]
    return Reshape(shape) if long == sorted(long) else Transpose(order)


def _moved_port(port: Port, order: Sequence[int]) -> Port:
    """How a value of the model is seen in a tensor whose axes are in another order."""
    axes = tuple(None if axis is None else order.index(axis) for axis in port.axes)
    return replace(port, axes=axes)
