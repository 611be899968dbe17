# SPDX-License-Identifier: Apache-2.0
"""Operators that only move elements: strided copies, look-ups by index tables, concatenation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import Constant, Field, KernelUse, View
from mmcc.ir.types import Shape
from mmcc.kernels.select import Operand, Site, layer
from mmcc.ops.elementwise import BitCast
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.resize import ResizeNearest


@layer(Reshape)
def copy(op: Reshape, site: Site) -> KernelUse:
    """Pieces that are whole in both tensors, for a reshape that is no alias."""
    del op
    x, y = site.inputs[0], site.output
    size = x.dtype.size
    fields: tuple[tuple[str, Field], ...] = (
        ("x", source_view(site, 0)),
        ("y", y.where()),
        ("in_cols", x.geometry[1]),
        ("in_bytes", x.geometry[2] * size),
        ("out_cols", y.geometry[1]),
        ("out_bytes", y.geometry[2] * size),
    )
    return KernelUse("copy", (("size", size),), fields)


def source_view(site: Site, k: int) -> View:
    """Where operand k is, be it an activation or a constant."""
    operand = site.inputs[k]
    if operand.view is not None:
        return operand.view
    rows, cols, channels = operand.geometry
    data = site.keep(f"operand{k}", operand.constant())
    return View("weights", data, operand.dtype.bytes(cols * channels), channels, rows)


# ---- strided copies


@dataclass(frozen=True, slots=True)
class Walk:
    """Index of an input axis: start + step * (counter of output axis `axis`); at start where that is None."""

    start: int
    step: int
    axis: int | None


@layer(Transpose)
def transpose(op: Transpose, site: Site) -> KernelUse:
    """Input axis `perm[k]` goes with output axis k."""
    axes = [op.perm.index(axis) for axis in range(len(op.perm))]
    return strided(site, [Walk(0, 1, axis) for axis in axes])


@layer(Slice)
def slice_(op: Slice, site: Site) -> KernelUse:
    """Each axis from a start by a step."""
    return strided(
        site,
        [Walk(start, step, axis) for axis, (start, step) in enumerate(zip(op.starts, op.steps, strict=True))],
    )


@layer(Expand)
def expand(op: Expand, site: Site) -> KernelUse:
    """Axes of extent 1 stay at 0."""
    del op
    return strided(
        site, [Walk(0, 1, None if n == 1 else axis) for axis, n in enumerate(site.inputs[0].shape)]
    )


@layer(BitCast)
def bit_cast(op: BitCast, site: Site) -> KernelUse:
    """Elements of the same size, each at its place."""
    del op
    return strided(site, [Walk(0, 1, axis) for axis in range(len(site.output.shape))])


def strided(site: Site, walks: list[Walk]) -> KernelUse:
    """The kernel that copies element by element with one stride an output axis, in up to 4 loops a pixel."""
    x = source_view(site, 0)
    size = site.output.dtype.size
    row_step = x.row_stride // size
    strides = axis_strides(site.inputs[0], x)
    by_axis = [0] * len(site.output.shape)
    offset = 0
    first, row_walk = 0, 0
    for axis, (walk, stride) in enumerate(zip(walks, strides, strict=True)):
        is_row = axis == 0 and len(walks) >= 2
        if is_row and walk.axis in (0, None):  # the ring is walked by output rows
            first, row_walk = walk.start, walk.step if walk.axis == 0 else 0
            continue
        offset += walk.start * (row_step if is_row else stride)
        if walk.axis is not None:
            by_axis[walk.axis] += walk.step * (row_step if is_row else stride)
    row_stride, col_stride, inner = split_axes(site.output.shape, by_axis)
    loops = merge(inner)
    assert len(loops) <= 4, "a strided copy of more than 6 axes"
    fields: list[tuple[str, Field]] = [
        ("x", x),
        ("y", site.output.where()),
        ("offset", offset),
        ("first", first),
        ("row_walk", row_walk),
        ("row_step", row_stride),
        ("col_step", col_stride),
        ("held_step", x.col_stride if len(site.inputs[0].shape) >= 3 else 0),
    ]
    for k, (extent, stride) in enumerate(loops):
        fields += [(f"extent{k}", extent), (f"stride{k}", stride)]
    contiguous = loops[-1][1] == 1
    options = (("type", site.output.dtype.moved), ("loops", len(loops)), ("contiguous", contiguous))
    return KernelUse("strided_copy", options, tuple(fields))


def axis_strides(operand: Operand, view: View) -> list[int]:
    """Elements from one index to the next on every axis of an operand; of a ring's rows too."""
    shape = operand.shape
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if len(shape) >= 2:
        strides[0] = view.row_stride // operand.dtype.size
    if len(shape) >= 3:
        strides[1] = view.col_stride
    return strides


def split_axes(shape: Shape, strides: list[int]) -> tuple[int, int, list[tuple[int, int]]]:
    """Strides of rows and columns, and (extent, stride) of the axes inside a pixel."""
    pairs = list(zip(shape, strides, strict=True))
    match len(shape):
        case 0 | 1:
            return 0, 0, pairs
        case 2:
            return strides[0], 0, pairs[1:]
        case _:
            return strides[0], strides[1], pairs[2:]


def merge(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Fewer loops for one walk: extents of 1 are dropped, and loops that continue each other are joined."""
    merged: list[tuple[int, int]] = []
    for extent, stride in loops:
        if extent == 1:
            continue
        if merged and merged[-1][1] == stride * extent:
            merged[-1] = (merged[-1][0] * extent, stride)
        else:
            merged.append((extent, stride))
    return merged or [(1, 1)]


# ---- index tables


@layer(Gather)
def gather(op: Gather, site: Site) -> KernelUse:
    """A table for the axis that is gathered."""
    taken: list[NDArray[np.int64] | None] = [None] * len(site.output.shape)
    taken[op.axis] = np.array(op.indices, np.int64)
    return take(site, taken, 0)


@layer(Pad)
def pad(op: Pad, site: Site) -> KernelUse:
    """A table for each axis that grows; -1 stands for the constant."""
    x = site.inputs[0].shape
    taken: list[NDArray[np.int64] | None] = []
    for n, before, after in zip(x, op.before, op.after, strict=True):
        if before == after == 0:
            taken.append(None)
        elif op.mode == "constant":
            taken.append(np.pad(np.arange(n), (before, after), constant_values=-1))
        else:
            taken.append(np.pad(np.arange(n), (before, after), mode=op.mode))
    value = np.array([op.value]).astype(site.output.dtype.numpy)
    raw = value.view(f"u{value.itemsize}")[0]
    return take(site, taken, int(raw))


@layer(ResizeNearest)
def resize_nearest(op: ResizeNearest, site: Site) -> KernelUse:
    """A table for rows, and one for columns."""
    return take(site, [np.array(op.rows), np.array(op.cols), None], 0)


def take(site: Site, taken: list[NDArray[np.int64] | None], fill: int) -> KernelUse:
    """The kernel that finds each row, column and channel of its input in a table, where an axis has one."""
    shape = site.inputs[0].shape
    rank = len(shape)
    tables = {
        "rows": taken[0] if rank >= 2 else None,
        "cols": taken[1] if rank >= 3 else None,
        "channels": _folded(shape, taken, min(2, max(0, rank - 1))),
    }
    fills = any(table is not None and bool((table < 0).any()) for table in tables.values())
    size = site.output.dtype.size
    most = max((int(table.max(initial=0)) for table in tables.values() if table is not None), default=0)
    index = np.dtype(np.int16 if most < 2**15 else np.int32)
    fields: list[tuple[str, Field]] = [
        ("x", source_view(site, 0)),
        ("y", site.output.where()),
        ("channels", site.output.geometry[2]),
    ]
    fields += [
        (f"{name}_table", site.keep(name, t.astype(index))) for name, t in tables.items() if t is not None
    ]
    if fills:
        value = np.array([fill], f"u{size}").view(f"i{size}")
        fields.append(("fill", site.keep("fill", value)))
    options = (
        ("type", site.output.dtype.moved),
        ("index", f"{index.name}_t"),
        ("fills", fills),
        *((name, table is not None) for name, table in tables.items()),
    )
    return KernelUse("take", options, tuple(fields))


def _folded(shape: Shape, taken: list[NDArray[np.int64] | None], first: int) -> NDArray[np.int64] | None:
    """One table for all axes inside a pixel; -1 where any of them gives the constant."""
    if all(table is None for table in taken[first:]):
        return None
    folded = np.zeros((), np.int64)
    outside = np.zeros((), np.bool_)
    for extent, table in zip(shape[first:], taken[first:], strict=True):
        indices = np.arange(extent) if table is None else table
        folded = folded[..., None] * extent + indices
        outside = outside[..., None] | (indices < 0)
    return np.where(outside, -1, folded).reshape(-1)


# ---- concatenation


@layer(Concat)
def concat(op: Concat, site: Site) -> KernelUse:
    """One part an input that does not lie in its place already."""
    shape, rank = site.output.shape, len(site.output.shape)
    kind = "rows" if rank >= 2 and op.axis == 0 else "cols" if rank >= 3 and op.axis == 1 else "channels"
    inner = prod(shape[op.axis + 1 :]) if kind == "channels" else 1
    outer = prod(shape[min(2, rank - 1) : op.axis]) if kind == "channels" else 1
    fields: list[tuple[str, Field]] = [("y", site.output.where())]
    parts: list[int] = []
    start = 0
    for k, operand in enumerate(site.inputs):
        extent = operand.shape[op.axis]
        if outer > 1 or not _in_place(site, operand, kind, start * inner):
            fields += [(f"x{k}", source_view(site, k)), (f"start{k}", start * inner)]
            fields.append((f"extent{k}", extent * inner))
            parts.append(k)
        start += extent
    if kind == "channels":
        fields += [("outer", outer), ("channels", shape[op.axis] * inner)]
    else:
        fields.append(("channels", site.output.geometry[2]))
    options = (("type", site.output.dtype.moved), ("kind", kind), ("parts", tuple(parts)))
    return KernelUse("concat", options, tuple(fields), origins=max(3, len(site.inputs)))


def _in_place(site: Site, operand: Operand, kind: str, start: int) -> bool:
    """True if the plan laid this input where it belongs in the output.

    Equal views hold the same columns, too. Only rings of a group in strips begin at a column other than the
    first, and in such a group two things share bytes only where one is made in place of the other, element by
    element, for just the columns that the other has.
    """
    x, y = operand.view, site.output.where()
    if x is None or isinstance(x.offset, Constant) or isinstance(y.offset, Constant):
        return False
    size = operand.dtype.size
    step = {"rows": y.row_stride, "cols": y.col_stride * size, "channels": size}[kind]
    if kind != "rows":
        return x == replace(y, offset=y.offset + start * step)
    whole = (
        x.rows >= operand.geometry[0] and y.rows >= start + operand.geometry[0]
    )  # a ring goes back to its start
    return whole and x == replace(y, offset=y.offset + start * step, rows=x.rows)
