"""Pools and means of int8 on Armv8.1-M vectors (Helium): channels side by side, sums in 16 bits."""

from __future__ import annotations

import numpy as np

from mmcc.codegen.layers import Site, variant_layer
from mmcc.codegen.layers.conv_int8 import row_bound, views
from mmcc.codegen.layers.epilogue import Fields, Options, check_accumulator, epilogue
from mmcc.codegen.layers.pool import pool_fields
from mmcc.codegen.layers.reduce_int8 import channel_axes, pixel_axes
from mmcc.ir.graph import DType
from mmcc.ir.program import KernelUse
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.requantize import requantize
from mmcc.ops.window import Window

MOST = 255  # values of int8 whose sum fits 16 bits
SPELLED = 9  # taps of a window that a kernel spells out


def _rounded(count: int, x_zero: int, multiplier: int, shift: int) -> int:
    """A multiplier with which rounded high words of products are right for every sum there can be, or 0.

    It has the bits of the exact one that fit above 2^-32; all sums are tried.
    """
    fine = (multiplier << 32) + (1 << (shift - 1)) >> shift
    if not 0 < fine < 2**31:
        return 0
    sums = np.arange(count * (-128 - x_zero), count * (127 - x_zero) + 1, dtype=np.int64)
    same = np.array_equal(requantize(sums, multiplier, shift), (sums * fine + (1 << 31)) >> 32)
    return fine if same else 0


def _ending(
    site: Site, op: AveragePoolInt8 | MeanInt8, scale: tuple[int, int], count: int
) -> tuple[Options, Fields] | None:
    """Options and fields for one multiplier and shift and sums of `count` values, if lanes can do it."""
    bound = count * max(127 - op.x_zero, op.x_zero + 128)
    check_accumulator(2 * bound, site)
    fine = _rounded(count, op.x_zero, *scale)
    common: Fields = (("y_zero", op.y_zero), ("low", op.low), ("high", op.high))
    if fine:
        return (("rounded", True),), (("multiplier", fine), *common)
    tail = epilogue(bound, np.array([scale[0]]), np.array([scale[1]]), op.y_zero, (op.low, op.high))
    if dict(tail.options)["requantize"] != "high":
        return None
    return (("rounded", False),), (("multiplier", scale[0]), ("right", scale[1] - 32), *common)


@variant_layer("arm_mve", MaxPool)
def max_pool(op: MaxPool, site: Site) -> KernelUse | None:
    """Sixteen channels at a time."""
    if site.inputs[0].dtype is not DType.I8:
        return None
    return KernelUse("mve_max_pool_int8", _spelled(site, op.window), pool_fields(site, op.window))


def _spelled(site: Site, window: Window) -> Options:
    """Rows and columns of a window for the kernel to spell out; no columns if taps are many or outside."""
    (kh, kw), inside = window.kernel, not any(window.pads)
    few = inside and kh * kw <= SPELLED
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
    return KernelUse(
        "mve_average_pool_int8",
        (*options, *_spelled(site, window)),
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
    return KernelUse(
        "mve_mean_int8",
        (*options, ("long", rows * cols > MOST)),
        (
            *views(site),
            *fields,
            ("zero", -rows * cols * op.x_zero),
            ("channels", site.output.geometry[2]),
            ("rows", rows),
            ("cols", cols),
        ),
    )
