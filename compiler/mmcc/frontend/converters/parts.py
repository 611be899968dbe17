# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that cut tensors, join them, or put a border around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from mmcc.frontend.builder import MAX_ELEMENTS, Builder
from mmcc.frontend.call import Call, normal_axes
from mmcc.frontend.layouts import (
    MAX_WALKED,
    arranged,
    one_axis_each,
    with_axes,
    with_axis,
)
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.movement import Concat, Pad, PadMode, Slice

MAX_OUTPUTS = 4096


@converts("Concat", notes="any axis", layout=Layout.ANY)
def convert_concat(call: Call) -> Value:
    """One behind the other along an axis."""
    values = [call.input(k) for k in range(len(call.inputs))]
    axis = call.axis(values[0].rank)
    return concat(call.build, values, axis)


def concat(build: Builder, values: Sequence[Value], axis: int) -> Value:
    """Concatenate along an ONNX axis, in the layout of the first activation."""
    ranks, types = {x.rank for x in values}, {x.dtype for x in values}
    if len(ranks) > 1 or len(types) > 1:
        raise bad_model("MM104", f"cannot concatenate {[list(x.shape) for x in values]}")
    values = [x for x in values if x.size] or list(values[:1])  # empty constants add nothing
    if len(values) == 1:
        return values[0]
    ranked = sorted(values, key=lambda x: (build.is_constant(x.tensor), not x.axes[axis], x.shape[axis] == 1))
    lead, at = with_axis(build, ranked[0], axis)
    owner = {axes[0]: k for k, axes in enumerate(lead.axes) if axes}
    others = [k for k in range(lead.rank) if k != axis]
    if any(x.shape[k] != lead.shape[k] for x in values for k in others):
        raise bad_model("MM104", f"cannot concatenate {[list(x.shape) for x in values]} on axis {axis}")
    groups = [[owner[v]] if v in owner else [] for v in range(len(lead.view))]
    made = build.emit(Concat(at), *(arranged(build, x, groups) for x in values))
    return replace(lead, tensor=made.name, view=made.shape)


@converts("Split", notes="sizes as attribute, constant operand or number of outputs", layout=Layout.ANY)
def convert_split(call: Call) -> tuple[Value, ...]:
    """One slice an output."""
    x = call.input(0)
    axis = call.axis(x.rank, 0)
    extent, count = x.shape[axis], len(call.node.output)
    sizes = call.integers("split") if 2 <= call.version < 13 else call.ints_at(1, "the sizes")
    if call.version >= 18:
        _check_parts(call, count, sizes)
    if sizes is None:
        if extent % count and call.version < 18:
            raise bad_model("MM104", f"axis {axis} of {list(x.shape)} is not {count} equal parts")
        each = -(-extent // count)
        sizes = [each] * (count - 1) + [extent - each * (count - 1)]
    if len(sizes) != count or sum(sizes) != extent or min(sizes) < 0 or count > MAX_OUTPUTS:
        raise bad_model("MM104", f"cannot split axis {axis} of {list(x.shape)} into {sizes}")
    starts = [sum(sizes[:k]) for k in range(count)]
    return tuple(
        sliced(call.build, x, {axis: (start, 1, size)}) if size else empty(call.build, x, {axis: 0})
        for start, size in zip(starts, sizes, strict=True)
    )


def _check_parts(call: Call, count: int, sizes: list[int] | None) -> None:
    """Operator set 18 wants the sizes or their number, and that number is the outputs'."""
    stated = call.integer("num_outputs", 0) if "num_outputs" in call.attributes else None
    if stated is not None and stated != count:
        raise bad_model("MM103", f"num_outputs is {stated}, and the node has {count} outputs")
    if (stated is None) == (sizes is None):
        what = "are both missing" if sizes is None else "are both given"
        raise bad_model("MM103", f"num_outputs and the sizes (operand 1) {what}; one of them says it")


def empty(build: Builder, x: Value, extents: dict[int, int]) -> Value:
    """A constant without elements, in the shape of `x` but for the axes given; a Concat passes over it."""
    return build.constant(np.zeros([extents.get(k, n) for k, n in enumerate(x.shape)], x.dtype.numpy))


def sliced(build: Builder, x: Value, cuts: dict[int, tuple[int, int, int]]) -> Value:
    """Take (start, step, count) of some ONNX axes."""
    cuts = {k: cut for k, cut in cuts.items() if cut != (0, 1, x.shape[k])}
    if not cuts:
        return x
    if any(count == 0 for _, _, count in cuts.values()):
        return empty(build, x, {k: count for k, (_, _, count) in cuts.items()})
    x = one_axis_each(build, x)
    whole_part = _part_of_concat(build, x, cuts)
    if whole_part is not None:
        return whole_part
    if x.rank > MAX_WALKED and len(cuts) > 1:
        for k, cut in cuts.items():
            x = sliced(build, x, {k: cut})
        return x
    of_view = {x.axes[k][0]: cut for k, cut in cuts.items()}
    every = [of_view.get(v, (0, 1, n)) for v, n in enumerate(x.view)]
    op = Slice(tuple(s for s, _, _ in every), tuple(t for _, t, _ in every), tuple(n for _, _, n in every))
    made = build.emit(op, x.tensor)
    return replace(x, tensor=made.name, view=made.shape)


def _part_of_concat(build: Builder, x: Value, cuts: dict[int, tuple[int, int, int]]) -> Value | None:
    """The operand of a Concat that a slice would copy again, as between the layers of a batch."""
    node = build.producer.get(x.tensor)
    if node is None or not isinstance(node.op, Concat) or len(cuts) != 1:
        return None
    ((axis, cut),) = cuts.items()
    at = node.op.axis
    if x.axes[axis] != (at,):
        return None
    start = 0
    for name in node.inputs:
        shape = build.tensors[name].shape
        if cut == (start, 1, shape[at]):
            return replace(x, tensor=name, view=shape)
        start += shape[at]
    return None


@converts("Slice", notes="constant starts, ends and steps; steps may be negative", layout=Layout.ANY)
def convert_slice(call: Call) -> Value:
    """A part of a tensor."""
    x = call.input(0)
    if call.version < 10:
        starts, ends, axes, steps = (
            call.integers("starts"),
            call.integers("ends"),
            call.integers("axes"),
            None,
        )
    else:
        names = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (call.ints_at(k + 1, name) for k, name in enumerate(names))
    if starts is None or ends is None:
        raise bad_model("MM103", "starts or ends are missing")
    axes = normal_axes(axes if axes is not None else list(range(len(starts))), x.rank)
    steps = steps if steps is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise bad_model("MM104", f"slice from {starts} to {ends} of axes {axes} by {steps}")
    cuts: dict[int, tuple[int, int, int]] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        begin, stop, step = slice(start, end, step).indices(x.shape[axis])
        count = len(range(begin, stop, step))
        cuts[axis] = (begin if count else 0, step if count > 1 else 1, count)
    return sliced(call.build, x, cuts)


@converts(
    "Pad",
    notes="constant pads; modes constant, reflect, edge and wrap; negative pads crop",
    layout=Layout.ANY,
)
def convert_pad(call: Call) -> Value:
    """More elements around a tensor, or fewer."""
    x = call.input(0)
    mode = call.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise bad_model("MM103", f'mode is "{mode}"')
    if call.version < 11:
        pads = call.integers("paddings" if call.version < 2 else "pads")
        value, given = call.number("value", 0.0), None
    else:
        pads = call.ints_at(1, "the pads")
        value = call.scalar(2, "the pad value") or 0.0
        given = call.ints_at(3, "axes") if call.version >= 18 else None
    axes = normal_axes(given, x.rank) if given is not None else list(range(x.rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise bad_model("MM104", f"pads {pads} for {len(axes)} axes of {list(x.shape)}")
    both = {axis: (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    return padded(call.build, x, both, mode, float(value))


def padded(build: Builder, x: Value, pads: dict[int, tuple[int, int]], mode: PadMode, value: float) -> Value:
    """Crop by the negative pads, then pad by the others."""
    cuts: dict[int, tuple[int, int, int]] = {}
    for k, (before, after) in pads.items():
        if before < 0 or after < 0:
            count = x.shape[k] + min(before, 0) + min(after, 0)
            if count < 1:
                raise bad_model(
                    "MM104", f"pads {before}, {after} leave nothing of axis {k} of {list(x.shape)}"
                )
            cuts[k] = (max(0, -before), 1, count)
    x = sliced(build, x, cuts)
    grown = {k: (max(b, 0), max(a, 0)) for k, (b, a) in pads.items() if b > 0 or a > 0}
    if not grown:
        return x
    total = prod(n + sum(grown.get(k, (0, 0))) for k, n in enumerate(x.shape))
    if total > MAX_ELEMENTS:
        raise bad_model("MM105", f"{list(x.shape)} is padded to {total} elements")
    x = with_axes(build, x, sorted(grown))
    of_view = {x.axes[k][0]: pad for k, pad in grown.items()}
    before, after = (tuple(of_view.get(v, (0, 0))[side] for v in range(len(x.view))) for side in (0, 1))
    made = build.emit(Pad(before, after, mode, value), x.tensor)
    return replace(x, tensor=made.name, view=made.shape)
