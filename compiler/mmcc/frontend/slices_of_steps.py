# SPDX-License-Identifier: Apache-2.0
"""Nodes of a loop's body that take a part of a value around it, which moves on evenly from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from mmcc.errors import CompileError
from mmcc.frontend.convert import Import
from mmcc.frontend.known_values import own_names
from mmcc.frontend.lifting import Scanned
from mmcc.frontend.schema import domain_of
from mmcc.frontend.tensors import to_array
from mmcc.frontend.value import Value
from mmcc.ops.repeat import Taken

Array = NDArray[Any]


def slices_of_steps(
    state: Import, body: GraphProto, known: Mapping[str, Array], steps: int
) -> dict[str, Scanned]:
    """What each step takes, by the names that Gather and Slice nodes of the body give to it.

    `known` has, [steps, ...], the values of which all is known before the first step.
    """
    own, constants = own_names(body), {tensor.name: tensor for tensor in body.initializer}

    def numbers(name: str) -> Array | None:
        """What each step finds; None if that depends on more."""
        if name in known:
            return known[name]
        if name in constants:
            try:
                array = to_array(constants[name], state.source.folder)
            except CompileError:  # told when the body is converted
                return None
            return np.broadcast_to(array, (steps, *array.shape))
        value = None if name in own else state.values.get(name)
        if value is None or not state.build.is_constant(value.tensor):
            return None
        array = state.build.array(value)
        return np.broadcast_to(array, (steps, *array.shape))

    found: dict[str, Scanned] = {}
    for node in body.node:
        if node.op_type not in {"Gather", "Slice"} or domain_of(node) or not node.input:
            continue
        value = None if node.input[0] in own else state.values.get(node.input[0])
        if value is None or known.keys().isdisjoint(node.input[1:]):
            continue
        operands = [numbers(name) if name else None for name in node.input[1:]]
        if any(array is None for name, array in zip(node.input[1:], operands, strict=True) if name):
            continue
        taken = (_gathered if node.op_type == "Gather" else _cut)(node, value, operands)
        if taken is not None:
            found[node.output[0]] = Scanned(value, *taken)
    return found


def _gathered(node: NodeProto, value: Value, operands: list[Array | None]) -> tuple[int, Taken] | None:
    """The axis and the rows of a Gather: one row without the axis, or as many as there are indices."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    (indices,) = operands if len(operands) == 1 else (None,)
    if indices is None or indices.ndim > 2 or not -value.rank <= axis < value.rank:
        return None
    axis, extent = axis % value.rank, value.shape[axis]
    begins = np.where(indices < 0, indices + extent, indices).astype(np.int64)
    rows = begins.shape[1] if begins.ndim == 2 else 0
    if begins.ndim == 2:
        if not rows or (begins != begins[:, :1] + np.arange(rows)).any():
            return None
        begins = begins[:, 0]
    return _moved(axis, begins, rows, extent)


def _cut(node: NodeProto, value: Value, operands: list[Array | None]) -> tuple[int, Taken] | None:
    """The axis and the rows of a Slice without strides, which takes all of the other axes."""
    starts, ends, axes, strides = (*operands, None, None)[:4]
    if starts is None or ends is None or starts.ndim != 2 or starts.shape != ends.shape:
        return None
    if strides is not None and (strides != 1).any():
        return None
    if axes is not None and (axes.shape != starts.shape or (axes != axes[0]).any()):
        return None
    cut = [int(axis) for axis in (range(starts.shape[1]) if axes is None else axes[0])]
    if any(not -value.rank <= axis < value.rank for axis in cut):
        return None
    moving: list[tuple[int, Taken]] = []
    for k, axis in enumerate(axis % value.rank for axis in cut):
        extent = value.shape[axis]
        bounds = [
            slice(int(a), int(b)).indices(extent)[:2] for a, b in zip(starts[:, k], ends[:, k], strict=True)
        ]
        if all(bound == (0, extent) for bound in bounds):
            continue
        rows = {end - begin for begin, end in bounds}
        first = next(iter(rows))
        taken = None
        if len(rows) == 1 and first > 0:
            taken = _moved(axis, np.array([begin for begin, _ in bounds]), first, extent)
        if taken is None:
            return None
        moving.append(taken)
    return moving[0] if len(moving) == 1 else None


def _moved(axis: int, begins: Array, rows: int, extent: int) -> tuple[int, Taken] | None:
    """Rows that begin where they do, if that is by as much from step to step, and there are as many."""
    stride = int(begins[1] - begins[0]) if len(begins) > 1 else 0
    if (np.diff(begins) != stride).any():
        return None
    taken = Taken(int(begins[0]), stride, rows)
    return (axis, taken) if taken.within(extent, len(begins)) else None
