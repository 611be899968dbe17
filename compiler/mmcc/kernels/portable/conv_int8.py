# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers in int8: which kernel, and how its weights are packed.

The input's zero point is folded into the bias, which is exact because kernels read x_zero for samples outside
the image. Filters are interleaved in blocks, so that one pointer walks through all weights of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import (
    Epilogue,
    Fields,
    Options,
    check_accumulator,
    epilogue,
    float_epilogue,
)
from mmcc.kernels.select import Site, layer
from mmcc.ops.conv import ConvInt8
from mmcc.ops.conv_transpose import ConvTransposeInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.window import Window

BLOCK = 4  # filters made together
PATCH_DEPTH = 8  # from so many channels on, runs of them are long enough
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
DEPTHWISE_COLS = 9  # widest window whose taps a depthwise kernel spells out
DEPTHWISE_ROWS = 16
STEP_COST = {8: 1.88, 4: 2.06}  # instructions a product with so many steps a turn, on a Cortex-M4
PAD_CHUNK = 128  # channels a depthwise kernel does at a time: bytes of its constant of x_zero
ROW_BOUNDS = (1, 3, 5, 7)  # rows of a window that kernels are made for; above these, for the exact number


@dataclass(frozen=True, slots=True)
class Filters:
    """Weights [OC, KH, KW, IC / groups] ready to pack, their zero point, and what becomes of sums.

    `scale` [OC, 1 to 3] is the bias of each filter; the multiplier, if the output is int8; and the fraction
    of the bias, if there is one.
    """

    w: NDArray[np.int8]
    w_zero: int
    scale: NDArray[np.int64]
    epilogue: Epilogue

    @property
    def bias(self) -> NDArray[np.int64]:
        return self.scale[:, 0]

    @property
    def multiplier(self) -> NDArray[np.int64]:
        return self.scale[:, 1]

    @property
    def plain(self) -> bool:
        """True for what all variants can: an int8 output, whole biases, the high word of a product."""
        return self.epilogue.form in ("high", "left") and self.scale.shape[1] == 2

    @property
    def options(self) -> Options:
        return (*self.epilogue.options, ("w_zero", self.w_zero != 0))

    @property
    def fields(self) -> Fields:
        return (*self.epilogue.fields, *((("w_zero", self.w_zero),) if self.w_zero else ()))


Integer = ConvInt8 | DenseInt8 | ConvTransposeInt8
ToFloat = ConvInt8ToFloat | DenseInt8ToFloat | ConvTransposeInt8ToFloat


def filters_of(site: Site, op: Integer | ToFloat, *, fold: bool = True) -> Filters:
    """The filters of a node, x_zero folded into their biases unless `fold` is False.

    Weights whose zero point fits are shifted to zero point 0.
    """
    w, b, *each = (operand.constant() for operand in site.inputs[1:])
    w_zero, x_zero = op.w_zero, op.x_zero
    wide = w.astype(np.int64) - w_zero
    if w_zero and np.abs(wide).max(initial=0) <= 127:
        w, w_zero = wide.astype(np.int8), 0
    bits = 0 if isinstance(op, ToFloat) else op.bias_bits
    axes = tuple(range(1, w.ndim))
    whole = b.astype(np.int64) >> bits
    bias = whole - (x_zero * wide.sum(axes) if fold else 0)
    taps = int(np.prod(w.shape[1:]))
    exact = np.abs(wide).sum(axes) * max(127 - x_zero, x_zero + 128) + np.abs(whole) + (bits > 0)
    partial = np.abs(bias) + 128 * np.abs(w.astype(np.int64)).sum(axes) + abs(w_zero) * 128 * taps
    bound = int(exact.max(initial=0)) << bits
    check_accumulator(max(bound, int(partial.max(initial=0))), site)
    if isinstance(op, ToFloat):
        return Filters(w, w_zero, bias[:, None], float_epilogue(each[0], each[1], op.activation))
    end = epilogue(bound, each[0], each[1], op.y_zero, (op.low, op.high), bits)
    scale = [bias, each[0].astype(np.int64)]
    if bits:
        scale.append((b.astype(np.int64) - (whole << bits)) << (end.left - bits))
    return Filters(w, w_zero, np.stack(scale, 1), end)


def interleave(per_filter: NDArray[Any], groups: int, block: int) -> NDArray[Any]:
    """[OC, ...] as [groups, blocks, ..., block], each group's filters padded with zeros to whole blocks."""
    size = per_filter.shape[0] // groups
    blocks = -(-size // block)
    padded = np.zeros((groups, blocks * block, *per_filter.shape[1:]), per_filter.dtype)
    padded[:, :size] = per_filter.reshape(groups, size, *per_filter.shape[1:])
    return np.moveaxis(padded.reshape(groups, blocks, block, *per_filter.shape[1:]), 2, -1)


def packed(site: Site, filters: Filters, groups: int, block: int) -> Fields:
    """Weights in blocks of filters, and what each filter's sum ends with, padded to whole blocks."""
    arrays = {
        "weights": interleave(filters.w, groups, block),
        "scale": np.moveaxis(interleave(filters.scale.astype(np.int32), groups, block), -1, 2),
        "tail": _beside(interleave(filters.epilogue.tail, groups, block)),
    }
    return tuple((name, site.keep(name, np.ascontiguousarray(array))) for name, array in arrays.items())


def _beside(tail: NDArray[Any]) -> NDArray[Any]:
    """[groups, blocks, 2, block] with each filter's two numbers side by side; shifts as they are."""
    return np.moveaxis(tail, -1, 2) if tail.ndim == 4 else tail


def step_of(*runs: int) -> int:
    """Values a turn of the inner loop: the most that divides every run."""
    return next(step for step in (8, 4, 2, 1) if all(run % step == 0 for run in runs))


def row_bound(rows: int) -> int:
    """Rows of window that the kernel is made for, so that kernels are shared."""
    return next((bound for bound in ROW_BOUNDS if rows <= bound), rows)


def views(site: Site) -> Fields:
    """Where the image and the output are."""
    return (("x", site.inputs[0].where()), ("y", site.output.where()))


@layer(DenseInt8, DenseInt8ToFloat)
def dense_int8(op: DenseInt8 | DenseInt8ToFloat, site: Site) -> KernelUse:
    """A pointwise convolution of images one pixel wide."""
    filters = filters_of(site, op)
    return _pointwise(site, filters, (1, 1), pairs=False)


@layer(ConvInt8, ConvInt8ToFloat)
def conv_int8(op: ConvInt8 | ConvInt8ToFloat, site: Site) -> KernelUse:
    """The special kernel where there is one for the window and groups, else the general one."""
    filters = filters_of(site, op)
    (kh, kw), depth, window = op.window.kernel, filters.w.shape[3], op.window
    width = site.output.shape[1]
    if (kh, kw) == (1, 1) and op.groups == 1 and not reaches_outside(site, window):
        return _pointwise(site, filters, window.strides, pairs=width > 1)
    small = kw <= DEPTHWISE_COLS and kh <= DEPTHWISE_ROWS
    if op.groups > 1 and depth == 1 and small and filters.w_zero == 0:
        return _depthwise(op, site, filters)
    if op.groups == 1 and depth < PATCH_DEPTH and kh * kw * depth <= PATCH_LIMIT:
        return _patch(op, site, filters)
    return _general(op, site, filters)


def reaches_outside(site: Site, window: Window) -> bool:
    """True if a tap of any output lies outside the image."""
    for axis in (0, 1):
        last = (site.output.shape[axis] - 1) * window.strides[axis] - window.pads[axis]
        last += (window.kernel[axis] - 1) * window.dilations[axis]
        if window.pads[axis] > 0 or last >= site.inputs[0].shape[axis]:
            return True
    return False


def _pointwise(site: Site, filters: Filters, strides: tuple[int, int], *, pairs: bool) -> KernelUse:
    length = site.inputs[0].geometry[2]
    return KernelUse(
        "pointwise_int8",
        (
            *filters.options,
            ("filters", BLOCK),
            ("step", step_of(length)),
            ("pairs", pairs),
            ("patch", 0),
        ),
        (
            *views(site),
            *packed(site, filters, 1, BLOCK),
            *filters.fields,
            ("filters", filters.w.shape[0]),
            ("length", length),
            ("stride_rows", strides[0]),
            ("stride_cols", strides[1]),
        ),
    )


def window_fields(site: Site, window: Window) -> Fields:
    """Size of the image, and how the window moves over it."""
    height, width, _ = site.inputs[0].shape
    return (
        ("height", height),
        ("width", width),
        ("top", window.pads[0]),
        ("left_pad", window.pads[1]),
        ("stride_rows", window.strides[0]),
        ("stride_cols", window.strides[1]),
        ("dilation_rows", window.dilations[0]),
        ("dilation_cols", window.dilations[1]),
    )


def columns_join(site: Site, window: Window) -> bool:
    """True if the columns of a window follow each other in memory."""
    channels = site.inputs[0].shape[2]
    return window.dilations[1] == 1 and site.inputs[0].where().col_stride == channels


def _patch(op: ConvInt8 | ConvInt8ToFloat, site: Site, filters: Filters) -> KernelUse:
    count, *window = filters.w.shape
    taps = int(np.prod(window))
    step = 8 if -(-taps // 8) * 8 * STEP_COST[8] < -(-taps // 4) * 4 * STEP_COST[4] else 4
    length = -(-taps // step) * step
    flat = np.zeros((count, length), np.int8)
    flat[:, :taps] = filters.w.reshape(count, -1)
    flat_filters = Filters(flat, filters.w_zero, filters.scale, filters.epilogue)
    return KernelUse(
        "pointwise_int8",
        (
            *filters.options,
            ("filters", BLOCK),
            ("step", step),
            ("pairs", site.output.shape[1] > 1),
            ("patch", length),
            ("kernel", op.window.kernel),
            ("depth", window[2]),
            ("dense", columns_join(site, op.window)),
        ),
        (
            *views(site),
            *packed(site, flat_filters, 1, BLOCK),
            *filters.fields,
            *window_fields(site, op.window),
            ("filters", count),
            ("x_zero", op.x_zero),
        ),
    )


def _depthwise(op: ConvInt8 | ConvInt8ToFloat, site: Site, filters: Filters) -> KernelUse:
    (kh, kw), window, padded = op.window.kernel, op.window, reaches_outside(site, op.window)
    pad = site.keep("pad", np.full(PAD_CHUNK, op.x_zero, np.int8))
    return KernelUse(
        "depthwise_int8",
        (
            *filters.options,
            ("rows", kh),
            ("cols", kw),
            ("stride", window.strides[1]),
            ("dilation", window.dilations[1] if kw > 1 else 1),
            ("outputs", _neighbours(site, kw)),
            ("multiplier", filters.w.shape[0] // op.groups),
            ("padded", padded),
            ("chunk", PAD_CHUNK),
        ),
        (
            *views(site),
            *packed(site, filters, op.groups, 1),
            *((("pad", pad),) if padded else ()),
            *filters.fields,
            *window_fields(site, window),
            ("channels", op.groups),
        ),
    )


def _neighbours(site: Site, cols: int) -> tuple[int, ...]:
    """How many outputs a depthwise kernel may make together: as many as registers hold with a row of weights.

    Six of them are a little too many, but pay where rows are then made without a shorter rest.
    """
    width = site.output.shape[1]
    if width == 1:
        return (1,)
    if cols <= 3:
        return (6, 3, 2, 1) if width % 3 == 0 else (5, 4, 3, 2, 1)
    return (4, 3, 2, 1)


def _grouped(filters: Filters, groups: int, block: int) -> Fields:
    per_group = filters.w.shape[0] // groups
    padded = -(-per_group // block) * block
    return (
        ("groups", groups),
        ("filters", per_group),
        ("group_filters", padded),
        ("group_weights", padded * int(np.prod(filters.w.shape[1:]))),
        ("depth", filters.w.shape[3]),
        ("kernel_rows", filters.w.shape[1]),
        ("kernel_cols", filters.w.shape[2]),
    )


def _block_of(filters: Filters, groups: int) -> int:
    per_group = filters.w.shape[0] // groups
    return BLOCK if per_group > 2 else per_group


def _general(op: ConvInt8 | ConvInt8ToFloat, site: Site, filters: Filters) -> KernelUse:
    (kh, kw), depth, padded = op.window.kernel, int(filters.w.shape[3]), reaches_outside(site, op.window)
    joined = kw * depth if columns_join(site, op.window) and op.groups == 1 else 0
    block = _block_of(filters, op.groups)
    pad = site.keep("pad", np.full(depth, op.x_zero, np.int8))
    return KernelUse(
        "conv_int8",
        (
            *filters.options,
            ("filters", block),
            ("step", step_of(depth)),
            ("pairs", site.output.shape[1] > 1),
            ("rows", row_bound(kh)),
            ("padded", padded),
        ),
        (
            *views(site),
            *packed(site, filters, op.groups, block),
            *((("pad", pad),) if padded else ()),
            *filters.fields,
            *window_fields(site, op.window),
            *_grouped(filters, op.groups, block),
            ("joined", joined),
        ),
    )


@layer(ConvTransposeInt8, ConvTransposeInt8ToFloat)
def conv_transpose_int8(op: ConvTransposeInt8 | ConvTransposeInt8ToFloat, site: Site) -> KernelUse:
    """Which taps an output has depends on where it is, so that the input's zero point is not folded."""
    filters = filters_of(site, op, fold=False)
    block = _block_of(filters, op.groups)
    return KernelUse(
        "conv_transpose_int8",
        (
            *filters.epilogue.options,
            ("w_zero", False),  # of weights: it is subtracted in the loop, since taps differ
            ("centred", filters.w_zero == 0),
            ("filters", block),
            ("rows", row_bound(op.window.kernel[0])),
        ),
        (
            *views(site),
            *packed(site, filters, op.groups, block),
            *filters.fields,
            *window_fields(site, op.window),
            *_grouped(filters, op.groups, block),
            ("x_zero", op.x_zero),
        ),
    )
