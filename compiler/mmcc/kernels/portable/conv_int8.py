# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers in int8: which kernel, and its parameters."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.portable.filters_int8 import Filters, filters_of, packed
from mmcc.kernels.select import Site, layer
from mmcc.kernels.window import columns_join, reaches_outside, row_bound, views, window_fields
from mmcc.ops.conv import ConvInt8
from mmcc.ops.conv_transpose import ConvTransposeInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat

BLOCK = 4  # filters made together
PATCH_DEPTH = 8  # from so many channels on, runs of them are long enough
PATCH_LIMIT = 160  # bytes of a window that may be gathered on the stack
DEPTHWISE_COLS = 9  # widest window whose taps a depthwise kernel spells out
DEPTHWISE_ROWS = 16
STEP_COST = {8: 1.88, 4: 2.06}  # instructions a product with so many steps a turn, on a Cortex-M4
PAD_CHUNK = 128  # channels a depthwise kernel does at a time: bytes of its constant of x_zero


def step_of(*runs: int) -> int:
    """Values a turn of the inner loop: the most that divides every run."""
    return next(step for step in (8, 4, 2, 1) if all(run % step == 0 for run in runs))


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
