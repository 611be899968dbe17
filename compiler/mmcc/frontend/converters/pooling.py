# SPDX-License-Identifier: Apache-2.0
"""ONNX pools, over windows and over whole images."""

from __future__ import annotations

from math import prod

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.converters.reduction import reduced
from mmcc.frontend.converters.volumes import volume_pool
from mmcc.frontend.converters.windows import (
    MAX_BATCH,
    Sliding,
    each_sample,
    from_spatial,
    pads_unclear,
    resolved_pads,
    sliding,
    spatial,
)
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import Layout, converts
from mmcc.frontend.value import Value
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.pool import AveragePool, MaxPool, MaxPoolIndices, Pads
from mmcc.ops.window import Window


def pool_window(call: Call, x: Value) -> tuple[Window, Pads]:
    """The window with pads grown for ceil_mode's size, and the pads that the model states."""
    slide, grown, pads = _pool_pads(call, x)
    return slide.window(grown), slide.window(pads).pads


def _pool_pads(call: Call, x: Value, axes: int = 0) -> tuple[Sliding, list[int], list[int]]:
    slide = sliding(call, x, None, axes)
    space = x.shape[2:]
    if slide.auto_pad.startswith("SAME") and slide.reach != slide.kernel:
        raise pads_unclear(
            f"a pool with auto_pad {slide.auto_pad} and dilations {slide.dilations}: "
            "ONNX Runtime pads as for a window without dilations"
        )
    pads = resolved_pads(slide, space)
    halved = slide.auto_pad == "SAME_UPPER" and call.node.op_type in ("AveragePool", "LpPool")
    if halved and any(lacking <= -2 for lacking in slide.lacking(space)):
        raise pads_unclear(
            "auto_pad SAME_UPPER of strides that pass over elements, which ONNX Runtime halves"
        )
    if any(p >= r for p, r in zip(pads, slide.reach * 2, strict=True)):
        raise bad_model("MM104", f"pads {pads} are not smaller than the window {slide.reach}")
    grown = list(pads)
    if call.integer("ceil_mode", 0) == 1:
        ends = _ceil_pads(slide, space, pads)
        if slide.auto_pad == "VALID" and any(ends):
            raise pads_unclear("a pool with auto_pad VALID and ceil_mode: ONNX Runtime pads, ONNX does not")
        if slide.auto_pad == "NOTSET":
            grown[len(space) :] = ends
    return slide, grown, pads


def _ceil_pads(slide: Sliding, space: Shape, pads: list[int]) -> list[int]:
    ends: list[int] = []
    for k, extent in enumerate(space):
        begin, end, stride = pads[k], pads[k + len(space)], slide.strides[k]
        room = extent + begin + end - slide.reach[k]
        count = -(-room // stride) + 1
        if (count - 1) * stride >= extent + begin:  # a window must not begin behind the input
            count -= 1
        ends.append(max(end, (count - 1) * stride + slide.reach[k] - extent - begin))
    return ends


@converts(
    "MaxPool",
    notes="1-D to 3-D; ceil_mode, dilations; Indices of 1-D and 2-D",
    layout=Layout.CHANNELS_FIRST,
)
def convert_max_pool(call: Call) -> Value | tuple[Value, ...]:
    """The largest of each window, and where it is if that is read."""
    x, build = call.number_input(0), call.build
    if x.rank == 5 and not call.is_read(1):
        slide, grown, _ = _pool_pads(call, x, 3)
        call.without_effect("storage_order")
        return volume_pool(build, x, slide, grown, grown, lambda window, _: MaxPool(window))
    window, _ = pool_window(call, x)
    if call.is_read(1):
        return _with_indices(call, x, window)
    call.without_effect("storage_order")
    return each_sample(
        build, x, lambda one: from_spatial(build.emit(MaxPool(window), spatial(build, one)), x.rank)
    )


def _with_indices(call: Call, x: Value, window: Window) -> tuple[Value, ...]:
    """Both results; an index counts the elements of all samples in the order of ONNX's layout."""
    build, count = call.build, x.shape[0]
    if count > MAX_BATCH:
        raise unsupported(f"Indices of MaxPool for {count} samples; up to {MAX_BATCH} are unrolled")
    order = call.integer("storage_order", 0)
    if order not in (0, 1):
        raise bad_model("MM104", f"storage_order is {order}")
    largest: list[Value] = []
    places: list[Value] = []
    for sample in range(count):
        one = sliced(build, x, {0: (sample, 1, 1)})
        made = build.emit_all(MaxPoolIndices(window), spatial(build, one), hints=(None, None))
        value, place = (from_spatial(tensor, x.rank) for tensor in made)
        place = _by_columns(build, place, x.shape) if order == 1 and x.rank == 4 else place
        before = sample * (x.size // count)
        largest.append(value)
        places.append(elementwise(build, Binary("add"), place, _whole(build, before)) if before else place)
    return concat(build, largest, 0), concat(build, places, 0)


def _by_columns(build: Builder, place: Value, shape: Shape) -> Value:
    """Indices that count an image's elements column by column."""
    height, width = shape[2:]

    def of(op: str, value: Value, number: int) -> Value:
        return elementwise(build, Binary(op), value, _whole(build, number))

    row, col = of("mod", of("div", place, width), height), of("mod", place, width)
    image = elementwise(build, Binary("sub"), place, of("mod", place, height * width))
    within = elementwise(build, Binary("add"), of("mul", col, height), row)
    return elementwise(build, Binary("add"), image, within)


def _whole(build: Builder, value: int) -> Value:
    return build.constant(np.array(value, np.int64))


@converts(
    "AveragePool", notes="1-D to 3-D; ceil_mode, count_include_pad, dilations", layout=Layout.CHANNELS_FIRST
)
def convert_average_pool(call: Call) -> Value:
    """The mean of each window."""
    return average_pool(call, call.float_input(0))


def average_pool(call: Call, x: Value) -> Value:
    """The mean of each window, by the attributes of `call`; also for operators on quantized operands."""
    if x.rank == 5:
        slide, grown, stated = _pool_pads(call, x, 3)
        counted = stated if call.integer("count_include_pad", 0) else [0] * 6
        return volume_pool(call.build, x, slide, grown, counted, AveragePool)
    window, pads = pool_window(call, x)
    counted = pads if call.integer("count_include_pad", 0) else (0, 0, 0, 0)
    build, op = call.build, AveragePool(window, counted)
    return each_sample(build, x, lambda one: from_spatial(build.emit(op, spatial(build, one)), x.rank))


@converts(
    "LpPool",
    since=2,
    notes="as an average pool between element functions",
    layout=Layout.CHANNELS_FIRST,
)
def convert_lp_pool(call: Call) -> Value:
    """The p-norm of each window: the mean of powers, times the window's size, to the power 1/p."""
    x, build = call.float_input(0), call.build
    p = call.integer("p", 2)
    if p < 1:
        raise bad_model("MM104", f"p = {p}")
    powers = elementwise(build, Binary("mul"), x, x) if p == 2 else unary(build, Unary("abs"), x)
    if p > 2:
        powers = elementwise(build, Binary("pow"), powers, build.constant(np.array(p, np.float32)))
    slide, grown, _ = _pool_pads(call, x, 3)
    far = 2**30
    every = far, far, far, far  # every tap counts, padding or not
    if x.rank == 5:
        mean = volume_pool(build, powers, slide, grown, grown, lambda window, _: AveragePool(window, every))
    else:
        op = AveragePool(slide.window(grown), every)
        mean = each_sample(
            build, powers, lambda one: from_spatial(build.emit(op, spatial(build, one)), x.rank)
        )
    taps = build.constant(np.array(prod(slide.kernel), np.float32))
    total = elementwise(build, Binary("mul"), mean, taps)
    if p > 2:
        return elementwise(build, Binary("pow"), total, build.constant(np.array(1 / p, np.float32)))
    return total if p == 1 else unary(build, Unary("sqrt"), total)


@converts("GlobalAveragePool", "GlobalMaxPool", notes="any axes of space", layout=Layout.CHANNELS_FIRST)
@converts("GlobalLpPool", since=2, notes="p = 1 and 2", layout=Layout.CHANNELS_FIRST)
def convert_global_pool(call: Call) -> Value:
    """A reduction of all axes of space."""
    function = {"GlobalAveragePool": "mean", "GlobalMaxPool": "max"}.get(call.node.op_type)
    if function is None:
        p = call.integer("p", 2)
        if p not in (1, 2):
            raise unsupported(f"p = {p}; 1 and 2 are supported")
        function = f"l{p}"
    return global_pool(call, call.float_input(0), function)


def global_pool(call: Call, x: Value, function: str) -> Value:
    """Reduce all axes of space of `x`; also for operators on quantized operands."""
    if x.rank < 3:
        raise bad_model("MM104", f"a global pool of {list(x.shape)}")
    return reduced(call.build, x, function, list(range(2, x.rank)))
