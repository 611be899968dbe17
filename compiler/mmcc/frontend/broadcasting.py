# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of Values: by numpy's rules of broadcasting, in whatever layout the operands have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from mmcc.frontend.builder import Builder
from mmcc.frontend.layouts import MAX_WALKED, arranged, by_view, expanded
from mmcc.frontend.value import Value, runs
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.broadcasting import broadcast_shape


def unary(build: Builder, op: Op, x: Value) -> Value:
    """Apply an op to each element; the layout stays."""
    made = build.emit(op, x.tensor)
    return replace(x, tensor=made.name, dtype=made.dtype)


def elementwise(build: Builder, op: Op, *values: Value) -> Value:
    """Apply an op of several operands by numpy's rules of broadcasting, in the largest one's layout."""
    shape = broadcast_shape(*(x.shape for x in values))
    values = tuple(x.padded(len(shape)) for x in values)
    if len(shape) > MAX_WALKED:
        values = tuple(_spread(build, x, shape) for x in values)
    full = [x for x in values if x.shape == shape]
    lead = next((x for x in full if not build.is_constant(x.tensor)), full[0] if full else None)
    refined = _same_factors(build, lead, values) if lead else None
    if lead is None or refined is None:
        return _elementwise_plain(build, op, shape, values)
    lead = refined[next(k for k, x in enumerate(values) if x is lead)]
    groups = _common_runs(build, lead, refined)
    if groups is None:
        groups = [[v] for v in range(len(lead.view))]
    owner = {v: (k, j) for k, axis in enumerate(lead.axes) for j, v in enumerate(_solid(lead, axis))}
    names: list[str] = []
    for x in refined:
        mine: list[list[int]] = []
        for group in groups:
            places = [owner[v] for v in group if v in owner]
            mine.append([_solid(x, x.axes[k])[j] for k, j in places if x.shape[k] != 1])
        names.append(_operand(build, x, mine))
    made = build.emit(op, *names)
    return replace(lead, tensor=made.name, dtype=made.dtype)


def _spread(build: Builder, x: Value, shape: Shape) -> Value:
    """An operand written out in full if it repeats along many axes: kernels broadcast along a few only."""
    missing = {k: n for k, n in enumerate(shape) if x.shape[k] != n}
    few = len(missing) < 2 or x.size == 1 or build.is_constant(x.tensor)
    return x if few else expanded(build, x, missing)


def _operand(build: Builder, x: Value, groups: list[list[int]]) -> str:
    """An operand in a layout; leading axes of extent 1 are left out where that costs nothing."""
    constant = build.is_constant(x.tensor)
    shape = tuple(prod(x.view[v] for v in group) for group in groups)
    own = build.tensors[x.tensor].shape
    order = [v for group in groups for v in group]
    if order == x.solid and _stripped(own) == _stripped(shape) and len(own) <= len(shape) and not constant:
        return x.tensor
    while constant and groups and not groups[0]:
        groups = groups[1:]
    return by_view(build, x, groups)


def _same_factors(build: Builder, lead: Value, values: Sequence[Value]) -> list[Value] | None:
    """The operands, each axis split into the same factors in all of them; None where that is impossible."""
    result = list(values)
    for axis in range(lead.rank):
        for _ in range(2):  # a factor that one brings must reach those before it
            for x in list(result):
                factors = [x.view[v] for v in x.atoms([axis])]
                for k, other in enumerate(result):
                    if other.shape[axis] == 1 or not factors:
                        continue
                    finer = other.refined(axis, factors)
                    if finer is None:
                        return None
                    result[k] = finer
    return result


def _common_runs(build: Builder, lead: Value, values: Sequence[Value]) -> list[list[int]] | None:
    """The view axes in each axis of the lead's tensor, if each operand has all of them or none."""
    groups = runs(build.tensors[lead.tensor].shape, lead.view)
    owner = {v: k for k, axis in enumerate(lead.axes) for v in axis if lead.view[v] != 1}
    for group in groups or []:
        for x in values:
            if len({x.shape[owner[v]] != 1 for v in group if v in owner}) > 1:
                return None
    return groups


def _elementwise_plain(build: Builder, op: Op, shape: Shape, values: Sequence[Value]) -> Value:
    first = next((k for k, extent in enumerate(shape) if extent != 1), len(shape))
    kept = range(first, len(shape))
    made = build.emit(op, *(arranged(build, x, [(k,) for k in kept]) for x in values))
    return Value(
        made.name, made.dtype, made.shape, ((),) * first + tuple((k,) for k in range(len(shape) - first))
    )


def _solid(x: Value, axis: Sequence[int]) -> list[int]:
    return [v for v in axis if x.view[v] != 1]


def _stripped(shape: Shape) -> Shape:
    first = next((k for k, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]
