# SPDX-License-Identifier: Apache-2.0
"""Nodes of ONNX's own in place of others', for ONNX Runtime, which knows none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from mmcc.frontend.reads import subgraphs


class StandIn:
    """What stands for one node."""

    def __init__(self, node: NodeProto) -> None:
        self.node = node
        self.made: list[NodeProto] = []

    def add(self, op: str, *operands: str | float) -> str:
        """A node more; a number is a constant. The name of its result."""
        names = [name if isinstance(name, str) else self._constant(name) for name in operands]
        return self._append(helper.make_node(op, names, [""]))

    def number(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        return next((a.i for a in self.node.attribute if a.name == name), default)

    def _constant(self, number: float) -> str:
        value = numpy_helper.from_array(np.array(number, np.float32))
        return self._append(helper.make_node("Constant", [], [""], value=value))

    def _append(self, node: NodeProto) -> str:
        node.output[0] = f"{self.node.output[0]}/{len(self.made)}"
        self.made.append(node)
        return node.output[0]


Stands = TypeVar("Stands", bound=StandIn)


def write_out(
    graph: GraphProto,
    kind: type[Stands],
    form: Callable[[NodeProto], Callable[[Stands], str] | None],
) -> None:
    """Replace the nodes that have a form, which gives the name of the result; that gets the node's own."""
    made: list[NodeProto] = []
    for node in graph.node:
        for inner in subgraphs(node):
            write_out(inner, kind, form)
        found = form(node)
        if found is None:
            made.append(node)
            continue
        nodes = kind(node)
        result = found(nodes)
        made += [*nodes.made, helper.make_node("Identity", [result], [node.output[0]])]
    del graph.node[:]
    graph.node.extend(made)
