# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that take elements from places which operands name."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.layouts import arranged, expanded, reshaped, with_axis
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import LEARNED, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Cast
from mmcc.ops.indexing import TakeAlong, TakeLines
from mmcc.ops.movement import Gather

INDEX_TYPES = (ElementType.I32, ElementType.I64)


def index_input(call: Call, k: int) -> Value:
    """An operand of indices."""
    index = call.input(k)
    if not index.dtype.is_integer:
        raise bad_model("MM104", f"indices of type {index.dtype.name}")
    return index if index.dtype in INDEX_TYPES else unary(call.build, Cast(ElementType.I64), index)


def check_inside(build: Builder, index: Value, extent: int, axis: int, x: Value) -> None:
    """Constant indices must be inside; those computed at run time are moved there."""
    if not build.is_constant(index.tensor):
        return
    known = build.array(index)
    if known.size and (known.min() < -extent or known.max() >= extent):
        what = f"an index of {known.min()}..{known.max()} is outside axis {axis} of {list(x.shape)}"
        raise bad_model("MM104", what)


@converts("Gather", notes="any indices; those outside at run time are moved to the nearest element")
def convert_gather(call: Call) -> Value:
    """Take slices of one axis; a single index drops the axis."""
    x = call.input(0)
    return gathered(call.build, x, call.axis(x.rank, 0), index_input(call, 1))


def gathered(build: Builder, x: Value, axis: int, index: Value) -> Value:
    """Slices of one axis, in the shape of the indices."""
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    if index.size == 0:
        return build.constant(np.zeros(shape, x.dtype.numpy))
    check_inside(build, index, x.shape[axis], axis, x)
    if build.is_constant(index.tensor):
        taken = _gather_constant(build, x, axis, build.array(index))
    else:
        taken = _gather_computed(build, x, axis, index)
    return reshaped(build, taken, shape)


def _gather_constant(build: Builder, x: Value, axis: int, indices: NDArray[np.integer]) -> Value:
    extent = x.shape[axis]
    flat = [i + extent if i < 0 else i for i in indices.reshape(-1).tolist()]
    build.spend(8 * len(flat), f"a Gather of {len(flat)} indices")
    step = flat[1] - flat[0] if len(flat) > 1 else 1
    if step and flat == list(range(flat[0], flat[0] + step * len(flat), step)):
        return sliced(build, x, {axis: (flat[0], step, len(flat))})
    lead, at = with_axis(build, x, axis)
    made = build.emit(Gather(at, tuple(flat)), lead.tensor)
    return Value(made.name, made.dtype, made.shape, lead.axes)


def _gather_computed(build: Builder, x: Value, axis: int, index: Value) -> Value:
    """The outer axes as rows, the axis as columns; where nothing is outside of it, its elements are rows."""
    flat = arranged(build, index, [range(index.rank)])
    outer, inner = range(axis), range(axis + 1, x.rank)
    shape = (*x.shape[:axis], index.size, *x.shape[axis + 1 :])
    if prod(x.shape[:axis]) == 1:
        table = arranged(build, x, [[*outer, axis], inner])
        return of_lines(build, TakeLines((x.shape[axis],)), [table, flat], shape)
    return of_lines(build, TakeAlong(), [arranged(build, x, [outer, (axis,), inner]), flat], shape)


def of_lines(build: Builder, op: Op, names: list[str], shape: Shape) -> Value:
    """The result of an op on two or three axes, as ONNX sees it."""
    made = build.emit(op, *names)
    return reshaped(build, whole(made, range(len(made.shape))), shape)


@converts("GatherElements", since=11, notes="any indices; those outside at run time are moved inside")
def convert_gather_elements(call: Call) -> Value:
    """Elements along one axis, each named by an index of its own."""
    x, index = call.input(0), index_input(call, 1)
    axis = call.axis(x.rank, 0)
    check_elements(x, index, axis)
    check_inside(call.build, index, x.shape[axis], axis, x)
    cuts = {k: (0, 1, n) for k, n in enumerate(index.shape) if k != axis}
    x = sliced(call.build, x, cuts)
    names = [arranged(call.build, v, _around(v.rank, axis)) for v in (x, index)]
    return of_lines(call.build, TakeAlong(), names, index.shape)


def _around(rank: int, axis: int) -> list[list[int]]:
    return [[*range(axis)], [axis], [*range(axis + 1, rank)]]


def check_elements(x: Value, index: Value, axis: int) -> None:
    """Raise for indices that are not for elements along an axis."""
    fits = x.rank == index.rank > 0
    fits = fits and all(
        n <= m for k, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if k != axis
    )
    if not fits or index.size == 0:
        raise bad_model("MM104", f"indices {list(index.shape)} do not fit axis {axis} of {list(x.shape)}")


@converts("GatherND", since=11, notes="any indices, batch_dims; those outside at run time are moved inside")
def convert_gather_nd(call: Call) -> Value:
    """Slices named by several indices each."""
    build, x, index = call.build, call.input(0), index_input(call, 1)
    batch = call.integer("batch_dims", 0)
    parts = index.shape[-1] if index.rank else 0
    fits = 0 <= batch < index.rank and 0 < parts <= x.rank - batch and index.size > 0
    if not fits or index.shape[:batch] != x.shape[:batch]:
        raise bad_model("MM104", f"indices {list(index.shape)} for {list(x.shape)}, {batch} batch axes")
    held = batch + parts  # axes of x that indices name
    shape = (*index.shape[:-1], *x.shape[held:])
    named = x.shape[batch:held]
    if batch:  # indices that are known
        index = _with_places(build, index, x.shape[:batch])
        named = x.shape[:held]
    names = [
        arranged(build, x, [range(held), range(held, x.rank)]),
        arranged(build, index, [range(index.rank - 1), (index.rank - 1,)]),
    ]
    return of_lines(build, TakeLines(named), names, shape)


def _with_places(build: Builder, index: Value, batch: Shape) -> Value:
    """Indices with those of their batch in front."""
    places: list[Value] = []
    for k, extent in enumerate(batch):
        shape = [1] * index.rank
        shape[k] = extent
        own = build.constant(np.arange(extent).astype(index.dtype.numpy).reshape(shape))
        missing = {j: n for j, n in enumerate(index.shape[:-1]) if j != k and n != 1}
        places.append(expanded(build, own, missing))
    return concat(build, [*places, index], index.rank - 1)


@converts("ArrayFeatureExtractor", domain=LEARNED, notes="of the last axis")
def convert_array_feature_extractor(call: Call) -> Value:
    """Columns of a matrix."""
    x, index = call.input(0), index_input(call, 1)
    if x.rank == 0 or index.size == 0:
        raise bad_model("MM104", f"features {list(index.shape)} of {list(x.shape)}")
    check_inside(call.build, index, x.shape[-1], x.rank - 1, x)
    if call.build.is_constant(index.tensor):
        taken = _gather_constant(call.build, x, x.rank - 1, call.build.array(index))
    else:
        taken = _gather_computed(call.build, x, x.rank - 1, index)
    rows = x.shape[:-1] if x.rank > 1 else (1,)
    return reshaped(call.build, taken, (*rows, index.size))
