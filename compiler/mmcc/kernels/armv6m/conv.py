# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers that make two pixels in one multiplication: which kernel, and its parameters.

A word holds the values of two pixels, 16 bits each. The products of two such words are added
up before both halves are taken apart (runtime_c/mmcc_armv6m.h): exact unless both weights are -128.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.portable.filters_int8 import Filters, ends, filters_of
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import (
    columns_join,
    reaches_outside,
    row_bound,
    rows_follow,
    views,
    window_fields,
)
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat

VARIANT = "armv6m"
BLOCK = 4  # filters made together
RUN = 4  # weights of a filter in a word
ROOMS = (64, 144, 288, 576)  # words on the stack for values of two windows; few, so that layers share kernels
LEAST_TAPS = 8  # with fewer, calls cost more than the products save
LEAST_FILTERS = 4  # values are put side by side once for all of them


@variant_layer(VARIANT, DenseInt8, DenseInt8ToFloat)
def dense_int8(op: DenseInt8 | DenseInt8ToFloat, site: Site) -> KernelUse | None:
    """A pointwise convolution of images one pixel wide."""
    return _pointwise(site, filters_of(site, op), (1, 1))


@variant_layer(VARIANT, ConvInt8, ConvInt8ToFloat)
def conv_int8(op: ConvInt8 | ConvInt8ToFloat, site: Site) -> KernelUse | None:
    """Not for groups, nor where a row has one pixel only."""
    window, depth = op.window, site.inputs[0].shape[2]
    if op.groups > 1:
        return None
    filters, padded = filters_of(site, op), reaches_outside(site, window)
    if window.kernel == (1, 1) and not padded:
        return _pointwise(site, filters, window.strides)
    options = _options(site, filters) if site.output.shape[1] > 1 else None
    if options is None:
        return None
    kh, kw = window.kernel
    joined = kw * depth if columns_join(site, window) else 0
    pad = site.keep("pad", np.full(max(joined, depth), op.x_zero, np.int8))
    return KernelUse(
        "conv_pairs",
        (*options, ("rows", row_bound(kh)), ("padded", padded)),
        (
            *views(site),
            *_constants(site, filters),
            *((("pad", pad),) if padded else ()),
            *window_fields(site, window),
            ("kernel_rows", kh),
            ("kernel_cols", kw),
            ("depth", depth),
            ("joined", joined),
        ),
    )


def _pointwise(site: Site, filters: Filters, strides: tuple[int, int]) -> KernelUse | None:
    rows, cols, _ = site.output.geometry
    flat = strides == (1, 1) and rows_follow(site)
    options = _options(site, filters) if (rows * cols if flat else cols) > 1 else None
    if options is None:
        return None
    return KernelUse(
        "pointwise_pairs",
        (*options, ("flat", flat)),
        (
            *views(site),
            *_constants(site, filters),
            ("length", site.inputs[0].geometry[2]),
            ("width", cols),
            ("stride_rows", strides[0]),
            ("stride_cols", strides[1]),
        ),
    )


def _options(site: Site, filters: Filters) -> Options | None:
    """What both kernels are compiled for, or None where neither can make the layer, or not faster."""
    taps = _taps(filters).shape[1]
    room = next((room for room in ROOMS if taps <= room), 0)
    if site.target.small_frames or not room or taps < LEAST_TAPS or filters.w.shape[0] < LEAST_FILTERS:
        return None
    if filters.w_zero or not fits(_taps(filters)):
        return None
    return (*filters.options, ("filters", BLOCK), ("room", room))


def fits(taps: NDArray[np.int8]) -> bool:
    """True if no two weights that are added up, [OC, 2k] and [OC, 2k + 1], are both -128.

    Their products with two values of -128 would add up to 32,768, which 16 bits do not hold.
    """
    return not bool(np.any(np.all(taps.reshape(-1, 2) == -128, axis=1)))


def _taps(filters: Filters) -> NDArray[np.int8]:
    """[OC, taps of a window], with zeros to whole words."""
    flat = filters.w.reshape(filters.w.shape[0], -1)
    return np.pad(flat, ((0, 0), (0, -flat.shape[1] % RUN)))


def _constants(site: Site, filters: Filters) -> Fields:
    """Weights as the loop reads them: of two filters in turn a word of four taps; zeros to whole blocks."""
    taps = _taps(filters)
    count, length = taps.shape
    blocks = np.pad(taps, ((0, -count % BLOCK), (0, 0)))
    pairs = blocks.reshape(-1, 2, length // RUN, RUN).transpose(0, 2, 1, 3)
    weights = site.keep("weights", np.ascontiguousarray(pairs), RUN)
    return (
        ("weights", weights),
        *ends(site, filters, 1, BLOCK),
        *filters.fields,
        ("filters", count),
        ("taps", length),
    )
