# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers for cores with DSP instructions: which kernel, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp import chunks
from mmcc.kernels.arm_dsp.filters import BLOCK, Sums, blocks_of, constants, pack, pack_sums
from mmcc.kernels.arm_dsp.four import four
from mmcc.kernels.arm_dsp.winograd import winograd
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import columns_join, reaches_outside, rows_follow, window_fields
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.window import Window

VARIANT = "arm_dsp"
MOST_RIGHT = 22  # most that twice a zero point may be shifted left, which depthwise kernels do
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
TAPS_LIMIT = 64  # runs of a pixel: words on the stack
WINDOW_LIMIT = 7  # rows and columns of a depthwise window
STRETCHES = (7, 16)  # columns a depthwise kernel may widen at a time: 8 bytes a row each, on the stack
WIDENED = "depthwise_dsp"
WORD, HEAD = 4, 16  # bytes of a word; words before the weights of four channels: their scales
LEAST = 4  # columns beyond the window's, where stack counts: each is widened 1.4 times for windows of 3
ROW_BOUNDS = (3, 7)  # rows of a window that kernels are made for; above these, for the exact number
TAP_BOUNDS = (9, 25, 49)


def pointwise(op: ConvInt8 | DenseInt8, site: Site, strides: tuple[int, int]) -> KernelUse | None:
    """1x1 convolutions and dense layers, whose pixels are whole words."""
    length = site.inputs[0].geometry[2]
    packed = pack(op, site, length) if length % 4 == 0 else None
    if packed is None:
        return None
    rows, cols, _ = site.output.geometry
    flat = strides == (1, 1) and rows_follow(site)
    steps: Fields = (("stride_rows", strides[0]), ("stride_cols", strides[1]))
    together = four(site, packed, rows * cols if flat else cols)
    if together is not None:
        options = (*packed.scales.options, ("flat", flat))
        return KernelUse("pointwise_four", options, (*together, *steps, ("width", cols)))
    return KernelUse(
        "pointwise_dsp",
        (("form", packed.form), *packed.scales.options),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            *constants(site, packed),
            *steps,
        ),
    )


def sums(op: ConvInt8ToFloat | DenseInt8ToFloat, site: Site, strides: tuple[int, int]) -> KernelUse | None:
    """The same with an output in float."""
    length = site.inputs[0].geometry[2]
    packed = pack_sums(op, site, length) if length % 4 == 0 else None
    if packed is None:
        return None
    steps: Fields = (("stride_rows", strides[0]), ("stride_cols", strides[1]))
    return KernelUse("pointwise_sums", _sum_options(packed), (*_sum_fields(site, packed), *steps))


def _sum_options(packed: Sums) -> Options:
    """How sums are made, and what becomes of them."""
    return (
        ("form", packed.form),
        *(option for option in packed.epilogue.options if option[0] == "activation"),
    )


def _sum_fields(site: Site, packed: Sums) -> Fields:
    """Views, and constants of all filters."""
    size = BLOCK[packed.form]
    return (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("weights", site.keep("weights", blocks_of(packed.weights, size))),
        ("bias", site.keep("bias", np.pad(packed.bias, (0, -len(packed.bias) % size)))),
        ("tail", site.keep("tail", packed.epilogue.tail)),
        *packed.epilogue.fields,
        ("filters", len(packed.bias)),
        ("taps", packed.weights.shape[1]),
    )


@variant_layer(VARIANT, DenseInt8ToFloat)
def dense_to_float(op: DenseInt8ToFloat, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    return sums(op, site, (1, 1))


@variant_layer(VARIANT, ConvInt8ToFloat)
def conv_to_float(op: ConvInt8ToFloat, site: Site) -> KernelUse | None:
    """As those with an output of int8, one pixel at a time; windows of groups are portable."""
    (kh, kw), depth = op.window.kernel, site.inputs[0].shape[2]
    if op.groups > 1:
        return None
    if (kh, kw) == (1, 1) and not any(op.window.pads) and depth % 4 == 0:
        return sums(op, site, op.window.strides)
    by_runs = depth % 4 == 0 and kh * kw <= TAPS_LIMIT
    if not by_runs and kh * kw * depth > PATCH_LIMIT:
        return None
    window = _window_by_runs(op, site) if by_runs else _window_gathered(op, site)
    packed = pack_sums(op, site, window.length)
    if packed is None:
        return None
    options = (*_sum_options(packed), ("sums", True), *window.options)
    return KernelUse(window.template, options, (*_sum_fields(site, packed), *window.fields))


@variant_layer(VARIANT, DenseInt8)
def dense_int8(op: DenseInt8, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    return pointwise(op, site, (1, 1))


@variant_layer(VARIANT, ConvInt8)
def conv_int8(op: ConvInt8, site: Site) -> KernelUse | None:
    """Windows are gathered where a pixel's channels are no whole words, else walked by runs."""
    (kh, kw), depth = op.window.kernel, site.inputs[0].shape[2]
    if op.groups > 1:
        return _depthwise(op, site)
    if (kh, kw) == (1, 1) and not any(op.window.pads) and depth % 4 == 0:
        return pointwise(op, site, op.window.strides)
    if depth % 4 == 0 and kh * kw <= TAPS_LIMIT:
        return winograd(op, site) or _of_windows(op, site, _window_by_runs(op, site), "conv_four")
    if kh * kw * depth > PATCH_LIMIT:
        return None
    return _of_windows(op, site, _window_gathered(op, site), "patch_four")


def _bound(value: int, bounds: tuple[int, ...]) -> int:
    return next((bound for bound in bounds if value <= bound), value)


@dataclass(frozen=True, slots=True)
class Windows:
    """How a kernel comes by windows of so many values, padded to whole words."""

    template: str
    length: int
    options: Options
    fields: Fields


def _window_by_runs(op: ConvInt8 | ConvInt8ToFloat, site: Site) -> Windows:
    (kh, kw), depth = op.window.kernel, site.inputs[0].shape[2]
    run = kw * depth if columns_join(site, op.window) else 0
    options: Options = (("rows", _bound(kh, ROW_BOUNDS)), ("taps", _bound(kh * kw, TAP_BOUNDS)))
    fields: Fields = (
        ("pad", site.keep("pad", np.full(max(run, depth), op.x_zero, np.int8).view(np.int32))),
        *window_fields(site, op.window),
        ("kernel_rows", kh),
        ("kernel_cols", kw),
        ("depth", depth),
        ("joined", run),
    )
    return Windows("conv_dsp", kh * kw * depth, options, fields)


def _window_gathered(op: ConvInt8 | ConvInt8ToFloat, site: Site) -> Windows:
    (kh, kw), depth = op.window.kernel, site.inputs[0].shape[2]
    length = -(-kh * kw * depth // 4) * 4
    options: Options = (
        ("patch", length),
        ("kernel", (kh, kw)),
        ("depth", depth),
        ("dense", columns_join(site, op.window)),
    )
    fields: Fields = (*window_fields(site, op.window), ("x_zero", op.x_zero))
    return Windows("patch_dsp", length, options, fields)


def _of_windows(op: ConvInt8, site: Site, window: Windows, together: str) -> KernelUse | None:
    """Four pixels at a time by the kernel `together`, where that pays."""
    packed = pack(op, site, window.length)
    if packed is None:
        return None
    found = four(site, packed, site.output.shape[1])
    if found is not None:
        shared = tuple(option for option in window.options if option[0] != "taps")
        return KernelUse(together, (*packed.scales.options, *shared), (*found, *window.fields))
    return KernelUse(
        window.template,
        (("form", packed.form), *packed.scales.options, ("sums", False), *window.options),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            *constants(site, packed),
            *window.fields,
        ),
    )


def _depthwise(op: ConvInt8, site: Site) -> KernelUse | None:
    """Four channels a word; windows whose columns follow each other."""
    (kh, kw), channels = op.window.kernel, site.inputs[0].shape[2]
    if (
        op.groups != channels
        or site.output.shape[2] != channels
        or channels % 4
        or op.window.dilations[1] > 1
    ):
        return None
    alone = site.output.shape[1] == 1 and not reaches_outside(site, op.window) and kh * kw <= TAPS_LIMIT
    packed = pack(op, site, kh * kw, plain=True) if alone or max(kh, kw) <= WINDOW_LIMIT else None
    if packed is None or packed.scales.right.max(initial=0) > MOST_RIGHT:
        return None
    scales = packed.scales
    weights = packed.weights.T if alone else quads(packed.weights.reshape(channels, kh, kw))
    scale = np.stack((scales.bias, scales.multiplier), 0).reshape(2, -1, 4).transpose(1, 0, 2)
    layer: Fields = (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("weights", site.keep("weights", np.ascontiguousarray(weights), 4)),
        ("scale", site.keep("scale", scale.astype(np.int32))),
        ("shift", site.keep("shift", scales.right)),
        *scales.fields,
        *window_fields(site, op.window),
        ("channels", channels),
        ("x_zero", op.x_zero),
    )
    if alone:
        options = (*scales.options, ("taps", _bound(kh * kw, TAP_BOUNDS)))
        return KernelUse("depthwise_pixel", options, (*layer, ("kernel_rows", kh), ("kernel_cols", kw)))
    if chunks.fits(site, op.window):
        options = (*scales.options, *chunks.options(site, op.window))
        return KernelUse(chunks.TEMPLATE, options, (*layer, *chunks.fields(site, op.window)))
    lent = site.scratch is not None
    options = (*scales.options, ("rows", kh), ("cols", kw), ("columns", columns_of(site, op.window)))
    work: Fields = (("work", site.work()),) if lent else ()
    use = KernelUse(WIDENED, (*options, ("lent", lent)), (*layer, *work))
    assert not site.room or widened_bytes(use) <= site.room, "planned for kernels with other frames"
    return use


def widened_bytes(use: KernelUse) -> int:
    """Bytes in which a depthwise kernel widens values and weights: lent to it, or else on the stack."""
    if use.template != WIDENED:
        return 0
    options: dict[str, Any] = dict(use.options)
    rows, cols = options["rows"], options["cols"]
    return WORD * (HEAD + 2 * rows * cols + 2 * rows * options["columns"])


def columns_of(site: Site, window: Window) -> int:
    """Columns that a depthwise kernel widens at a time: few numbers, so that layers share kernels."""
    if site.target.small_frames:
        return window.kernel[1] + LEAST
    need = (site.output.shape[1] - 1) * window.strides[1] + window.kernel[1]
    return next((columns for columns in STRETCHES if need <= columns), STRETCHES[-1])


def quads(w: NDArray[np.int8]) -> NDArray[np.int32]:
    """[C, rows, cols] as words, four channels after the other.

    A column is two words for each pair of rows, channels 0 and 1 of both and then 2 and 3, and one word for a
    last single row.
    """
    channels, rows, cols = w.shape
    by_four = w.reshape(-1, 4, rows, cols)
    words: list[NDArray[np.int8]] = []
    for col in range(cols):
        for row in range(0, rows - 1, 2):
            pair = by_four[:, :, row : row + 2, col]  # quad, channel, row
            words += [pair[:, half : half + 2].transpose(0, 2, 1).reshape(-1, 4) for half in (0, 2)]
        if rows % 2:
            words.append(by_four[:, :, rows - 1, col])
    return np.ascontiguousarray(np.stack(words, 1)).view("<i4").reshape(channels // 4, -1)
