# SPDX-License-Identifier: Apache-2.0
"""int8 kernels on vectors of x86-64 and AArch64: which kernel, and how its constants are packed.

Sixteen filters or channels go side by side, and four values at a time (runtime_c/mmcc_simd.h): weights lie as
[block][values / 4][16][4], in the order in which a window's values are read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.portable.filters_int8 import Filters, filters_of
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import row_bound, views, window_fields
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.half_layers import TAP_LIMIT
from mmcc.ops.window import Window

VARIANT = "simd"
BLOCK = 16  # filters or channels of a block
QUAD = 4  # values that one step multiplies
PATCH_LIMIT = 512  # bytes of a window that may be gathered on the stack
DEPTHWISE_LIMIT = 8  # rows and columns of a depthwise window
SPAN_LIMIT = 12  # columns under the pixels of a depthwise tile
MOST_RIGHT = 31  # of a high word: more gives the same
LEAST_RIGHT = 2  # shift of what is in units of 2^31


def _filters(op: ConvInt8 | DenseInt8, site: Site) -> Filters | None:
    """The filters, unless they need more than the high word of a product or have a zero point."""
    filters = filters_of(site, op)
    return filters if filters.plain and not filters.w_zero else None


def _end(op: ConvInt8 | DenseInt8, filters: Filters) -> tuple[Options, Fields]:
    """Options and fields for what becomes of sums."""
    left = filters.epilogue.left
    more: Fields = (("left", left),) if left else ()
    return (("left", bool(left)),), (("y_zero", op.y_zero), ("low", op.low), ("high", op.high), *more)


def _scale(filters: Filters, order: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each block of `order` biases, biases of values raised by 128, multipliers, and negative shifts.

    An entry of -1 is a filter that is not there.
    """
    sums = filters.w.astype(np.int64).reshape(len(filters.w), -1).sum(1)
    right = -(np.minimum(filters.epilogue.tail.astype(np.int64), MOST_RIGHT) + LEAST_RIGHT)
    each = np.stack((filters.bias, filters.bias - 128 * sums, filters.multiplier.astype(np.int64), right))
    there = np.where(order < 0, np.array([[0], [0], [0], [-LEAST_RIGHT]]), each[:, order])
    return there.reshape(4, -1, BLOCK).transpose(1, 0, 2).astype(np.int32)


def _whole_blocks(count: int) -> NDArray[np.int64]:
    """The filters of all blocks, the last filled up with -1."""
    order = np.full(-(-count // BLOCK) * BLOCK, -1)
    order[:count] = np.arange(count)
    return order


def _overlapping_blocks(count: int) -> NDArray[np.int64]:
    """The channels of all blocks, the last back from the end; a single one is filled up with -1."""
    if count < BLOCK:
        return _whole_blocks(count)
    starts = [*range(0, count - BLOCK + 1, BLOCK), *([count - BLOCK] if count % BLOCK else [])]
    return (np.array(starts)[:, None] + np.arange(BLOCK)).reshape(-1)


def _pack(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights [filters, values] as [block][values / 4][16][4]; what is lacking to whole blocks is 0."""
    filters, values = w.shape
    padded = np.zeros((-(-filters // BLOCK) * BLOCK, values), np.int8)
    padded[:filters] = w
    return np.ascontiguousarray(padded.reshape(-1, BLOCK, values // QUAD, QUAD).transpose(0, 2, 1, 3))


@variant_layer(VARIANT, DenseInt8)
def dense_int8(op: DenseInt8, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    filters = _filters(op, site)
    return None if filters is None or filters.w.shape[1] % QUAD else _point(op, site, filters, (1, 1))


@variant_layer(VARIANT, ConvInt8)
def conv_int8(op: ConvInt8, site: Site) -> KernelUse | None:
    """Windows whose runs are no whole quads are gathered; others are listed by where their runs are."""
    filters = _filters(op, site)
    if filters is None:
        return None
    if op.groups > 1:
        return _depthwise(op, site, filters)
    (_, kh, kw, depth), window = filters.w.shape, op.window
    if depth % QUAD == 0 and (kh, kw) == (1, 1) and not any(window.pads):
        return _point(op, site, filters, window.strides)
    if depth % QUAD:
        return _patch(op, site, filters) if kh * kw * depth <= PATCH_LIMIT else None
    return _window(op, site, filters) if kh * kw <= TAP_LIMIT else None


def _use(
    op: ConvInt8 | DenseInt8, site: Site, filters: Filters, options: Options, fields: Fields
) -> KernelUse:
    """The kernel of all but depthwise convolutions; weights are [filters, values] in whole quads."""
    w = filters.w.reshape(len(filters.w), -1)
    end_options, end_fields = _end(op, filters)
    return KernelUse(
        "simd_conv_int8",
        (*end_options, ("multiple", site.output.geometry[1] > 1), *options),
        (
            *views(site),
            ("weights", site.keep("weights", _pack(w))),
            ("scale", site.keep("scale", _scale(filters, _whole_blocks(len(w))))),
            *end_fields,
            ("filters", len(w)),
            ("block_weights", BLOCK * w.shape[1]),
            *fields,
        ),
    )


def _form(name: str, rows: int, taps: int, window: tuple[int, int], depth: int) -> Options:
    """What the code of a form is made for: rows and taps of a window at most, and a gathered one exactly."""
    patch = -(-window[0] * window[1] * depth // QUAD) * QUAD
    made_for: Options = (
        ("rows", rows),
        ("taps", taps),
        ("kernel", window),
        ("depth", depth),
        ("patch", patch),
    )
    return (("form", name), *made_for)


def _point(op: ConvInt8 | DenseInt8, site: Site, filters: Filters, strides: tuple[int, int]) -> KernelUse:
    fields: Fields = (
        ("length", site.inputs[0].geometry[2]),
        ("stride_rows", strides[0]),
        ("stride_cols", strides[1]),
    )
    return _use(op, site, filters, (*_form("point", 1, 1, (1, 1), 0), ("dense", True)), fields)


def _joined(site: Site, window: Window) -> bool:
    """True if the columns of a window follow each other in memory."""
    return window.dilations[1] == 1 and site.inputs[0].where().col_stride == site.inputs[0].shape[2]


def _patch(op: ConvInt8, site: Site, filters: Filters) -> KernelUse:
    count, kh, kw, depth = filters.w.shape
    flat = np.zeros((count, -(-kh * kw * depth // QUAD) * QUAD), np.int8)
    flat[:, : kh * kw * depth] = filters.w.reshape(count, -1)
    padded = Filters(flat, 0, filters.scale, filters.epilogue)
    options = (*_form("patch", kh, 1, (kh, kw), depth), ("dense", _joined(site, op.window)))
    fields: Fields = (*window_fields(site, op.window), ("x_zero", op.x_zero), ("kernel_rows", kh))
    return _use(op, site, padded, options, fields)


def _window(op: ConvInt8, site: Site, filters: Filters) -> KernelUse:
    """A row of the window is one run where its columns follow each other."""
    _, kh, kw, depth = filters.w.shape
    joined = kw * depth if _joined(site, op.window) else 0
    fields: Fields = (
        *window_fields(site, op.window),
        ("pad", site.keep("pad", np.full(max(joined, depth), op.x_zero, np.int8))),
        ("joined", joined),
        ("depth", depth),
        ("kernel_rows", kh),
        ("kernel_cols", kw),
    )
    rows, taps = row_bound(kh), row_bound(kh) * row_bound(kw)
    return _use(op, site, filters, (*_form("window", rows, taps, (1, 1), 0), ("dense", True)), fields)


def _outputs(site: Site, window: Window) -> tuple[int, ...]:
    """How many neighbours a depthwise tile may have: sums and a window's weights share the registers."""
    quads, cols = -(-window.kernel[0] // QUAD), window.kernel[1]
    reach = (cols - 1) * window.dilations[1] + 1
    room = max(1, min(5, 8 - quads * cols, 1 + (SPAN_LIMIT - reach) // window.strides[1]))
    return tuple(range(min(room, site.output.shape[1]), 0, -1))


def _depthwise(op: ConvInt8, site: Site, filters: Filters) -> KernelUse | None:
    """Weights as [block of 16 channels][four rows][column][channel][row]."""
    (count, kh, kw, depth), window = filters.w.shape, op.window
    if depth > 1 or count != op.groups or max(kh, kw) > DEPTHWISE_LIMIT:
        return None
    order = _overlapping_blocks(count)
    quads = -(-kh // QUAD)
    w = np.zeros((len(order), quads * QUAD, kw), np.int8)
    w[:, :kh] = np.where(order[:, None, None] < 0, 0, filters.w[order, :, :, 0])
    packed: NDArray[np.int8] = np.ascontiguousarray(
        w.reshape(-1, BLOCK, quads, QUAD, kw).transpose(0, 2, 4, 1, 3)
    )
    end_options, end_fields = _end(op, filters)
    return KernelUse(
        "simd_depthwise_int8",
        (
            *end_options,
            ("rows", kh),
            ("cols", kw),
            ("stride", window.strides[1]),
            ("dilation", window.dilations[1] if kw > 1 else 1),
            ("outputs", _outputs(site, window)),
            ("some", count if count < BLOCK else 0),
        ),
        (
            *views(site),
            ("weights", site.keep("weights", packed)),
            ("scale", site.keep("scale", _scale(filters, order))),
            ("pad", site.keep("pad", np.full((count,), op.x_zero, np.int8))),
            *end_fields,
            *window_fields(site, window),
            ("channels", count),
        ),
    )
