# SPDX-License-Identifier: Apache-2.0
"""Operators that read an image at computed places: GridSample, AffineGrid, DeformConv, RoiAlign."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.written_out.body import MOST_CONSTANT, Body, ints, writes

MOST_TAPS = 64  # pixels that an output is made of
CUBIC = -0.75  # Keys' parameter, in GridSample


@writes("GridSample")
def _grid_sample(body: Body) -> Sequence[str]:
    """Weighted sums of pixels: taps along each axis, all combinations of them."""
    x, grid = body.shape(0), body.shape(1)
    dims, out, channels = x[2:], grid[1:-1], x[1]
    padding = body.text("padding_mode", "zeros")
    mode = body.text("mode", "linear").removeprefix("bi")
    aligned = bool(body.attributes.get("align_corners", 0))
    taps: list[list[tuple[str, str]]] = []  # of each axis: index and weight
    for axis, extent in enumerate(dims):
        at = len(dims) - 1 - axis
        place = body.add("Gather", "x1", ints(at), axis=len(grid) - 1)
        place = body.add("Reshape", place, ints(grid[0], *out))
        ones = np.ones((grid[0], *out), np.float32)
        taps.append(_taps(body, place, extent, mode, padding, aligned, ones))
    last = (0, *range(2, len(x)), 1)
    pixels = body.add("Transpose", "x0", perm=last)
    pixels = body.add("Reshape", pixels, ints(x[0] * prod(dims), channels))
    image = np.arange(x[0], dtype=np.int64).reshape(-1, *(1 for _ in out)) * prod(dims)
    if prod(map(len, taps)) > MOST_TAPS:
        raise LookupError("too many taps")
    total = ""
    for chosen in product(*taps):
        index, weight = "", ""
        for (place, share), extent in zip(chosen, dims, strict=True):
            index = body.add("Add", body.add("Mul", index, ints(extent)), place) if index else place
            weight = body.add("Mul", weight, share) if weight else share
        if x[0] > 1:
            index = body.add("Add", index, image)
        value = body.add("Gather", pixels, index, axis=0)
        value = body.add("Mul", value, body.add("Unsqueeze", weight, ints(-1)))
        total = body.add("Add", total, value) if total else value
    first = (0, len(x) - 1, *range(1, len(x) - 1))
    return [body.add("Transpose", total, perm=first)]


def _taps(
    body: Body,
    place: str,
    extent: int,
    mode: str,
    padding: str,
    aligned: bool,
    ones: NDArray[np.float32],
) -> list[tuple[str, str]]:
    """Along one axis: the indices of the pixels that count, and how much each does. `place` is in -1 to 1."""
    low, high = (0.0, extent - 1.0) if aligned else (-0.5, extent - 0.5)
    place = body.add("Add", place, 1.0)
    if aligned:
        place = body.add("Mul", place, (extent - 1) / 2)
    else:
        place = body.add("Mul", body.add("Sub", body.add("Mul", place, float(extent)), 1.0), 0.5)
    place = body.add("Round", place) if mode == "nearest" else place
    if padding != "zeros":
        beside = body.add("Or", body.add("Less", place, low), body.add("Greater", place, high))
        inside = _inside(body, place, extent, padding, low, high)
        place = body.add("Where", beside, inside, place)
    if mode == "nearest":
        return [_tap(body, place, body.constant(ones), extent, padding, low, high)]
    if mode not in ("linear", "cubic"):
        raise LookupError(mode)
    first = body.add("Floor", place)
    part = body.add("Sub", place, first)
    weights = _linear(body, part) if mode == "linear" else _cubic(body, part)
    begin = 0 if mode == "linear" else -1
    places = [body.add("Add", first, float(begin + k)) for k in range(len(weights))]
    return [_tap(body, p, w, extent, padding, low, high) for p, w in zip(places, weights, strict=True)]


def _tap(
    body: Body, place: str, weight: str, extent: int, padding: str, low: float, high: float
) -> tuple[str, str]:
    """A pixel at a whole place, which may be beside the image: its index, and its weight."""
    if padding == "zeros":
        after, before = body.add("GreaterOrEqual", place, 0.0), body.add("Less", place, float(extent))
        there = body.add("And", after, before)
        weight = body.add("Where", there, weight, 0.0)
    else:
        place = _inside(body, place, extent, padding, low, high)
    index = body.add("Clip", place, 0.0, extent - 1.0)
    return body.add("Cast", index, to=7), weight


def _inside(body: Body, place: str, extent: int, padding: str, low: float, high: float) -> str:
    """A place on the image for any: the nearest one, or reflected at the borders until it is within them."""
    span = high - low
    if padding == "border" or span == 0:
        return body.add("Clip", place, 0.0, extent - 1.0)
    away = body.add("Abs", body.add("Sub", place, low))
    away = body.add("Mod", away, 2 * span, fmod=1)
    back = body.add("Sub", 2 * span, away)
    return body.add("Add", body.add("Min", away, back), low)


def _linear(body: Body, part: str) -> list[str]:
    return [body.add("Sub", 1.0, part), part]


def _cubic(body: Body, part: str) -> list[str]:
    """Weights of the four pixels around, by the distance from each."""
    other = body.add("Sub", 1.0, part)
    return [
        _far(body, body.add("Add", part, 1.0)),
        _near(body, part),
        _near(body, other),
        _far(body, body.add("Add", other, 1.0)),
    ]


def _near(body: Body, d: str) -> str:
    """(a + 2) d^3 - (a + 3) d^2 + 1."""
    slope = body.add("Sub", body.add("Mul", d, CUBIC + 2), CUBIC + 3)
    return body.add("Add", body.add("Mul", body.add("Mul", slope, d), d), 1.0)


def _far(body: Body, d: str) -> str:
    """a d^3 - 5 a d^2 + 8 a d - 4 a."""
    inner = body.add("Sub", body.add("Mul", d, CUBIC), 5 * CUBIC)
    inner = body.add("Add", body.add("Mul", inner, d), 8 * CUBIC)
    return body.add("Sub", body.add("Mul", inner, d), 4 * CUBIC)


@writes("AffineGrid")
def _affine_grid(body: Body) -> Sequence[str]:
    """Constant places of all pixels, times each matrix. ONNX's own function is wrong for one sample."""
    size, aligned = body.ints(1), bool(body.attributes.get("align_corners", 0))
    count, dims = size[0], size[2:]
    rank = len(dims)
    if body.shape(0) != (count, rank, rank + 1) or min(dims) < 1 or (aligned and 1 in dims):
        raise LookupError("no such grid")  # the ends of an axis of one pixel are at no one place
    if prod(dims) * (rank + 1) > MOST_CONSTANT:
        raise LookupError("too large")
    steps = [(np.arange(n) * 2 / (n - 1) if aligned else (2 * np.arange(n) + 1) / n) - 1 for n in dims]
    places = [*np.meshgrid(*steps, indexing="ij")][::-1]  # x first
    base = np.stack([*places, np.ones(dims)], -1).reshape(-1, rank + 1).astype(np.float32)
    turned = body.add("Transpose", "x0", perm=(0, 2, 1))
    return [body.add("Reshape", body.add("MatMul", base, turned), ints(count, *dims, rank))]


@writes("DeformConv")
def _deform_conv(body: Body) -> Sequence[str]:
    """The elements under all taps, moved and weighed, are channels of an image, which a 1x1 convolution sums.

    Zhu et al., "Deformable ConvNets v2" (2018). What lies beside the image counts as zero.
    """
    x, w, offset = (body.shape(k) for k in range(3))
    samples, channels, height, width = x
    kernel, out, taps = w[2:], offset[2:], prod(w[2:])
    parts = int(body.attributes.get("offset_group", 1))
    strides = body.attributes.get("strides", [1, 1])
    dilations = body.attributes.get("dilations", [1, 1])
    pads = body.attributes.get("pads", [0] * 4)
    if tuple(body.attributes.get("kernel_shape", kernel)) != kernel:
        raise LookupError("another kernel than the weights have")
    if offset[:2] != (samples, parts * taps * 2) or channels % parts or prod(offset) > MOST_CONSTANT:
        raise LookupError("offsets that do not fit")
    moved = body.add("Reshape", "x2", ints(samples, parts, taps, 2, *out))
    corners: list[list[tuple[str, str]]] = []
    for axis, extent in enumerate((height, width)):
        tap, at = np.arange(kernel[axis])[:, None], np.arange(out[axis])
        grid = at * strides[axis] + tap * dilations[axis] - pads[axis]
        grid = grid[:, None, :, None] if axis == 0 else grid[None, :, None, :]
        grid = np.broadcast_to(grid, (*kernel, *out)).reshape(taps, *out).astype(np.float32)
        place = body.add("Add", body.add("Gather", moved, np.array(axis, np.int64), axis=3), grid)
        first = body.add("Floor", place)
        near, far = _linear(body, body.add("Sub", place, first))
        behind = body.add("Add", first, 1.0)
        corners.append([_tap(body, p, s, extent, "zeros", 0, 0) for p, s in ((first, near), (behind, far))])
    pixels = body.add("Reshape", "x0", ints(samples, parts, channels // parts, height * width))
    pixels = body.add("Transpose", pixels, perm=(0, 1, 3, 2))
    pixels = body.add("Reshape", pixels, ints(-1, channels // parts))
    images = np.arange(samples * parts, dtype=np.int64).reshape(samples, parts, 1, 1, 1) * (height * width)
    total = body.add("Sum", *_weighed(body, pixels, corners, width, images))
    if body.has(4):
        mask = body.add("Reshape", "x4", ints(samples, parts, taps, *out, 1))
        total = body.add("Mul", total, mask)
    columns = body.add("Transpose", total, perm=(0, 1, 5, 2, 3, 4))
    columns = body.add("Reshape", columns, ints(samples, channels * taps, *out))
    filters = body.add("Reshape", "x1", ints(w[0], w[1] * taps, 1, 1))
    bias = ["x3"] if body.has(3) else []
    return [body.add("Conv", columns, filters, *bias, group=int(body.attributes.get("group", 1)))]


def _weighed(
    body: Body, pixels: str, corners: list[list[tuple[str, str]]], width: int, images: str | NDArray[np.int64]
) -> list[str]:
    """The pixels [N, C] around each place, times the weights of their rows and columns.

    `corners` has indices and weights of rows, and those of columns; `images` is the first pixel of each
    place's image. They are broadcast.
    """
    values: list[str] = []
    for (row, high), (col, wide) in product(*corners):
        index = body.add("Add", body.add("Mul", row, ints(width)), col)
        index = body.add("Add", index, images)
        weight = body.add("Unsqueeze", body.add("Mul", high, wide), ints(-1))
        values.append(body.add("Mul", body.add("Gather", pixels, index, axis=0), weight))
    return values


@writes("RoiAlign")
def _roi_align(body: Body) -> Sequence[str]:
    """Means of samples spread evenly over each part of a region; their number must be given.

    He et al., "Mask R-CNN" (2017). What is more than a pixel beside the image counts as zero. As ONNX has it,
    the largest is that of the weighed pixels, not of their sums.
    """
    x, rois = body.shape(0), body.shape(1)
    count = int(body.attributes.get("sampling_ratio", 0))
    out = [int(body.attributes.get(f"output_{name}", 1)) for name in ("height", "width")]
    if count < 1 or min(out) < 1:
        raise LookupError("as many samples as a region has pixels")
    if rois[0] * prod(out) * count * count * x[1] > MOST_CONSTANT:
        raise LookupError("too many samples")
    default = "half_pixel" if body.version >= 16 else "output_half_pixel"
    half = body.text("coordinate_transformation_mode", default) == "half_pixel"
    scaled = body.add("Mul", "x1", float(body.attributes.get("spatial_scale", 1.0)))
    scaled = body.add("Sub", scaled, 0.5) if half else scaled
    corners: list[list[tuple[str, str]]] = []
    for axis, extent in enumerate(x[2:]):
        begin, end = (body.add("Gather", scaled, ints(k + 1 - axis), axis=1) for k in (0, 2))
        size = body.add("Sub", end, begin)
        size = size if half else body.add("Max", size, 1.0)
        # In ONNX Runtime's order of roundings: whether a place is beside the image, the last bit may decide.
        part, sample = np.divmod(np.arange(out[axis] * count, dtype=np.float32)[None], np.float32(count))
        step = body.add("Div", size, float(out[axis]))
        place = body.add("Add", begin, body.add("Mul", step, part))
        place = body.add(
            "Add", place, body.add("Div", body.add("Mul", step, sample + np.float32(0.5)), float(count))
        )
        beside = body.add("Or", body.add("Less", place, -1.0), body.add("Greater", place, float(extent)))
        place = body.add("Clip", place, 0.0, extent - 1.0)
        first = body.add("Floor", place)
        near, far = _linear(body, body.add("Sub", place, first))
        behind = body.add("Min", body.add("Add", first, 1.0), extent - 1.0)
        shape = (rois[0], out[axis] * count, 1) if axis == 0 else (rois[0], 1, out[axis] * count)
        found: list[tuple[str, str]] = []
        for at, weight in ((first, near), (behind, far)):
            weight = body.add("Where", beside, 0.0, weight)
            index = body.add("Cast", at, to=7)
            found.append(
                (body.add("Reshape", index, ints(*shape)), body.add("Reshape", weight, ints(*shape)))
            )
        corners.append(found)
    pixels = body.add("Reshape", body.add("Transpose", "x0", perm=(0, 2, 3, 1)), ints(-1, x[1]))
    images = body.add("Mul", body.add("Reshape", "x2", ints(rois[0], 1, 1)), ints(x[2] * x[3]))
    whole, reduce = {"avg": ("Sum", "ReduceMean"), "max": ("Max", "ReduceMax")}[body.text("mode", "avg")]
    samples = body.add(whole, *_weighed(body, pixels, corners, x[3], images))
    samples = body.add("Reshape", samples, ints(rois[0], out[0], count, out[1], count, x[1]))
    made = body.add(reduce, samples, ints(2, 4), keepdims=0)
    return [body.add("Transpose", made, perm=(0, 3, 1, 2))]
