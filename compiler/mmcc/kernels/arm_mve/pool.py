# SPDX-License-Identifier: Apache-2.0
"""Pools and means of int8 on Armv8.1-M vectors (Helium): channels side by side, sums in 16 bits."""

from __future__ import annotations

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import KernelUse, View
from mmcc.kernels.epilogue import Fields, Options, check_accumulator
from mmcc.kernels.portable.pool import pool_fields
from mmcc.kernels.portable.reduce_int8 import channel_axes, pixel_axes
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import row_bound, views
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.requantize import requantize
from mmcc.ops.window import Window

MOST = 255  # values of int8 whose sum fits 16 bits
SHORT = 128  # values of int8, less a zero point, whose sum fits 16 bits
SPELLED = 9  # taps of a window that a kernel spells out
SPELLED_ROWS = 4  # rows of such a window: each needs a register
LANES = {"halves": 16, "words": 32}


def _rounded(form: str, count: int, x_zero: int, multiplier: int, shift: int) -> int:
    """A multiplier for this form that is right for every sum of `count` values, or 0; all are tried.

    It is the exact one cut above 2^-15 or 2^-31, or one more: what was a tie but for the last bits of the
    exact one must not be rounded the other way.
    """
    bits = LANES[form] - 1
    sums = np.arange(count * (-128 - x_zero), count * (127 - x_zero) + 1, dtype=np.int64)
    want, least = requantize(sums, multiplier, shift), (multiplier << bits) >> shift
    for fine in (least, least + 1):
        if 0 < fine < 2**bits and np.array_equal(want, (sums * fine + (1 << (bits - 1))) >> bits):
            return fine
    return 0


def _ending(
    site: Site, op: AveragePoolInt8 | MeanInt8, scale: tuple[int, int], count: int
) -> tuple[Options, Fields] | None:
    """Options and fields for one multiplier and shift and sums of `count` values, if lanes can do it."""
    check_accumulator(2 * count * max(127 - op.x_zero, op.x_zero + 128), site)
    full, long = (op.low, op.high) == (-128, 127), count > SHORT
    limits: Fields = () if full else (("low", op.low), ("high", op.high))
    for form in ("words",) if long else LANES:
        multiplier = _rounded(form, count, op.x_zero, *scale)
        if multiplier:
            options: Options = (("form", form), ("full", full), ("long", long))
            return options, (("multiplier", multiplier), ("y_zero", op.y_zero), *limits)
    return None


@variant_layer("arm_mve", MaxPool)
def max_pool(op: MaxPool, site: Site) -> KernelUse | None:
    """Sixteen channels at a time."""
    if site.inputs[0].dtype != ElementType.I8:
        return None
    return KernelUse("mve_max_pool_int8", _spelled(op.window), pool_fields(site, op.window))


def _spelled(window: Window, *, spell: bool = True) -> Options:
    """Rows and columns of a window for the kernel to spell out; no columns if taps are many or outside."""
    kh, kw = window.kernel
    few = spell and not any(window.pads) and kh * kw <= SPELLED and kh <= SPELLED_ROWS
    return ("rows", kh if few else row_bound(kh)), ("cols", kw if few else 0)


@variant_layer("arm_mve", AveragePoolInt8)
def average_pool_int8(op: AveragePoolInt8, site: Site) -> KernelUse | None:
    """Windows that all have the same scale."""
    multiplier, shift = site.inputs[1].constant(), site.inputs[2].constant()
    (kh, kw), window = op.window.kernel, op.window
    if len(multiplier) > 1 or kh * kw > MOST:
        return None
    ending = _ending(site, op, (int(multiplier[0]), int(shift[0])), kh * kw)
    if ending is None:
        return None
    options, fields = ending
    whole = dict(options)["form"] == "halves" or site.inputs[0].shape[2] % 2 == 0  # lanes of a predicate
    return KernelUse(
        "mve_average_pool_int8",
        (*options, *_spelled(window, spell=whole)),
        (*pool_fields(site, window), *fields, ("x_zero", op.x_zero)),
    )


@variant_layer("arm_mve", MeanInt8)
def mean_int8(op: MeanInt8, site: Site) -> KernelUse | None:
    """Means of pixels; all channels stay."""
    shape = site.inputs[0].shape
    rows, cols = pixel_axes(shape, op.axes)
    inside = any(axis in op.axes and shape[axis] > 1 for axis in channel_axes(shape))
    if inside or cols > MOST or rows * cols > 2**14:
        return None
    ending = _ending(site, op, (op.multiplier, op.shift), rows * cols)
    if ending is None:
        return None
    options, fields = ending
    lines, taps = (rows, cols) if dict(options)["long"] else _lines(site.inputs[0].where(), rows, cols)
    return KernelUse(
        "mve_mean_int8",
        (*options, ("eights", site.output.geometry[2] % 8 == 0)),
        (
            *views(site),
            *fields,
            ("zero", -rows * cols * op.x_zero),
            ("channels", site.output.geometry[2]),
            ("rows", lines),
            ("cols", taps),
        ),
    )


def _lines(x: View, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of int8 pixels to sum up; rows that lie one behind the other are one."""
    joined = x.row_stride == cols * x.col_stride and x.rows == rows
    return (1, rows * cols) if joined else (rows, cols)
