# SPDX-License-Identifier: Apache-2.0
"""Drop nodes that change nothing, join nodes that are one, and compute nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, prod
from typing import Any

import numpy as np

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.reduce import Reduce
from mmcc.ops.resize import ResizeNearest
from mmcc.passes.draft import Draft

NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}  # as second operand
COMMUTATIVE = frozenset(("add", "mul", "min", "max"))


def simplify(graph: Graph) -> Graph:
    """Go over the nodes once, each with the operands that the nodes before it have become."""
    draft = Draft(graph)
    done: dict[tuple[Op, tuple[str, ...]], tuple[str, ...]] = {}
    for node in graph.nodes:
        node = _rewritten(draft, replace(node, inputs=tuple(draft.now(name) for name in node.inputs)))
        same = done.get((node.op, node.inputs))
        if same is not None:
            for name, made in zip(node.outputs, same, strict=True):
                draft.replace(name, made, node.where)
        elif changes_nothing(draft, node):
            draft.replace(node.output, node.inputs[0], node.where)
        else:
            draft.keep(node)
            done[node.op, node.inputs] = node.outputs
    return draft.graph()


def _rewritten(draft: Draft, node: Node) -> Node:
    """The node in its plainest form, joined with the node that feeds it where one node does both."""
    node = _as_clamp(draft, node)
    if isinstance(node.op, Transpose):
        x = draft.tensors[node.inputs[0]]
        if keeps_order(x.shape, node.op.perm):
            node = replace(node, op=Reshape(draft.tensors[node.output].shape))
    before = draft.producer.get(node.inputs[0]) if node.inputs else None
    if before is None:
        return node
    match before.op, node.op:
        case Reshape(), Reshape():
            return replace(node, inputs=before.inputs, where=before.where + node.where)
        case Transpose(first), Transpose(second):
            joined = Transpose(tuple(first[axis] for axis in second))
            node = replace(node, op=joined, inputs=before.inputs, where=before.where + node.where)
            return _rewritten(draft, node)
        case (Reshape(), Transpose()) | (Transpose(), Reshape()):
            node = _as_reshape(draft, node)
        case Concat(), Slice():
            part = _of_one_part(draft, before, node)
            return node if part is node else _rewritten(draft, part)
        case Reshape(), Slice():
            return _of_reshaped_part(draft, before, node)
        case Unary("clamp", (low, high)), Unary("clamp", (low2, high2)) if low <= high2 and low2 <= high:
            op = Unary("clamp", (max(low, low2), min(high, high2)))
            node = replace(node, op=op, inputs=before.inputs, where=before.where + node.where)
        case _:
            pass
    return node


def _of_one_part(draft: Draft, joined: Node, node: Node) -> Node:
    """A Slice of a Concat that lies in one of its operands is a slice of that one; else the node as it is.

    A batch that is taken apart and put together at every layer becomes as many nets of one sample.
    """
    assert isinstance(joined.op, Concat)
    assert isinstance(node.op, Slice)
    op, axis, start = node.op, joined.op.axis, 0
    first = op.starts[axis]
    last = first + (op.shape[axis] - 1) * op.steps[axis]
    for name in joined.inputs:
        end = start + draft.tensors[name].shape[axis]
        if start <= min(first, last) and max(first, last) < end:
            starts = (*op.starts[:axis], first - start, *op.starts[axis + 1 :])
            where = joined.where + node.where
            return replace(node, op=replace(op, starts=starts), inputs=(name,), where=where)
        start = end
    return node


def _of_reshaped_part(draft: Draft, seen: Node, node: Node) -> Node:
    """A Slice of a Concat with an axis of extent 1 in front: the operand that it is, if it is one.

    So does a layer of a sample, which is taken of a batch first.
    """
    assert isinstance(node.op, Slice)
    joined = draft.producer.get(seen.inputs[0])
    x = draft.tensors[seen.inputs[0]]
    added = draft.tensors[seen.output].shape == (1, *x.shape)
    if joined is None or not isinstance(joined.op, Concat) or not added:
        return node
    op = Slice(node.op.starts[1:], node.op.steps[1:], node.op.shape[1:])
    part = _of_one_part(draft, joined, replace(node, op=op, inputs=seen.inputs))
    same = draft.tensors[part.inputs[0]].shape == op.shape
    whole = part.inputs != seen.inputs and same and _is_whole_slice(draft, part)
    return replace(part, op=Reshape(node.op.shape)) if whole else node


def _as_clamp(draft: Draft, node: Node) -> Node:
    """max(x, c) and min(x, c) with one number c are clamps."""
    if not isinstance(node.op, Binary):
        return node
    function = node.op.function
    if function in COMMUTATIVE and draft.is_constant(node.inputs[0]):
        node = replace(node, inputs=(node.inputs[1], node.inputs[0]))
    x, c = (draft.tensors[name] for name in node.inputs)
    scalar = draft.is_constant(c.name) and prod(c.shape) == 1 and len(c.shape) <= len(x.shape)
    if function not in ("min", "max") or not scalar or not x.dtype.is_float:
        return node
    value = float(draft.constants[c.name].reshape(()))
    bounds = (value, inf) if function == "max" else (-inf, value)
    return replace(node, op=Unary("clamp", bounds), inputs=(x.name,))


def keeps_order(shape: Shape, perm: tuple[int, ...]) -> bool:
    """True if a transposition moves only axes of extent 1."""
    wide = [axis for axis in perm if shape[axis] != 1]
    return wide == sorted(wide)


def _as_reshape(draft: Draft, node: Node) -> Node:
    """A run of Reshape and Transpose that together leave every element where it was is one Reshape."""
    run: list[Node] = [node]
    while (before := draft.producer.get(run[-1].inputs[0])) is not None:
        if not before.op.traits.permutes:
            break
        run.append(before)
    for start in range(len(run) - 1, 0, -1):
        source = draft.tensors[run[start].inputs[0]]
        order = np.arange(prod(source.shape)).reshape(source.shape)
        for step in reversed(run[: start + 1]):
            (order,) = step.op.reference(order)
        if np.array_equal(order.reshape(-1), np.arange(order.size)):
            where = tuple(w for step in reversed(run[: start + 1]) for w in step.where)
            return Node(Reshape(order.shape), (source.name,), node.outputs, where)
    return node


def changes_nothing(draft: Draft, node: Node) -> bool:
    """True if the output is the first input, bit for bit (but for the sign of a zero)."""
    test = IDENTITIES.get(type(node.op))
    if test is None:
        return False
    x, y = draft.tensors[node.inputs[0]], draft.tensors[node.output]
    return x.shape == y.shape and x.dtype == y.dtype and test(draft, node)


def _always(draft: Draft, node: Node) -> bool:
    return True


def _is_whole_slice(draft: Draft, node: Node) -> bool:
    op = node.op
    assert isinstance(op, Slice)
    return all(step == 1 or n == 1 for step, n in zip(op.steps, op.shape, strict=True))


def _is_whole_gather(draft: Draft, node: Node) -> bool:
    assert isinstance(node.op, Gather)
    return node.op.indices == tuple(range(len(node.op.indices)))


def _is_whole_resize(draft: Draft, node: Node) -> bool:
    assert isinstance(node.op, ResizeNearest)
    rows, cols = node.op.rows, node.op.cols
    return rows == tuple(range(len(rows))) and cols == tuple(range(len(cols)))


def _is_pool_of_one(draft: Draft, node: Node) -> bool:
    assert isinstance(node.op, (MaxPool, AveragePool))
    window = node.op.window
    return window.kernel == (1, 1) and window.strides == (1, 1) and window.pads == (0, 0, 0, 0)


def _is_reduction_of_one(draft: Draft, node: Node) -> bool:
    """Shapes are equal, so every reduced axis has extent 1."""
    assert isinstance(node.op, Reduce)
    return node.op.function in ("sum", "mean", "max", "min", "prod")


def _is_neutral(draft: Draft, node: Node) -> bool:
    assert isinstance(node.op, Binary)
    neutral, second = NEUTRAL.get(node.op.function), draft.constants.get(node.inputs[1])
    if neutral is None or second is None or _learns(draft, node):
        return False
    return bool(np.all(second == neutral))


def _learns(draft: Draft, node: Node) -> bool:
    """Whether training may make something of a bias of zeros, or of a scale of ones."""
    assert isinstance(node.op, Binary)
    return node.op.function in ("add", "mul") and node.inputs[1] in (draft.source.learned or ())


def _is_open_clamp(draft: Draft, node: Node) -> bool:
    return node.op == Unary("clamp", (-inf, inf))


IDENTITIES: dict[type[Any], Callable[[Draft, Node], bool]] = {
    Reshape: _always,
    Cast: _always,
    Pad: _always,
    Expand: _always,
    Concat: lambda draft, node: len(node.inputs) == 1,
    Slice: _is_whole_slice,
    Gather: _is_whole_gather,
    ResizeNearest: _is_whole_resize,
    MaxPool: _is_pool_of_one,
    AveragePool: _is_pool_of_one,
    Reduce: _is_reduction_of_one,
    Binary: _is_neutral,
    Unary: _is_open_clamp,
}
