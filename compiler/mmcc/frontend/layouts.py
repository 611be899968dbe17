# SPDX-License-Identifier: Apache-2.0
"""A Value in the layout that an operator needs: elements move only where memory has another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.problems import bad_model
from mmcc.frontend.value import Value
from mmcc.ir.types import Shape
from mmcc.ops.movement import Expand, Reshape, Transpose

MAX_WALKED = 6  # axes that a copy of single elements can walk

Groups = Sequence[Sequence[int]]


def shaped(build: Builder, x: Value, shape: Shape) -> str:
    """The tensor of `x` under another shape, elements in the same order."""
    name = x.tensor
    node = build.producer.get(name)
    if build.tensors[name].shape != shape and node is not None and isinstance(node.op, Reshape):
        name = node.inputs[0]  # one Reshape in place of two
    return name if build.tensors[name].shape == shape else build.emit(Reshape(shape), name).name


def viewed(build: Builder, x: Value) -> str:
    """The tensor of `x` in the shape of its view."""
    return shaped(build, x, x.view)


def permuted(build: Builder, x: Value, order: Sequence[int]) -> Value:
    """`x` with its solid view axes in this order in memory; as an ONNX value it does not change."""
    solid = x.solid
    assert sorted(order) == solid
    view = tuple(x.view[v] for v in order)
    tensor = x.tensor
    if list(order) != solid:
        compact = shaped(build, x, tuple(x.view[v] for v in solid))
        tensor = _transposed(build, compact, [solid.index(v) for v in order])
    return Value(tensor, x.dtype, view, x.permuted_axes(order))


def _transposed(build: Builder, name: str, perm: list[int]) -> str:
    """A tensor with its axes in another order; in several steps if one kernel cannot do it."""
    if len(perm) <= MAX_WALKED:
        return build.emit(Transpose(tuple(perm)), name).name
    shape = build.tensors[name].shape
    runs: list[list[int]] = []  # axes that stay neighbours are one
    for axis in perm:
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) <= MAX_WALKED:
        ordered = sorted(runs)
        joined = build.emit(Reshape(tuple(prod(shape[a] for a in run) for run in ordered)), name).name
        moved = build.emit(Transpose(tuple(ordered.index(run) for run in runs)), joined).name
        return build.emit(Reshape(tuple(shape[a] for a in perm)), moved).name
    # what is in front already, two more runs, and the rest in three pieces at most: never too wild
    front = [axis for run in runs[: 2 + (runs[0][0] == 0)] for axis in run]
    step = front + [axis for axis in range(len(perm)) if axis not in front]
    return _transposed(build, _transposed(build, name, step), [step.index(axis) for axis in perm])


def by_view(build: Builder, x: Value, groups: Groups) -> str:
    """The tensor of `x` with one axis for each group of view axes, those of a group joined."""
    order = [v for group in groups for v in group if x.view[v] != 1]
    moved = permuted(build, x, order) if order != x.solid else x
    return shaped(build, moved, tuple(prod(x.view[v] for v in group) for group in groups))


def arranged(build: Builder, x: Value, groups: Groups) -> str:
    """The tensor of `x` with one axis for each group of ONNX axes, those of a group joined."""
    return by_view(build, x, [[v for k in group for v in x.axes[k]] for group in groups])


def plain(build: Builder, x: Value) -> str:
    """The tensor of `x` just as ONNX has it."""
    return arranged(build, x, [(k,) for k in range(x.rank)])


def one_axis_each(build: Builder, x: Value) -> Value:
    """`x` laid out so that each ONNX axis is on at most one axis of the tensor."""
    if any(list(axis) != list(range(axis[0], axis[0] + len(axis))) for axis in x.axes if len(axis) > 1):
        axes = sorted((k for k in range(x.rank) if x.atoms([k])), key=lambda k: min(x.atoms([k])))
        x = permuted(build, x, x.atoms(axes))
    shape: list[int] = []
    place: dict[int, int] = {}  # first view axis -> tensor axis
    inner = {v for axis in x.axes for v in axis[1:]}
    starts = {axis[0]: axis for axis in x.axes if axis}
    for v, extent in enumerate(x.view):
        if v not in inner:
            place[v] = len(shape)
            shape.append(prod(x.view[w] for w in starts.get(v, (v,))) if v in starts else extent)
    axes = tuple((place[axis[0]],) if axis else () for axis in x.axes)
    return Value(shaped(build, x, tuple(shape)), x.dtype, tuple(shape), axes)


def with_axis(build: Builder, x: Value, axis: int, last: bool = False) -> tuple[Value, int]:
    """`one_axis_each`, with ONNX axis `axis` on an axis of the tensor even if its extent is 1; and which."""
    x = one_axis_each(build, x)
    if x.axes[axis]:
        return x, x.axes[axis][0]
    earlier = [v for k in range(axis) for v in x.axes[k]]
    at = len(x.view) if last else max(earlier, default=-1) + 1
    view = (*x.view[:at], 1, *x.view[at:])
    axes = tuple((at,) if k == axis else tuple(v + (v >= at) for v in old) for k, old in enumerate(x.axes))
    return Value(shaped(build, x, view), x.dtype, view, axes), at


def with_axes(build: Builder, x: Value, axes: Sequence[int]) -> Value:
    """`with_axis` for several axes."""
    x = one_axis_each(build, x)
    for axis in axes:
        x, _ = with_axis(build, x, axis)
    return x


def innermost(build: Builder, x: Value, axes: Sequence[int]) -> Value:
    """`x` laid out with the given ONNX axes innermost in memory, in any order among themselves."""
    wanted = x.atoms(axes)
    solid = x.solid
    if set(solid[len(solid) - len(wanted) :]) == set(wanted):
        return x
    return permuted(build, x, [v for v in solid if v not in wanted] + wanted)


def reshaped(build: Builder, x: Value, shape: Shape) -> Value:
    """ONNX's Reshape."""
    if prod(shape) != x.size:
        raise bad_model(
            "MM104",
            f"cannot reshape {list(x.shape)} ({x.size} elements) to {list(shape)} ({prod(shape)})",
        )
    lazy = x.reshaped(shape) if x.size else None
    if lazy is not None:
        return lazy
    return Value(plain(build, x), x.dtype, shape, tuple((k,) for k in range(len(shape))))


def expanded(build: Builder, x: Value, extents: Mapping[int, int]) -> Value:
    """Repeat ONNX axes of extent 1."""
    if not extents:
        return x
    if x.size * prod(extents.values()) > MAX_ELEMENTS:
        raise bad_model("MM105", f"{list(x.shape)} is expanded by {list(extents.values())}")
    if x.rank > MAX_WALKED and len(extents) > 1:  # the others are one or two axes to a copy then
        for k, extent in extents.items():
            x = expanded(build, x, {k: extent})
        return x
    x = with_axes(build, x, sorted(extents))
    view = list(x.view)
    for k, extent in extents.items():
        view[x.axes[k][0]] = extent
    return replace(x, tensor=build.emit(Expand(tuple(view)), x.tensor).name, view=tuple(view))
