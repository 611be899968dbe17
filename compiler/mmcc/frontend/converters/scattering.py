# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that put elements to places which operands name."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.indexing import check_elements, check_inside, index_input, of_lines
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.layouts import arranged, expanded, one_axis_each, reshaped
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import converts
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast
from mmcc.ops.indexing import ScatterAlong, ScatterLines
from mmcc.ops.movement import Expand


@converts(
    "ScatterND", since=11, notes="any indices, all reductions; those outside at run time are moved inside"
)
def convert_scatter_nd(call: Call) -> Value:
    """Slices named by several indices each are replaced, or updated."""
    build, x, index, updates = call.build, call.input(0), index_input(call, 1), call.input(2)
    parts = index.shape[-1] if index.rank else 0
    want = (*index.shape[:-1], *x.shape[parts:])
    if not 0 < parts <= x.rank or updates.shape != want or index.size == 0 or updates.dtype != x.dtype:
        raise bad_model(
            "MM104", f"indices {list(index.shape)}, updates {list(updates.shape)}: {list(x.shape)}"
        )
    if parts == 1:
        lines = reshaped(build, index, (index.size,))
        updates = reshaped(build, updates, (index.size, *x.shape[1:]))
        return _to_lines(build, x, lines, updates, 0, _reduction(call))
    rows = range(index.rank - 1)
    names = [
        arranged(build, x, [range(parts), range(parts, x.rank)]),
        arranged(build, index, [rows, (index.rank - 1,)]),
        arranged(build, updates, [rows, range(index.rank - 1, updates.rank)]),
    ]
    return of_lines(build, ScatterLines(x.shape[:parts], _reduction(call)), names, x.shape)


def _reduction(call: Call) -> str:
    reduction = call.text("reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        raise bad_model("MM103", f'reduction is "{reduction}"')
    return reduction


def _to_lines(build: Builder, x: Value, index: Value, updates: Value, axis: int, reduction: str) -> Value:
    """Whole lines across one axis are updated, in the order in which memory has the axes of `x`.

    So a cache is never turned around for the line that it gets. The index has one axis.
    """
    x = one_axis_each(build, x)
    order = sorted((k for k in range(x.rank) if k == axis or x.atoms([k])), key=lambda k: x.axes[k] or (0,))
    at = order.index(axis)
    outer, inner = order[:at], order[at + 1 :]
    outermost = prod(x.shape[k] for k in outer) == 1
    groups = [[*outer, axis], inner] if outermost else [outer, [axis], inner]
    op = ScatterLines((x.shape[axis],), reduction) if outermost else ScatterAlong(reduction)
    names = [arranged(build, x, groups), arranged(build, index, [(0,)]), arranged(build, updates, groups)]
    made = build.emit(op, *names)
    axes = tuple((order.index(k),) if k in order else () for k in range(x.rank))
    return Value(made.name, made.dtype, tuple(x.shape[k] for k in order), axes)


@converts("Scatter", since=9, notes="as ScatterElements")
@converts("ScatterElements", since=11, notes="any indices, all reductions; those outside are moved inside")
def convert_scatter_elements(call: Call) -> Value:
    """Elements along one axis, each named by an index of its own, are replaced or updated."""
    x, index, updates = call.input(0), index_input(call, 1), call.input(2)
    axis = call.axis(x.rank, 0)
    check_elements(x, index, axis)
    if updates.shape != index.shape or updates.dtype != x.dtype:
        raise bad_model("MM104", f"updates {list(updates.shape)} do not fit indices {list(index.shape)}")
    check_inside(call.build, index, x.shape[axis], axis, x)
    return _scattered(call.build, x, index, updates, axis, _reduction(call))


def _scattered(build: Builder, x: Value, index: Value, updates: Value, axis: int, reduction: str) -> Value:
    """The part of `x` that indices are for is updated; what is beyond stays."""
    for k, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)):
        if k != axis and n < m:
            part, rest = (sliced(build, x, {k: cut}) for cut in ((0, 1, n), (n, 1, m - n)))
            return concat(build, [_scattered(build, part, index, updates, axis, reduction), rest], k)
    lines = _lines(build, index, axis)
    if lines is not None:
        return _to_lines(build, x, lines, updates, axis, reduction)
    around = [[*range(axis)], [axis], [*range(axis + 1, x.rank)]]
    names = [arranged(build, v, around) for v in (x, index, updates)]
    return of_lines(build, ScatterAlong(reduction), names, x.shape)


def _lines(build: Builder, index: Value, axis: int) -> Value | None:
    """The index of each line along an axis, where all others have the same; None where they differ."""
    if build.is_constant(index.tensor):
        known = build.array(index)
        line = known[tuple(slice(None) if k == axis else slice(0, 1) for k in range(index.rank))]
        return (
            build.constant(line.reshape(-1))
            if np.array_equal(np.broadcast_to(line, known.shape), known)
            else None
        )
    node = build.producer.get(index.tensor)
    while node is not None and isinstance(node.op, Expand) and node.op.shape == index.view:
        source = build.tensors[node.inputs[0]]
        index = replace(index, tensor=source.name, view=source.shape)
        node = build.producer.get(index.tensor)
    return reshaped(build, index, (index.size,)) if index.size == index.shape[axis] else None


@converts("TensorScatter", since=24, notes="linear and circular")
def convert_tensor_scatter(call: Call) -> Value:
    """New rows are written into a cache, for each sample from an index on."""
    build, x, updates = call.build, call.input(0), call.input(1)
    axis = call.axis(x.rank, -2)
    mode = call.text("mode", "linear")
    fits = updates.rank == x.rank > 1 and axis > 0 and mode in ("linear", "circular")
    if not fits or any(
        n != m for k, (n, m) in enumerate(zip(x.shape, updates.shape, strict=True)) if k != axis
    ):
        raise bad_model("MM104", f"{list(updates.shape)} into axis {axis} of {list(x.shape)}, {mode}")
    count, extent = updates.shape[axis], x.shape[axis]
    steps = build.constant(np.arange(count).reshape(-1, *(1,) * (x.rank - axis - 1)))
    places = steps
    if call.has(2):
        first = reshaped(build, index_input(call, 2), (x.shape[0], *(1,) * (x.rank - 1)))
        first = first if first.dtype == ElementType.I64 else unary(build, Cast(ElementType.I64), first)
        places = elementwise(build, Binary("add"), first, steps)
    if mode == "circular":
        places = elementwise(build, Binary("mod"), places, build.constant(np.array(extent)))
    places = places.padded(x.rank)
    if places.size == count:
        lines = reshaped(build, places, (count,))
        return _to_lines(build, x, lines, updates, axis, "none")
    missing = {k: n for k, n in enumerate(updates.shape) if places.shape[k] != n}
    return _scattered(build, x, expanded(build, places, missing), updates, axis, "none")
