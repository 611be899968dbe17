# SPDX-License-Identifier: Apache-2.0
"""Copies of tensors for some of their readers.

In a group such a copy is a ring: it takes the rows of a tensor that waits in slow memory to fast memory, each
as its reader comes to need it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.movement import Expand

Read = tuple[str, str]  # a tensor, and the first result of a node that reads it


def copy_rows(graph: Graph, reads: Collection[Read]) -> Graph:
    """The graph in which each of these nodes reads a copy of the tensor instead."""
    tensors, nodes = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        inputs = list(node.inputs)
        for name in dict.fromkeys(node.inputs):
            if (name, node.outputs[0]) not in reads:
                continue
            copy = f"{name}_rows"
            while copy in tensors:
                copy += "_"
            tensors[copy] = replace(tensors[name], name=copy)
            nodes.append(Node(Expand(tensors[name].shape), (name,), (copy,)))
            inputs = [copy if each == name else each for each in inputs]
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(graph, tensors=tensors, nodes=tuple(nodes))
