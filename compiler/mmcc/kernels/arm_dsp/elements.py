# SPDX-License-Identifier: Apache-2.0
"""Means for cores with DSP instructions: sums in halfwords."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.conv import VARIANT
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.portable.reduce_int8 import channel_axes, pixel_axes
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import window_fields
from mmcc.ops.pool import AveragePoolInt8
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.window import Window

HALF = 16
FEW = 9  # taps of a window that are spelled out
ROWS = 8  # of a window that one kernel is made for; above these, for the exact number
WIDEST = 2**15  # what a 16-bit sum must stay below


def limits(low: int, high: int) -> Fields:
    """The fields of a range narrower than int8."""
    return () if (low, high) == (-128, 127) else (("low", low), ("high", high))


@variant_layer(VARIANT, AveragePoolInt8)
def average_pool_int8(op: AveragePoolInt8, site: Site) -> KernelUse | None:
    """One scale for all windows."""
    multiplier, shift = (operand.constant() for operand in site.inputs[1:])
    if len(multiplier) > 1:
        return None
    return _pool(op, site, op.window, int(multiplier[0]), int(shift[0]))


@variant_layer(VARIANT, MeanInt8)
def mean_int8(op: MeanInt8, site: Site) -> KernelUse | None:
    """A window as large as the axes that are summed, if channels stay."""
    shape = site.inputs[0].shape
    if len(shape) != 3 or any(axis in channel_axes(shape) and shape[axis] > 1 for axis in op.axes):
        return None
    return _pool(op, site, Window(pixel_axes(shape, op.axes)), op.multiplier, op.shift)


def _pool(
    op: AveragePoolInt8 | MeanInt8, site: Site, window: Window, multiplier: int, shift: int
) -> KernelUse | None:
    channels, (rows, cols) = site.inputs[0].shape[2], window.kernel
    span, right = rows * cols * max(127 - op.x_zero, op.x_zero + 128), shift - HALF
    if channels % 4 or span >= WIDEST or not 1 <= right <= 31:
        return None
    rounding = (1 << (right - 1)) + op.y_zero * (1 << right)
    if (multiplier * span >> HALF) + abs(rounding) >= 2**31:
        return None
    few = (rows, cols) if min(rows, cols) > 1 and rows * cols <= FEW else (0, 0)
    return KernelUse(
        "pool_dsp",
        (
            ("right", right if few[0] else 0),
            ("full", (op.low, op.high) == (-128, 127)),
            ("kernel", few),
            ("rows", few[0] or max(rows, ROWS)),
        ),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            *window_fields(site, window),
            ("multiplier", int(np.int32(multiplier))),
            ("rounding", rounding),
            ("right", right),
            *limits(op.low, op.high),
            ("channels", channels),
            ("kernel_rows", rows),
            ("kernel_cols", cols),
            ("x_zero", op.x_zero),
        ),
    )
