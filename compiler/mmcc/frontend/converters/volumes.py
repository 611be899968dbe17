# SPDX-License-Identifier: Apache-2.0
"""Convolutions, transposed ones and pools over three axes of space, by those over two and one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.parts import concat, sliced
from mmcc.frontend.converters.windows import (
    Sliding,
    each_sample,
    from_spatial,
    resolved_pads,
    sliding,
    spatial,
)
from mmcc.frontend.layouts import arranged, reshaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.value import Value, whole
from mmcc.ir.op import Op
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.window import Window

MAX_DEPTH = 128  # layers of a result: each is a convolution


def volume_conv(call: Call, x: Value, w: Value, bias: str, groups: int) -> Value:
    """Layer by layer: the layers under the window, one behind the other, are channels of an image."""
    build = call.build
    slide = sliding(call, x, w.shape[2:], axes=3)
    pads = resolved_pads(slide, x.shape[2:])
    flat = Sliding(slide.kernel[1:], slide.strides[1:], slide.dilations[1:], [], "NOTSET")
    window = flat.window([pads[1], pads[2], pads[4], pads[5]])
    depth, step, apart = slide.kernel[0], slide.strides[0], slide.dilations[0]
    layers = (x.shape[2] + pads[0] + pads[3] - slide.reach[0]) // step + 1
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups or layers < 1:
        raise bad_model("MM104", f"weights {list(w.shape)} in {groups} groups do not fit {list(x.shape)}")
    if layers > MAX_DEPTH:
        raise unsupported(f"a convolution with {layers} layers; up to {MAX_DEPTH} are unrolled")
    made: list[Value] = []
    for layer in range(layers):
        places = [layer * step + tap * apart - pads[0] for tap in range(depth)]
        inside = [tap for tap, place in enumerate(places) if 0 <= place < x.shape[2]]
        if not inside:
            raise unsupported("a convolution whose window lies in the padding alone")
        count = len(inside)
        part = sliced(build, x, {2: (places[inside[0]], apart if count > 1 else 1, count)})
        image = reshaped(build, part, (x.shape[0], x.shape[1] * count, *x.shape[3:]))
        taps = sliced(build, w, {2: (inside[0], 1, count)})
        filters = reshaped(build, taps, (w.shape[0], w.shape[1] * count, *w.shape[3:]))
        weights = arranged(build, filters, [(0,), (2,), (3,), (1,)])
        y = each_sample(build, image, _flat_conv(build, Conv(window, groups), weights, bias))
        made.append(reshaped(build, y, (*y.shape[:2], 1, *y.shape[2:])))
    return concat(build, made, 2)


def _flat_conv(build: Builder, op: Conv, weights: str, bias: str) -> Callable[[Value], Value]:
    return lambda one: from_spatial(build.emit(op, spatial(build, one), weights, bias), 4)


@dataclass(frozen=True, slots=True)
class Unfolding:
    """The window of a transposed convolution, the result's extents, and the pads before each axis."""

    slide: Sliding
    size: list[int]
    begins: list[int]

    @property
    def flat(self) -> Unfolding:
        """Without the first of three axes."""
        slide = self.slide
        image = Sliding(slide.kernel[1:], slide.strides[1:], slide.dilations[1:], [], "NOTSET")
        return Unfolding(image, self.size[1:], self.begins[1:])


def flat_transposed(build: Builder, x: Value, w: Value, bias: str, groups: int, to: Unfolding) -> Value:
    """A transposed convolution over one or two axes; weights as ONNX has them."""
    window = to.slide.window([*to.begins, *(0 for _ in to.begins)])
    cut = reshaped(build, w, (groups, w.shape[0] // groups, *w.shape[1:]))
    weights = arranged(build, cut, [(0, 2), (3,), (4,) if cut.rank == 5 else (), (1,)])
    op = ConvTranspose(window, (to.size[0], to.size[1] if len(to.size) == 2 else 1), groups)
    return each_sample(
        build, x, lambda one: from_spatial(build.emit(op, spatial(build, one), weights, bias), x.rank)
    )


def volume_transposed(build: Builder, x: Value, w: Value, bias: str, groups: int, to: Unfolding) -> Value:
    """Layer by layer of the result: the layers that reach one are channels of an image."""
    step, apart, layers = to.slide.strides[0], to.slide.dilations[0], to.size[0]
    if max(layers, x.shape[2]) > MAX_DEPTH:
        raise unsupported(f"a transposed convolution with {layers} layers; up to {MAX_DEPTH} are unrolled")
    made: list[Value] = []
    for layer in range(layers):
        at = layer + to.begins[0]
        reaching = [
            (place, (at - place * step) // apart)
            for place in range(x.shape[2])
            if (at - place * step) % apart == 0 and 0 <= at - place * step < to.slide.reach[0]
        ]
        image, filters = _reaching(build, x, w, reaching)
        y = flat_transposed(build, image, filters, bias, groups, to.flat)
        made.append(reshaped(build, y, (*y.shape[:2], 1, *y.shape[2:])))
    return concat(build, made, 2)


def _reaching(build: Builder, x: Value, w: Value, reaching: list[tuple[int, int]]) -> tuple[Value, Value]:
    """Layers of x and their taps of w, both as channels; zeros where there are none."""
    if not reaching:
        first = sliced(build, x, {2: (0, 1, 1)})
        nothing = build.constant(np.zeros((*w.shape[:2], *w.shape[3:]), np.float32))
        return reshaped(build, first, (*x.shape[:2], *x.shape[3:])), nothing
    count = len(reaching)
    (place, tap), (next_place, next_tap) = reaching[0], reaching[min(1, count - 1)]
    layers = sliced(build, x, {2: (place, max(1, next_place - place), count)})
    taps = sliced(build, w, {2: (tap, min(-1, next_tap - tap), count)})
    last = w.rank - 1
    behind = taps.transposed((0, 2, 1, *range(3, last + 1)))
    filters = reshaped(build, behind, (w.shape[0] * count, w.shape[1], *w.shape[3:]))
    return reshaped(build, layers, (x.shape[0], x.shape[1] * count, *x.shape[3:])), filters


def volume_pool(
    build: Builder, x: Value, slide: Sliding, pads: list[int], op: Callable[[int, Window], Op]
) -> Value:
    """Axis by axis: the extreme of extremes, or the mean of means. `op` is for an axis and its window."""
    axes = len(slide.kernel)
    for k in range(axes):
        kernel, stride, dilation = slide.kernel[k], slide.strides[k], slide.dilations[k]
        window = Window((kernel, 1), (stride, 1), (dilation, 1), (pads[k], 0, pads[k + axes], 0))
        if kernel > 1 or stride > 1:
            x = _along(build, op(k, window), x, k + 2)
    return x


def _along(build: Builder, op: Op, x: Value, axis: int) -> Value:
    """Apply a pool along one ONNX axis: rows are that axis, and all else is channels."""
    others = [k for k in range(x.rank) if k != axis]
    made = build.emit(op, arranged(build, x, [(axis,), (), others]))
    y = reshaped(build, whole(made, (0, 2)), (made.shape[0], *(x.shape[k] for k in others)))
    return replace(y, axes=tuple(y.axes[0 if k == axis else 1 + others.index(k)] for k in range(x.rank)))
