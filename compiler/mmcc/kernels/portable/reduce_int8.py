# SPDX-License-Identifier: Apache-2.0
"""Mean over any axes of int8 and int16, softmax of int8; the index of the largest element of any type."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import Field, KernelUse
from mmcc.ir.types import Shape
from mmcc.kernels.epilogue import HIGH, RAISED, Options, check_accumulator, epilogue
from mmcc.kernels.select import Operand, Site, layer
from mmcc.kernels.window import views
from mmcc.ops.int16 import MeanInt16
from mmcc.ops.reduce import ArgMax, MeanInt8
from mmcc.ops.softmax import SoftmaxInt8, factor_bits

SUM_LIMIT = 511  # exponentials of 23 bits that add up in 32


def channel_axes(shape: Shape) -> range:
    """The axes that the kernels' geometry folds into channels."""
    return range(min(2, max(len(shape) - 1, 0)), len(shape))


def pixel_axes(shape: Shape, axes: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns summed for one output; 1 where the axis stays."""
    rows = shape[0] if len(shape) >= 2 and 0 in axes else 1
    return rows, shape[1] if len(shape) >= 3 and 1 in axes else 1


@layer(MeanInt8)
def mean_int8(op: MeanInt8, site: Site) -> KernelUse:
    """Pixels are summed by view; axes within the channels as one run where they are one, else by a table."""
    shape = site.inputs[0].shape
    count = prod(shape[axis] for axis in op.axes)
    bound = count * max(127 - op.x_zero, op.x_zero + 128)
    check_accumulator(2 * bound, site)
    scale = (np.array([op.multiplier], np.int32), np.array([op.shift], np.int8))
    end = epilogue(bound, *scale, op.y_zero, (op.low, op.high))
    rows, cols = pixel_axes(shape, op.axes)
    start = -count * op.x_zero
    options, fields = _within_channels(site, shape, op.axes)
    return KernelUse(
        "mean_integers",
        (("bits", 8), *end.options, *options),
        (
            *views(site),
            *fields,
            ("multiplier", op.multiplier),
            ("start", start),
            *end.fields,
            ("channels", site.output.geometry[2]),
            ("rows", rows),
            ("cols", cols),
            ("shift", int(end.tail[0])),
        ),
    )


@layer(MeanInt16)
def mean_int16(op: MeanInt16, site: Site) -> KernelUse:
    """As of int8; one product of 64 bits for each mean."""
    shape = site.inputs[0].shape
    rows, cols = pixel_axes(shape, op.axes)
    options, fields = _within_channels(site, shape, op.axes)
    return KernelUse(
        "mean_integers",
        (("bits", 16), *options),
        (
            *views(site),
            *fields,
            ("multiplier", op.multiplier),
            ("low", op.low),
            ("high", op.high),
            ("channels", site.output.geometry[2]),
            ("rows", rows),
            ("cols", cols),
            ("shift", op.shift),
        ),
    )


def _within_channels(
    site: Site, shape: Shape, axes: tuple[int, ...]
) -> tuple[Options, tuple[tuple[str, Field], ...]]:
    inside = channel_axes(shape)
    summed = [axis for axis in inside if axis in axes and shape[axis] > 1]
    if not summed:
        return (("channels", "kept"),), ()
    run = range(summed[0], summed[-1] + 1)
    if all(axis in axes or shape[axis] == 1 for axis in run):
        count, inner = prod(shape[axis] for axis in run), prod(shape[run.stop :])
        return (("channels", "axis"),), (("count", count), ("inner", inner))
    index: NDArray[Any] = np.arange(prod(shape[axis] for axis in inside), dtype=np.int32)
    index = index.reshape([shape[axis] for axis in inside])
    first = inside.start
    kept = index[tuple(slice(0, 1) if axis in summed else slice(None) for axis in inside)]
    gone = index[tuple(slice(None) if first + k in summed else slice(0, 1) for k in range(index.ndim))]
    tables = (
        ("base", site.keep("base", kept.reshape(-1))),
        ("offset", site.keep("offset", gone.reshape(-1))),
        ("count", gone.size),
    )
    return (("channels", "table"),), tables


@layer(SoftmaxInt8)
def softmax_int8(op: SoftmaxInt8, site: Site) -> KernelUse:
    """Groups of the last axis, several a pixel if the channels fold more axes."""
    size = site.inputs[0].shape[-1]
    bits = factor_bits(op.y_inverse)
    numerator = op.y_inverse << bits
    return KernelUse(
        "softmax_int8",
        (("wide", size > SUM_LIMIT),),
        (
            *views(site),
            ("table", site.keep("table", site.inputs[1].constant())),
            ("numerator_low", numerator & 0xFFFFFFFF),
            ("numerator_high", numerator >> 32),
            ("channels", site.output.geometry[2]),
            ("size", size),
            ("right", 16 + bits - HIGH),
            ("zero", 2 * (op.y_zero + RAISED) + 1),
        ),
    )


@layer(ArgMax)
def arg_max(op: ArgMax, site: Site) -> KernelUse:
    """Values along the axis are a fixed number of elements apart, whichever axis it is."""
    x = site.inputs[0]
    axis, step, inner = _axis(x, op.axis)
    order = ("<" if op.smallest else ">") + ("=" if op.last else "")
    fields: list[tuple[str, Field]] = [
        *views(site),
        ("channels", site.output.geometry[2]),
        ("count", x.shape[op.axis]),
        ("step", step),
        *([("inner", inner)] if axis == "channels" else []),
    ]
    return KernelUse("arg_max", (("ctype", x.dtype.ctype), ("order", order), ("axis", axis)), tuple(fields))


def _axis(x: Operand, axis: int) -> tuple[str, int, int]:
    """Which axis of the geometry it is, elements from one value to the next, and elements inside it."""
    if axis in channel_axes(x.shape):
        inner = prod(x.shape[axis + 1 :])
        return "channels", inner, inner
    view = x.where()
    if axis == 0:
        return "rows", view.row_stride // x.dtype.size, 1
    return "cols", view.col_stride, 1
