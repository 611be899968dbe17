# SPDX-License-Identifier: Apache-2.0
"""Convolutions, transposed ones and pools over three axes of space, by those over two and one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmcc.frontend.absent import NO_WEIGHTS
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
from mmcc.frontend.layouts import arranged, reshaped, shaped
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.value import Value
from mmcc.ir.op import Op
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.pool import Pads
from mmcc.ops.quantize import Dequantize
from mmcc.ops.window import Window

MAX_DEPTH = 128  # layers of a result: each is an image of its own

VolumePool = Callable[[Window, Pads], Op]  # a pool of images: its window, and the pads that it counts


def volume_conv(call: Call, x: Value, w: Value, bias: str, groups: int) -> Value:
    """Layer by layer: the layers under the window, one behind the other, are channels of an image."""
    build = call.build
    slide = sliding(call, x, w.shape[2:], axes=3)
    pads = resolved_pads(slide, x.shape[2:])
    flat = Sliding(slide.kernel[1:], slide.strides[1:], slide.dilations[1:], [], "NOTSET")
    window = flat.window([pads[1], pads[2], pads[4], pads[5]])
    count = (x.shape[2] + pads[0] + pads[3] - slide.reach[0]) // slide.strides[0] + 1
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups or count < 1:
        raise bad_model("MM104", f"weights {list(w.shape)} in {groups} groups do not fit {list(x.shape)}")
    if count > MAX_DEPTH:
        raise unsupported(f"a convolution with {count} layers; up to {MAX_DEPTH} are unrolled")
    reached = [_reached(slide, pads[0], x.shape[2], layer) for layer in range(count)]
    if not all(reached):
        raise unsupported("a convolution whose window lies in the padding alone")
    if _learns(build, x, w):
        reached = [_taps(slide, pads[0], layer) for layer in range(count)]
    op = Conv(window, groups)

    def convert(one: Value) -> Value:
        layers = _layers(build, one)
        made: list[Value] = []
        for taps in reached:
            image = _under(build, one, layers, [place for _, place in taps], groups)
            weights = _filters(build, w, [tap for tap, _ in taps], groups)
            made.append(from_spatial(build.emit(op, spatial(build, image), weights, bias), 4))
        return _stacked(build, made)

    return each_sample(build, x, convert)


def _learns(build: Builder, x: Value, w: Value) -> bool:
    """Whether training may change weights: not integers that integers are multiplied by."""
    made = build.producer.get(x.tensor)
    integers = made is not None and isinstance(made.op, Dequantize)
    return build.training and not (integers and build.quantized(w.tensor) is not None)


def _reached(slide: Sliding, pad: int, depth: int, layer: int) -> list[tuple[int, int]]:
    """The taps of a window along the first axis that meet a layer of the input, and which."""
    return [(tap, place) for tap, place in _taps(slide, pad, layer) if 0 <= place < depth]


def _taps(slide: Sliding, pad: int, layer: int) -> list[tuple[int, int]]:
    """All taps of a window along the first axis, and the layers under them, also those in the padding."""
    first = layer * slide.strides[0] - pad
    return [(tap, first + tap * slide.dilations[0]) for tap in range(slide.kernel[0])]


def _layers(build: Builder, one: Value) -> list[Value]:
    """One sample [1, C, D, H, W] as D images [1, C, H, W], in the layout that layers over images take."""
    images = [sliced(build, one, {2: (layer, 1, 1)}).without((2,)) for layer in range(one.shape[2])]
    return [from_spatial(build.tensors[spatial(build, image)], 4) for image in images]


def _layer(build: Builder, layers: list[Value], place: int) -> Value:
    """One of the layers, or zeros in the padding."""
    if 0 <= place < len(layers):
        return layers[place]
    zeros = np.zeros(build.tensors[layers[0].tensor].shape, np.float32)
    return from_spatial(build.tensors[build.constant(zeros, "padding").tensor], 4)


def _stacked(build: Builder, images: list[Value]) -> Value:
    """Images [1, C, H, W] as one sample [1, C, D, H, W], one whole image behind the other in memory.

    So a layer is a view of what made it, and no layer waits for all of those before it.
    """
    deep: list[Value] = []
    for image in images:
        view = (1, *image.view)
        axes = tuple(tuple(v + 1 for v in axis) for axis in image.axes)
        deep.append(Value(shaped(build, image, view), image.dtype, view, (*axes[:2], (0,), *axes[2:])))
    return concat(build, deep, 2)


def _under(build: Builder, one: Value, layers: list[Value], places: list[int], groups: int) -> Value:
    """Layers of a sample at equal distances as channels of an image [1, C, H, W]; in the padding, zeros."""
    if one.shape[1] > 1 or not all(0 <= place < len(layers) for place in places):
        return _as_channels(build, [_layer(build, layers, place) for place in places], groups)
    apart = places[1] - places[0] if len(places) > 1 else 1
    return sliced(build, one, {2: (places[0], apart, len(places))}).without((1,))


def _as_channels(build: Builder, images: list[Value], groups: int) -> Value:
    """Images [1, C, H, W] as one whose channels are the first ones of all images, and so on; by groups."""
    parts = [
        sliced(build, image, {1: (group * (image.shape[1] // groups), 1, image.shape[1] // groups)})
        for group in range(groups)
        for image in images
    ]
    return concat(build, parts, 1)


def _filters(build: Builder, w: Value, taps: list[int], groups: int) -> str:
    """Weights [O, C, D, H, W] at some of D as [O, H, W, D * C], for `_as_channels`."""
    apart = taps[1] - taps[0] if len(taps) > 1 else 1
    part = sliced(build, w, {2: (taps[0], apart, len(taps))})
    return arranged(build, part, [(0,), (3,), (4,), (2, 1)])


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
    step, apart, count = to.slide.strides[0], to.slide.dilations[0], to.size[0]
    if max(count, x.shape[2]) > MAX_DEPTH:
        raise unsupported(f"a transposed convolution with {count} layers; up to {MAX_DEPTH} are unrolled")

    whole = _learns(build, x, w)

    def convert(one: Value) -> Value:
        layers = _layers(build, one)
        made: list[Value] = []
        for at in range(to.begins[0], to.begins[0] + count):
            taps = [tap for tap in reversed(range(to.slide.kernel[0])) if (at - tap * apart) % step == 0]
            reaching = [((at - tap * apart) // step, tap) for tap in taps]
            if not whole:
                reaching = [(place, tap) for place, tap in reaching if 0 <= place < len(layers)]
            image, filters = _reaching(build, layers, w, reaching, groups)
            made.append(flat_transposed(build, image, filters, bias, groups, to.flat))
        return _stacked(build, made)

    return each_sample(build, x, convert)


def _reaching(
    build: Builder, layers: list[Value], w: Value, reaching: list[tuple[int, int]], groups: int
) -> tuple[Value, Value]:
    """Layers as channels of an image, and their taps of w as ONNX has weights; zeros where there are none."""
    if not any(0 <= place < len(layers) for place, _ in reaching):  # the bias alone, not as a constant
        none = np.zeros((*w.shape[:2], *w.shape[3:]), np.float32)
        return layers[0], build.constant(none, f"{build.hint}{NO_WEIGHTS}")
    taps = [tap for _, tap in reaching]
    back = taps[0] - taps[1] if len(taps) > 1 else 1
    part = sliced(build, w, {2: (taps[0], -back, len(taps))})
    by_group = reshaped(build, part, (groups, w.shape[0] // groups, *part.shape[1:]))
    behind = by_group.transposed((0, 3, 1, 2, *range(4, by_group.rank)))
    filters = reshaped(build, behind, (w.shape[0] * len(taps), w.shape[1], *w.shape[3:]))
    return _as_channels(build, [_layer(build, layers, place) for place, _ in reaching], groups), filters


def volume_pool(
    build: Builder, x: Value, slide: Sliding, pads: list[int], counted: list[int], op: VolumePool
) -> Value:
    """The extreme of extremes, or the mean of means: over layers, and then over each image.

    `pads` are the window's, `counted` those that a mean counts; begins of the three axes, then their ends.
    """
    count = (x.shape[2] + pads[0] + pads[3] - slide.reach[0]) // slide.strides[0] + 1
    if count < 1:
        raise bad_model("MM104", f"a window of {slide.kernel} is larger than {list(x.shape[2:])} with pads")
    if count > MAX_DEPTH:
        raise unsupported(f"a pool with {count} layers; up to {MAX_DEPTH} are unrolled")
    flat = Sliding(slide.kernel[1:], slide.strides[1:], slide.dilations[1:], [], "NOTSET")
    image = op(flat.window(_of_image(pads)), flat.window(_of_image(counted)).pads)
    over_images = max(*flat.kernel, *flat.strides) > 1

    def convert(one: Value) -> Value:
        layers = _layers(build, one)
        if slide.kernel[0] > 1 or slide.strides[0] > 1:
            ends = counted[0], counted[3]
            layers = [_over_layers(build, layers, slide, pads[0], ends, op, k) for k in range(count)]
        if over_images:
            layers = [from_spatial(build.emit(image, spatial(build, layer)), 4) for layer in layers]
        return _stacked(build, layers)

    return each_sample(build, x, convert)


def _of_image(pads: list[int]) -> list[int]:
    return [*pads[1:3], *pads[4:]]


def _over_layers(
    build: Builder,
    layers: list[Value],
    slide: Sliding,
    pad: int,
    counted: tuple[int, int],
    op: VolumePool,
    layer: int,
) -> Value:
    """One layer of a pool over the first axis: those under the window side by side, a window a column.

    Its taps are as far apart as the images are wide.
    """
    reached = _reached(slide, pad, len(layers), layer)
    if not reached:
        raise unsupported("a pool whose window lies in the padding alone")
    wide = concat(build, [layers[place] for _, place in reached], 3)
    width = layers[0].shape[3]
    before = reached[0][0]
    after = slide.kernel[0] - before - len(reached)
    apart = slide.dilations[0]
    first, last = reached[0][1], reached[-1][1]
    counted_before = min(before, (first + counted[0]) // apart)
    counted_after = min(after, (len(layers) - 1 + counted[1] - last) // apart)
    window = Window((1, slide.kernel[0]), (1, 1), (1, width), (0, before * width, 0, after * width))
    pool = op(window, (0, counted_before * width, 0, counted_after * width))
    return from_spatial(build.emit(pool, spatial(build, wide)), 4)
