# SPDX-License-Identifier: Apache-2.0
"""Make every broadcast one that kernels can express: by rows, by columns, or of all channels."""

from __future__ import annotations

import numpy as np

from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Shape
from mmcc.ops.movement import Expand, Reshape
from mmcc.passes.draft import Draft


def expand_broadcasts(graph: Graph) -> Graph:
    """Expand operands that repeat some axes past the second, not all: kernels see these as one, the channels.

    An operand of lower rank whose rows and columns are not where the output has them gets leading axes of 1.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if node.op.traits.broadcasts:
            shape = graph.tensors[node.output].shape
            names = [_operand(draft, node, name, shape) for name in node.inputs]
            quant = graph.tensors[node.output].quant
            draft.write(node.op, names, node.output, node.where, quant)
        else:
            draft.keep(node)
    return draft.graph()


def expressible(x: Shape, y: Shape) -> bool:
    """True if a kernel can read x while it walks the rows, columns and channels of y."""
    if len(x) == len(y) or len(x) < 2 or (len(x), len(y)) == (2, 3):
        return _folds(_padded(x, y), y)
    return False


def _padded(x: Shape, y: Shape) -> Shape:
    return (1,) * (len(y) - len(x)) + x


def _folds(x: Shape, y: Shape) -> bool:
    """True if the axes past the second are all there or all repeated; ranks are equal."""
    return x[2:] == y[2:] or all(n == 1 for n in x[2:])


def _operand(draft: Draft, node: Node, name: str, y: Shape) -> str:
    """What the node is to read in place of operand `name`."""
    name = draft.now(name)
    tensor = draft.tensors[name]
    if expressible(tensor.shape, y):
        return name
    padded = _padded(tensor.shape, y)
    wanted = padded if _folds(padded, y) else padded[:2] + y[2:]
    if draft.is_constant(name) and name not in (draft.source.learned or ()):  # repeated, it would learn apart
        data = np.broadcast_to(draft.constants[name].reshape(padded), wanted)
        return draft.constant(data, f"{name}_expanded")
    if padded != tensor.shape:
        name = draft.add(Reshape(padded), (name,), f"{name}_padded", node.where, tensor.quant)
    if wanted != padded:
        name = draft.add(Expand(wanted), (name,), f"{name}_expanded", node.where, tensor.quant)
    return name
