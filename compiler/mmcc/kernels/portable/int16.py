# SPDX-License-Identifier: Apache-2.0
"""16x8: convolutions, dense layers and elementwise operators on integers of 16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.select import Site, layer
from mmcc.kernels.window import row_bound, views, window_fields
from mmcc.ops.int16 import LEAST, MOST, AddInt16, ConvInt16, DenseInt16, MulInt16, RescaleInt16
from mmcc.ops.piecewise import PiecewiseInt16

HIGH = 33  # a shift of so many and more takes only the high word of the product
MOST_LEFT = 15  # bits that an integer of 16 may be shifted left
MOST_TAPS = 32  # of a depthwise window whose taps are listed on the stack


def scales(op: ConvInt16 | DenseInt16, site: Site) -> tuple[NDArray[np.int32], Options, Fields]:
    """For each filter its bias, multiplier and shift; how they are applied, and with which bounds.

    A sum is shifted left first where that makes all shifts large enough for the short form.
    """
    w, bias, multiplier, shift = (operand.constant().astype(np.int64) for operand in site.inputs[1:])
    bound = int((np.abs(w).reshape(len(w), -1).sum(1) * -LEAST + np.abs(bias)).max())
    left = max(0, HIGH - int(shift.min()))
    high = bound << left < 2**31
    shown = shift + left - HIGH if high else shift
    end = np.stack([bias, multiplier, shown], 1).astype(np.int32)
    bounds = {(LEAST, MOST): "all", (0, MOST): "positive"}.get((op.low, op.high), "others")
    options = (("high", high), ("left", high and left > 0), ("bounds", bounds))
    limits = (("low", op.low), ("high", op.high)) if bounds == "others" else ()
    fields: Fields = (*limits, *((("left", left),) if high and left else ()))
    return end, options, fields


def geometry_fields(op: ConvInt16 | DenseInt16, site: Site) -> Fields:
    """The window over the image; a dense layer has one of a pixel over images one pixel wide."""
    if isinstance(op, ConvInt16):
        kh, kw = op.window.kernel
        return (*window_fields(site, op.window), ("kernel_rows", kh), ("kernel_cols", kw))
    rows, cols, _ = site.inputs[0].geometry
    image = (("height", rows), ("width", cols), ("top", 0), ("left_pad", 0), ("stride_rows", 1))
    return (
        *image,
        ("stride_cols", 1),
        ("dilation_rows", 1),
        ("dilation_cols", 1),
        ("kernel_rows", 1),
        ("kernel_cols", 1),
    )


@layer(ConvInt16, DenseInt16)
def conv_int16(op: ConvInt16 | DenseInt16, site: Site) -> KernelUse:
    """Pixel by pixel; depthwise windows with all channels of a tap side by side."""
    end, options, fields = scales(op, site)
    w, groups = site.inputs[1].constant(), getattr(op, "groups", 1)
    kh, kw = op.window.kernel if isinstance(op, ConvInt16) else (1, 1)
    depthwise = groups > 1 and groups == len(w) and w.shape[-1] == 1 and kh * kw <= MOST_TAPS
    packed = np.ascontiguousarray(w.reshape(len(w), -1).T) if depthwise else w
    return KernelUse(
        "conv_int16",
        (
            *options,
            ("rows", row_bound(kh)),
            ("depthwise", depthwise),
            ("taps", MOST_TAPS if depthwise else 0),
        ),
        (
            *views(site),
            ("weights", site.keep("weights", packed)),
            ("scale", site.keep("scale", end)),
            *geometry_fields(op, site),
            ("depth", w.shape[-1]),
            ("filters", len(w) // groups),
            ("groups", groups),
            *fields,
        ),
    )


@layer(AddInt16, MulInt16, RescaleInt16)
def elementwise_int16(op: AddInt16 | MulInt16 | RescaleInt16, site: Site) -> KernelUse:
    """One rounding an element: of the high word, if operands can be shifted left for it, else of 64 bits."""
    kind = {AddInt16: "add", MulInt16: "mul", RescaleInt16: "rescale"}[type(op)]
    multipliers = op.multipliers if isinstance(op, AddInt16) else (op.multiplier,)
    left = max(0, HIGH - op.shift)
    high = left <= (0 if isinstance(op, MulInt16) else MOST_LEFT)
    names = ("a", "b")[: len(site.inputs)]
    same = isinstance(op, RescaleInt16) and (op.multiplier, op.shift) == (2**30, 30)
    return KernelUse(
        "elementwise_int16",
        (
            ("kind", "clamp" if same else kind),
            ("high", high and not same),
            ("left", high and left > 0 and not same),
            *((f"{name}_channel_stride", site.channel_stride(k)) for k, name in enumerate(names)),
        ),
        (
            *((name, site.read(k)) for k, name in enumerate(names)),
            ("y", site.output.where()),
            ("channels", site.output.geometry[2]),
            *((f"multiplier{k}", m) for k, m in enumerate(() if same else multipliers)),
            *(() if same else (("shift", op.shift + left - HIGH if high else op.shift),)),
            *((("left", left),) if high and left and not same else ()),
            ("low", op.low),
            ("high", op.high),
        ),
    )


@layer(PiecewiseInt16)
def piecewise_int16(op: PiecewiseInt16, site: Site) -> KernelUse:
    """The piece by the high byte, then one after the other; three products an element.

    In a piece of one element there is nothing to shift, and C has no shift by 32.
    """
    first, last, bits, coefficients = (operand.constant() for operand in site.inputs[1:])
    return KernelUse(
        "piecewise_int16",
        (),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("coefficients", site.keep("coefficients", coefficients)),
            ("last", site.keep("last", last)),
            ("first", site.keep("first", first)),
            ("shifts", site.keep("shifts", (32 - np.maximum(bits, 1)).astype(np.uint8))),
            ("channels", site.output.geometry[2]),
            ("low", op.low),
            ("high", op.high),
        ),
    )
