# SPDX-License-Identifier: Apache-2.0
"""Gradients of what is taken from, and put to, places that are known at run time: the same places, the other
way. Indices have no gradient, and come to the backward layers as they are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.indexing import ScatterAlong, ScatterLines, TakeAlong, TakeLines
from mmcc.ops.movement import Expand, Slice
from mmcc.ops.pool import MaxPoolIndices
from mmcc.ops.pool_gradient import MaxPoolGradient
from mmcc.ops.topk import TopK
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient

MOST_NUMBERED = 1 << 24  # whole numbers up to this one are floats


@gradient(TakeLines)
def take_lines(op: TakeLines, call: Backward) -> dict[int, str]:
    """Added up where a line was taken several times."""
    x, index = call.node.inputs
    return {0: call.add(ScatterLines(op.extents, "add"), call.zeros(call.shape(x)), index, call.whole)}


@gradient(TakeAlong)
def take_along(_op: TakeAlong, call: Backward) -> dict[int, str]:
    """The same along an axis."""
    x, index = call.node.inputs
    return {0: added_along(call, call.whole, index, call.shape(x))}


def added_along(call: Backward, g: str, index: str, shape: Shape) -> str:
    """Zeros [A, N, B] to which g [A, M, B] is added where an index [M], [A, M] or [A, M, B] says."""
    if len(call.shape(index)) == 2:
        index = call.add(Expand(call.shape(g)), call.reshaped(index, (*call.shape(index), 1)))
    return call.add(ScatterAlong("add"), call.zeros(shape), index, g)


@gradient(ScatterLines)
def scatter_lines(op: ScatterLines, call: Backward) -> dict[int, str]:
    """What was put to a line has the line's gradient; what was there before, unless it was replaced."""
    put = call.shape(call.node.inputs[2])
    take, put_there, lines = TakeLines(op.extents), ScatterLines(op.extents), prod(op.extents)
    return _what_was_put(call, op.reduction, _Places(take, put_there, op.first, lines, (put[0], 1)))


@gradient(ScatterAlong)
def scatter_along(op: ScatterAlong, call: Backward) -> dict[int, str]:
    """The same along an axis."""
    put = call.shape(call.node.inputs[2])
    places = _Places(TakeAlong(), ScatterAlong(), op.first, put[0], (1, put[1], 1))
    return _what_was_put(call, op.reduction, places)


@dataclass(frozen=True, slots=True)
class _Places:
    """Those that updates are put to: what takes elements from there, what replaces them, which rows of the
    result are among them, and the shape of one number for each update."""

    take: Op
    replace: Op
    first: int
    rows: int
    numbers: Shape


def _what_was_put(call: Backward, reduction: str, places: _Places) -> dict[int, str]:
    """The gradients of what was there before, and of the updates."""
    x, index, updates = call.node.inputs
    shape, put = call.shape(x), call.shape(updates)
    if reduction not in ("none", "add"):
        raise no_gradient(call.node)
    found: dict[int, str] = {}
    if 0 in call.wanted:
        kept = reduction == "add"
        found[0] = call.whole if kept else call.add(call.node.op, call.whole, index, call.zeros(put))
    if 2 in call.wanted:
        g = call.add(places.take, _part(call, call.whole, places.first, places.rows), index)
        if reduction == "none":  # of several updates of a place the last one counts
            number = call.add(Expand(put), _numbers(call, places.numbers))
            nothing = call.zeros((places.rows, *shape[1:]))
            last = call.add(places.take, call.add(places.replace, nothing, index, number), index)
            g = _where_last(call, g, last, number)
        found[2] = g
    return found


def _part(call: Backward, g: str, first: int, count: int) -> str:
    """Some of the rows of a gradient."""
    shape = call.shape(g)
    own = (count, *shape[1:])
    starts = (first, *(0 for _ in shape[1:]))
    return g if own == shape else call.add(Slice(starts, (1,) * len(shape), own), g)


def _numbers(call: Backward, shape: Shape) -> str:
    """0, 1, 2, ..., as floats."""
    if prod(shape) > MOST_NUMBERED:
        raise no_gradient(call.node, f"of its {prod(shape):,} updates floats cannot tell which was the last")
    return call.draft.constant(np.arange(prod(shape), dtype=np.float32).reshape(shape), "numbers")


def _where_last(call: Backward, g: str, found: str, number: str) -> str:
    """g of those updates whose number stands where they were put."""
    return call.chosen(call.binary("equal", found, number), g, call.number(0.0))


@gradient(TopK)
def top_k(_op: TopK, call: Backward) -> dict[int, str]:
    """To the elements that were found, by the indices of the other result."""
    shape, (y, index) = call.shape(call.node.inputs[0]), call.node.outputs
    lines, count = prod(shape[:-1]), call.shape(y)[-1]
    g, index = (call.reshaped(name, (lines, count, 1)) for name in (call.whole, index))
    return {0: call.reshaped(added_along(call, g, index, (lines, shape[-1], 1)), shape)}


@gradient(MaxPoolIndices)
def max_pool_indices(op: MaxPoolIndices, call: Backward) -> dict[int, str]:
    """As of a MaxPool."""
    return {0: call.add(MaxPoolGradient(op.window), call.whole, call.node.inputs[0])}
