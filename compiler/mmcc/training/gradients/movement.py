# SPDX-License-Identifier: Apache-2.0
"""Gradients of operators that move elements: each goes back to where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ops.cumulative import Cumulative
from mmcc.ops.elementwise import Cast
from mmcc.ops.matmul import MatMul
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.quantize import QuantizeBy
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.training.gradients.indexing import added_along
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient

MOST_COPIES = 16  # of an element, whose gradients are added up one by one


@gradient(Reshape)
def reshape(_op: Reshape, call: Backward) -> dict[int, str]:
    """The same elements in x's shape."""
    return {0: call.reshaped(call.whole, call.shape(call.node.inputs[0]))}


@gradient(Transpose)
def transpose(op: Transpose, call: Backward) -> dict[int, str]:
    """Axes go back to where they were."""
    back = tuple(op.perm.index(axis) for axis in range(len(op.perm)))
    return {0: call.add(Transpose(back), call.whole)}


@gradient(Expand)
def expand(_op: Expand, call: Backward) -> dict[int, str]:
    """Summed over the axes that were repeated."""
    return {0: call.summed(call.whole, call.shape(call.node.inputs[0]))}


@gradient(Concat)
def concat(op: Concat, call: Backward) -> dict[int, str]:
    """To each operand its part."""
    found: dict[int, str] = {}
    start = 0
    for k, name in enumerate(call.node.inputs):
        shape = call.shape(name)
        if k in call.wanted:
            starts = tuple(start if axis == op.axis else 0 for axis in range(len(shape)))
            found[k] = call.add(Slice(starts, (1,) * len(shape), shape), call.whole)
        start += shape[op.axis]
    return found


@gradient(Pad)
def pad(op: Pad, call: Backward) -> dict[int, str]:
    """What was added is a constant's, or that of the elements that it repeats."""
    shape, g = call.shape(call.node.inputs[0]), call.whole
    if op.mode == "constant":
        return {0: call.add(Slice(op.before, (1,) * len(shape), shape), g)}
    for axis, (before, extent, after) in enumerate(zip(op.before, shape, op.after, strict=True)):
        if before or after:
            taken = np.pad(np.arange(extent), (before, after), mode=op.mode)
            g = taken_back(call, g, axis, taken.tolist(), extent)
    return {0: g}


@gradient(Slice)
def cut(op: Slice, call: Backward) -> dict[int, str]:
    """Zeros where nothing was taken; between, where steps are larger than 1."""
    x, g = call.shape(call.node.inputs[0]), call.whole
    for axis, (start, step, count) in enumerate(zip(op.starts, op.steps, op.shape, strict=True)):
        first, far = (start, step) if step > 0 else (start + (count - 1) * step, -step)
        if step < 0:
            own = call.shape(g)
            starts = tuple(n - 1 if k == axis else 0 for k, n in enumerate(own))
            g = call.add(Slice(starts, tuple(-1 if k == axis else 1 for k in range(len(own))), own), g)
        if far > 1 and count > 1:
            g = _spread(call, g, axis, far)
        after = x[axis] - first - call.shape(g)[axis]
        if after < 0:  # zeros behind the last one
            own = tuple(n + after if k == axis else n for k, n in enumerate(call.shape(g)))
            g, after = call.add(Slice((0,) * len(own), (1,) * len(own), own), g), 0
        if first or after:
            width = [tuple(n if k == axis else 0 for k in range(len(x))) for n in (first, after)]
            g = call.add(Pad(width[0], width[1]), g)
    return {0: g}


def _spread(call: Backward, g: str, axis: int, far: int) -> str:
    """Elements `far` apart along an axis, zeros between them and behind the last."""
    shape = call.shape(g)
    apart = call.reshaped(g, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    zeros = tuple(far - 1 if k == axis + 1 else 0 for k in range(len(shape) + 1))
    spread = call.add(Pad((0,) * len(zeros), zeros), apart)
    return call.reshaped(spread, (*shape[:axis], shape[axis] * far, *shape[axis + 1 :]))


@gradient(Gather)
def gather(op: Gather, call: Backward) -> dict[int, str]:
    """Each element's copies are added up."""
    extent = call.shape(call.node.inputs[0])[op.axis]
    return {0: taken_back(call, call.whole, op.axis, op.indices, extent)}


def taken_back(call: Backward, g: str, axis: int, indices: Sequence[int], extent: int) -> str:
    """Of what was taken from an axis of so many elements: the sum of the first copies of all elements, the
    second ones, ..., zero where there is none. Where they are many, each is added to where it came from."""
    shape, count = call.shape(g), len(indices)
    copies: dict[int, list[int]] = {k: [] for k in range(extent)}
    for place, k in enumerate(indices):
        copies[k].append(place)
    most = max(map(len, copies.values()))
    if most > MOST_COPIES:
        before, behind = shape[:axis], shape[axis + 1 :]
        lines = call.reshaped(g, (prod(before), count, prod(behind)))
        index = call.draft.constant(np.array(indices, np.int32), "places")
        total = added_along(call, lines, index, (prod(before), extent, prod(behind)))
        return call.reshaped(total, (*before, extent, *behind))
    if any(len(places) < most for places in copies.values()):
        after = tuple(int(k == axis) for k in range(len(shape)))
        g = call.add(Pad((0,) * len(shape), after), g)
    total = ""
    for k in range(most):
        back = tuple(places[k] if k < len(places) else count for places in copies.values())
        part = call.add(Gather(axis, back), g)
        total = call.binary("add", total, part) if total else part
    return total


@gradient(ResizeLinear)
def resize(op: ResizeLinear, call: Backward) -> dict[int, str]:
    """The transposed products: rows by a matrix [H, OH], columns by one [W, OW]."""
    x, rows, cols = call.node.inputs
    height, width, _ = call.shape(x)
    tables = (call.draft.constants[call.draft.now(table)] for table in (rows, cols))
    down, across = map(_shares, tables, (op.row_first, op.col_first), (height, width))
    return {0: _resized_back(call, down, across)}


@gradient(ResizeNearest)
def resize_nearest(op: ResizeNearest, call: Backward) -> dict[int, str]:
    """The same where each output has all of one input."""
    height, width, _ = call.shape(call.node.inputs[0])
    down, across = (
        _shares(np.ones((len(taken), 1)), taken, extent)
        for taken, extent in ((op.rows, height), (op.cols, width))
    )
    return {0: _resized_back(call, down, across)}


def _resized_back(call: Backward, down: NDArray[np.float32], across: NDArray[np.float32]) -> str:
    """Both products of the gradient with constants [H, OH] and [W, OW]."""
    out_height, out_width, channels = call.shape(call.node.output)
    rows, cols = (call.draft.constant(matrix, "shares") for matrix in (down, across))
    g = call.reshaped(call.whole, (out_height, out_width * channels))
    g = call.reshaped(call.add(MatMul(), rows, g), (len(down), out_width, channels))
    return call.add(MatMul(), cols, g)


def _shares(weights: NDArray[Any], first: Sequence[int], extent: int) -> NDArray[np.float32]:
    """[extent, outputs]: the share that each output has of each input, beginning at its first one."""
    matrix = np.zeros((extent, len(first)), np.float32)
    for out, begin in enumerate(first):
        for tap, weight in enumerate(weights[out]):
            matrix[min(max(begin + tap, 0), extent - 1), out] += weight
    return matrix


@gradient(Cumulative)
def cumulative(op: Cumulative, call: Backward) -> dict[int, str]:
    """An element is in the sums of all behind it: their gradients are summed from the other end."""
    if op.function != "sum":
        raise no_gradient(call.node)
    return {0: call.add(replace(op, reverse=not op.reverse), call.whole)}


@gradient(Cast)
def cast(op: Cast, call: Backward) -> dict[int, str]:
    """Integers do not change but in steps, nor does what is made of them."""
    if op.dtype.is_float and call.draft.tensors[call.draft.now(call.node.inputs[0])].dtype.is_float:
        raise no_gradient(call.node)
    return {}


@gradient(QuantizeBy)
def quantize_by(_op: QuantizeBy, _call: Backward) -> dict[int, str]:
    """Integers change in steps only."""
    return {}
