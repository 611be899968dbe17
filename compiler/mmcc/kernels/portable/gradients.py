# SPDX-License-Identifier: Apache-2.0
"""Gradients of weights, pools, functions of one operand, and of the cross entropy; float."""

from __future__ import annotations

from math import gcd, prod

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.ir.types import geometry
from mmcc.kernels.portable.float_fields import Fields, window_fields
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.kernels.window import row_bound
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.clamp_bits import BitsGradient, ClampBits
from mmcc.ops.conv_gradient import POINT, WeightGradient
from mmcc.ops.elementwise_gradient import UnaryGradient
from mmcc.ops.loss import CrossEntropy, CrossEntropyGradient
from mmcc.ops.pool_arg_max import BYTE, PoolArgMax, PoolByArgMax, PoolByArgMaxGradient, bits_of
from mmcc.ops.pool_gradient import AveragePoolGradient, MaxPoolGradient
from mmcc.ops.window import Window


@layer(WeightGradient)
def weight_gradient(op: WeightGradient, site: Site, *, by_rows: bool = False) -> KernelUse:
    """A dense layer is a convolution of one tap over rows of one pixel.

    A row is a filter; with `by_rows` it is one of the gradient, that is added to the sums.
    """
    rows, cols, channels = site.inputs[0].geometry
    out_rows, out_cols, filters = site.inputs[1].geometry
    more = {"": 0, "sum": 1, "step": 2}[op.into]
    fields: Fields = (
        ("x", source_view(site, 0)),
        ("x1", source_view(site, 1)),
        *((f"x{k}", source_view(site, k)) for k in range(2, 2 + more)),
        ("y", site.output.where()),
        *window_fields(op.window or POINT, rows, cols),
        ("out_rows", out_rows),
        ("out_cols", out_cols),
        ("in_channels", channels // op.groups),
        ("out_channels", filters // op.groups),
        *((("decay", float(op.decay)),) if op.into else ()),
    )
    if by_rows:
        fields = (*fields, ("filters", filters))
    return KernelUse("weight_gradient", (("into", op.into), ("by_rows", by_rows)), fields, origins=2 + more)


@layer(BiasGradient)
def bias_gradient(op: BiasGradient, site: Site, *, by_rows: bool = False) -> KernelUse:
    """All rows of the gradient in a call, or with `by_rows` those that are asked for."""
    rows, cols, channels = site.inputs[0].geometry
    fields: Fields = (
        ("x", site.inputs[0].where()),
        *((("x1", source_view(site, 1)),) if op.into else ()),
        ("y", site.output.where()),
        ("cols", cols),
        ("channels", channels),
        *((("decay", float(op.decay)),) if op.into else ()),
    )
    fields = fields if by_rows else (*fields, ("rows", rows))
    options = (("into", op.into), ("by_rows", by_rows))
    return KernelUse("bias_gradient", options, fields, origins=2 if op.into else 1)


@layer(UnaryGradient)
def unary_gradient(op: UnaryGradient, site: Site) -> KernelUse:
    """One kernel a function and way of repeating the gradient's channels."""
    return KernelUse(
        "unary_gradient",
        (("function", op.function), ("channel_stride", site.channel_stride(0))),
        (
            ("x", site.read(0)),
            ("x1", site.read(1)),
            ("y", site.output.where()),
            ("channels", site.output.geometry[2]),
            *((f"p{k}", float(value)) for k, value in enumerate(op.parameters)),
        ),
    )


@layer(ClampBits)
def clamp_bits(op: ClampBits, site: Site) -> KernelUse:
    """A pixel's elements are packed by themselves."""
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("channels", site.inputs[0].geometry[2]),
        ("low", float(op.above)),
        ("high", float(op.below)),
    )
    return KernelUse("clamp_bits", (), fields)


@layer(BitsGradient)
def bits_gradient(op: BitsGradient, site: Site) -> KernelUse:
    """One kernel a way of repeating the gradient's channels."""
    fields: Fields = (
        ("x", site.read(0)),
        ("x1", site.inputs[1].where()),
        ("y", site.output.where()),
        ("channels", op.channels),
    )
    return KernelUse("bits_gradient", (("channel_stride", site.channel_stride(0)),), fields)


@layer(MaxPoolGradient)
def max_pool_gradient(op: MaxPoolGradient, site: Site) -> KernelUse:
    """Of each window that covers an element the taps are compared again."""
    rows, cols, channels = site.inputs[1].geometry
    return KernelUse(
        "max_pool_gradient",
        (),
        (
            ("x", site.inputs[0].where()),
            ("x1", site.inputs[1].where()),
            ("y", site.output.where()),
            *window_fields(op.window, rows, cols),
            ("out_rows", site.inputs[0].geometry[0]),
            ("out_cols", site.inputs[0].geometry[1]),
            ("channels", channels),
        ),
    )


def _tap_options(window: Window) -> tuple[tuple[str, int], ...]:
    bits = bits_of(window)
    return ("bits", bits), ("fields", BYTE // bits)


@layer(PoolArgMax)
def pool_arg_max(op: PoolArgMax, site: Site) -> KernelUse:
    """One kernel a count of bits, and of rows of a window."""
    rows, cols, channels = site.inputs[0].geometry
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        *window_fields(op.window, rows, cols),
        ("channels", channels),
    )
    options = (*_tap_options(op.window), ("rows", row_bound(op.window.kernel[0])))
    return KernelUse("pool_arg_max", options, fields)


@layer(PoolByArgMax)
def pool_by_arg_max(op: PoolByArgMax, site: Site) -> KernelUse:
    """One kernel a count of bits."""
    rows, cols, channels = site.inputs[0].geometry
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("x1", site.inputs[1].where()),
        ("y", site.output.where()),
        *window_fields(op.window, rows, cols),
        ("channels", channels),
    )
    return KernelUse("pool_by_arg_max", _tap_options(op.window), fields)


@layer(PoolByArgMaxGradient)
def pool_by_arg_max_gradient(op: PoolByArgMaxGradient, site: Site) -> KernelUse:
    """One kernel a count of bits, and of windows that an element may be in."""
    rows, cols, channels = site.output.geometry
    out_rows, out_cols, _ = site.inputs[0].geometry
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("x1", site.inputs[1].where()),
        ("y", site.output.where()),
        *window_fields(op.window, rows, cols),
        ("out_rows", out_rows),
        ("out_cols", out_cols),
        ("channels", channels),
    )
    options = (*_tap_options(op.window), ("windows", _windows_of_an_element(op.window)))
    return KernelUse("pool_by_arg_max_gradient", options, fields)


def _windows_of_an_element(window: Window) -> int:
    """The most windows that any element is in: along an axis every few taps begin one."""
    apart = zip(window.kernel, window.strides, window.dilations, strict=True)
    return prod(-(-kernel // (stride // gcd(stride, dilation))) for kernel, stride, dilation in apart)


@layer(AveragePoolGradient)
def average_pool_gradient(op: AveragePoolGradient, site: Site) -> KernelUse:
    """The share of one tap of each window is a table."""
    rows, cols, channels = site.output.geometry
    shares = (1.0 / op.counts(channels)).astype(np.float32)
    return KernelUse(
        "average_pool_gradient",
        (),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("shares", site.keep("shares", shares)),
            *window_fields(op.window, rows, cols),
            ("out_rows", site.inputs[0].geometry[0]),
            ("out_cols", site.inputs[0].geometry[1]),
            ("channels", channels),
        ),
    )


@layer(CrossEntropy, CrossEntropyGradient)
def cross_entropy(op: CrossEntropy | CrossEntropyGradient, site: Site) -> KernelUse:
    """A pixel holds one line, or several where the tensor has more than three axes."""
    logits = site.inputs[0].shape
    rows, cols, channels = geometry(logits)
    lines = channels // logits[-1]
    return KernelUse(
        op.kernel,
        (),
        (
            ("x", site.inputs[0].where()),
            ("x1", site.inputs[1].where()),
            ("y", site.output.where()),
            *((("in_rows", rows), ("in_cols", cols)) if isinstance(op, CrossEntropy) else ()),
            ("length", logits[-1]),
            ("lines", lines),
            ("count", float(rows * cols * lines)),
        ),
    )
