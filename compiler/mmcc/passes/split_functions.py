# SPDX-License-Identifier: Apache-2.0
"""Functions of elements behind a Concat, made of each of its operands instead.

Convolutions of a batch are made sample by sample, those of a volume layer by layer, and a Concat puts the
results together. An activation behind it needs all of them; before it, it is part of the convolution, and
what takes the samples or layers apart again reads just one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.layers import FloatLayer
from mmcc.ops.movement import Concat, Reshape, Slice
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.passes.draft import Draft
from mmcc.passes.fuse_activation import as_activation

FUNCTIONS = Unary, Binary, Quantize, Dequantize


def split_functions(graph: Graph) -> Graph:
    """Each function of elements before the Concat that it reads, where layers or slices gain by it."""
    draft = Draft(graph)
    apart = _taken_apart(graph)
    split: set[str] = set()  # what a function that was split has made
    for node in graph.nodes:
        joined = _joined(draft, node.op, node.inputs)
        if joined and (node.output in apart or _ends_layers(draft, node, joined[0], split)):
            parts = _parts(draft, node, node.inputs, joined, split)
            quant = graph.tensors[node.output].quant
            draft.write(joined[0].op, parts, node.output, joined[0].where + node.where, quant)
        else:
            draft.keep(node)
    return draft.graph()


def _taken_apart(graph: Graph) -> set[str]:
    """Tensors of which slices are read, also behind further functions."""
    apart: set[str] = set()
    for node in reversed(graph.nodes):
        passes_on = isinstance(node.op, (*FUNCTIONS, Reshape)) and node.output in apart
        if passes_on or isinstance(node.op, Slice):
            apart.update(node.inputs)
    return apart


def _joined(draft: Draft, op: Op, inputs: Sequence[str]) -> list[Node]:
    """The Concats of equal parts along one axis that a function reads beside constants; else none."""
    if not isinstance(op, FUNCTIONS):
        return []
    tensors = [draft.tensors[draft.now(name)] for name in inputs]
    ((shape, _),) = op.results(*tensors)
    found: list[Node] = []
    for x in tensors:
        if draft.is_constant(x.name):
            continue
        made = draft.producer.get(x.name)
        if made is None or not isinstance(made.op, Concat) or x.shape != shape:
            return []
        found.append(made)
    parts = {(made.op, *_extents(draft, made)) for made in found}
    if len(parts) != 1 or any(map(draft.is_constant, found[0].inputs)):
        return []
    assert isinstance(found[0].op, Concat)
    behind = len(shape) - found[0].op.axis  # axes from the Concat's on
    constants = [x.shape for x in tensors if draft.is_constant(x.name)]
    return found if all(_is_equal_along(constant, behind) for constant in constants) else []


def _extents(draft: Draft, joined: Node) -> tuple[Shape, ...]:
    return tuple(draft.tensors[name].shape for name in joined.inputs)


def _is_equal_along(shape: Shape, behind: int) -> bool:
    """True if a constant that is broadcast is the same for all operands of the Concat."""
    return len(shape) < behind or shape[len(shape) - behind] == 1


def _ends_layers(draft: Draft, node: Node, joined: Node, split: set[str]) -> bool:
    """True if layers that take the function in make all parts of a Concat, and nobody else reads it."""
    readers = {reader.outputs for reader in draft.source.consumers[joined.output]}
    made = [draft.producer.get(name) for name in joined.inputs]
    affine = isinstance(node.op, Binary) and node.op.function in ("add", "sub", "mul", "div")
    return (
        (affine or as_activation(node) is not None)
        and len(node.inputs) - sum(map(draft.is_constant, node.inputs)) == 1
        and len(readers) == 1
        and joined.output not in draft.source.kept
        and all(part is not None and _is_layer(draft, part, split) for part in made)
    )


def _is_layer(draft: Draft, node: Node, split: set[str]) -> bool:
    if isinstance(node.op, Reshape):
        before = draft.producer.get(node.inputs[0])
        return before is not None and _is_layer(draft, before, split)
    return isinstance(node.op, FloatLayer) or node.output in split


def _parts(draft: Draft, node: Node, inputs: Sequence[str], joined: list[Node], split: set[str]) -> list[str]:
    """The function of each part, and of the parts of a part: samples are joined of layers."""
    parts: list[str] = []
    for place in range(len(joined[0].inputs)):
        waiting = iter(joined)
        part = [name if draft.is_constant(name) else next(waiting).inputs[place] for name in inputs]
        shape = draft.tensors[joined[0].inputs[place]].shape
        bare = _without_ones(draft, part, len(shape))
        made = _applied(draft, node, bare or part, split)
        split.add(made)
        if bare:
            quant = draft.source.tensors[node.output].quant
            made = draft.add(Reshape(shape), (made,), f"{node.output}_one", node.where, quant)
        parts.append(made)
    return parts


def _applied(draft: Draft, node: Node, inputs: list[str], split: set[str]) -> str:
    joined = _joined(draft, node.op, inputs)
    quant = draft.source.tensors[node.output].quant
    if not joined:
        return draft.add(node.op, inputs, f"{node.output}_part", node.where, quant)
    parts = _parts(draft, node, inputs, joined, split)
    return draft.add(joined[0].op, parts, f"{node.output}_parts", joined[0].where + node.where, quant)


def _without_ones(draft: Draft, inputs: list[str], rank: int) -> list[str]:
    """The operands as layers make them, without an axis of extent 1 in front; none where one has none."""
    bare: list[str] = []
    for name in inputs:
        x = draft.tensors[draft.now(name)]
        made = draft.producer.get(x.name)
        before = draft.tensors[made.inputs[0]] if made is not None and isinstance(made.op, Reshape) else None
        if draft.is_constant(name) and len(x.shape) < rank:
            bare.append(name)
        elif draft.is_constant(name):
            bare.append(draft.piece(x.name, draft.constants[x.name][0], "bare"))
        elif before is not None and (1, *before.shape) == x.shape:
            bare.append(before.name)
        else:
            return []
    return bare
