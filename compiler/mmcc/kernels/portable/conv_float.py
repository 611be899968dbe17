# SPDX-License-Identifier: Apache-2.0
"""Float convolutions: weights in blocks of 8 output channels, or channels innermost where depthwise."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.float_fields import Fields, activation_fields, half_option, window_fields
from mmcc.kernels.portable.plain_layers import has_packed, plain_conv, plain_conv_transpose
from mmcc.kernels.select import Site, layer
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.window import Window

BLOCK = 8  # output channels that lie side by side in packed weights
ALIGN = 4  # of these, in float16 too: Cortex-M cores load two at a time


def pack(w: NDArray[Any], groups: int) -> NDArray[Any]:
    """[OC, ..., IC] as [group][block of OC][...][IC][8]; a group's last block is filled up with zeros."""
    per_group = w.shape[0] // groups
    blocks = -(-per_group // BLOCK)
    grouped = w.reshape(groups, per_group, *w.shape[1:])
    padding = [(0, 0), (0, blocks * BLOCK - per_group)] + [(0, 0)] * (w.ndim - 1)
    tiled = np.pad(grouped, padding).reshape(groups, blocks, BLOCK, *w.shape[1:])
    return np.ascontiguousarray(np.moveaxis(tiled, 2, -1))


def inner_columns(window: Window, in_cols: int, out_cols: int) -> tuple[int, int]:
    """The output columns, half-open, whose windows lie wholly inside the input."""
    stride, pad = window.strides[1], window.pads[1]
    reach = window.dilations[1] * (window.kernel[1] - 1)
    begin = min(-(-pad // stride), out_cols)
    last = in_cols - 1 - reach + pad  # of the window's left edge, in padded columns
    return begin, max(begin, min(out_cols, last // stride + 1))


@layer(Conv)
def conv(op: Conv, site: Site) -> KernelUse:
    """Depthwise without multiplier has a kernel of its own; all else goes by groups and blocks."""
    if not has_packed(site):
        return plain_conv(op, site)
    w = site.inputs[1].constant()
    if op.groups > 1 and w.shape[3] == 1 and w.shape[0] == op.groups:
        return _depthwise(op, site)
    option, limits = activation_fields(op.activation)
    x = site.inputs[0].where()
    rows, cols, _ = site.inputs[0].geometry
    order = op.window.columns_first
    fused = op.window.dilations[1] == 1 and x.col_stride == w.shape[3] and not order
    begin, end = inner_columns(op.window, cols, site.output.geometry[1])
    fields: Fields = (
        ("x", x),
        ("y", site.output.where()),
        ("weights", site.keep("weights", pack(w, op.groups), ALIGN)),
        ("bias", site.keep("bias", pack(site.inputs[2].constant(), op.groups))),
        *limits,
        *window_fields(op.window, rows, cols),
        ("groups", op.groups),
        ("in_channels", w.shape[3]),
        ("out_channels", w.shape[0] // op.groups),
        ("weights_row", w.shape[2] * w.shape[3] * BLOCK),
        ("weights_block", w[0].size * BLOCK),
        ("fused", int(fused)),
        ("taps", 1 if fused else w.shape[2]),
        ("run", w.shape[2] * w.shape[3] if fused else w.shape[3]),
        ("tap_step", op.window.dilations[1] * x.col_stride),
        ("inner_begin", begin),
        ("inner_end", end),
    )
    return KernelUse("conv", (option, half_option(site), ("columns_first", order)), fields)


def _depthwise(op: Conv, site: Site) -> KernelUse:
    option, limits = activation_fields(op.activation)
    w = site.inputs[1].constant()
    x = site.inputs[0].where()
    rows, cols, channels = site.inputs[0].geometry
    begin, end = inner_columns(op.window, cols, site.output.geometry[1])
    fields: Fields = (
        ("x", x),
        ("y", site.output.where()),
        ("weights", site.keep("weights", np.ascontiguousarray(w[..., 0].transpose(1, 2, 0)))),
        ("bias", site.keep("bias", site.inputs[2].constant())),
        *limits,
        *window_fields(op.window, rows, cols),
        ("channels", channels),
        ("weights_row", w.shape[2] * channels),
        ("tap_step", op.window.dilations[1] * x.col_stride),
        ("inner_begin", begin),
        ("inner_end", end),
    )
    options = (option, half_option(site), ("columns_first", op.window.columns_first))
    return KernelUse("conv_depthwise", options, fields)


@layer(ConvTranspose)
def conv_transpose(op: ConvTranspose, site: Site) -> KernelUse:
    """Of the taps that meet an input, neighbours are `taps` apart in the kernel and `back` in the input."""
    if not has_packed(site):
        return plain_conv_transpose(op, site)
    option, limits = activation_fields(op.activation)
    w = site.inputs[1].constant()
    rows, cols, _ = site.inputs[0].geometry
    (row_stride, col_stride), (row_dilation, col_dilation) = op.window.strides, op.window.dilations
    row_taps = row_stride // gcd(row_stride, row_dilation)
    col_taps = col_stride // gcd(col_stride, col_dilation)
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("weights", site.keep("weights", pack(w, op.groups), ALIGN)),
        ("bias", site.keep("bias", pack(site.inputs[2].constant(), op.groups))),
        *limits,
        *window_fields(op.window, rows, cols),
        ("groups", op.groups),
        ("in_channels", w.shape[3]),
        ("out_channels", w.shape[0] // op.groups),
        ("weights_row", w.shape[2] * w.shape[3] * BLOCK),
        ("weights_tap", w.shape[3] * BLOCK),
        ("row_taps", row_taps),
        ("col_taps", col_taps),
        ("row_back", row_taps * row_dilation // row_stride),
        ("col_back", col_taps * col_dilation // col_stride),
    )
    return KernelUse("conv_transpose", (option, half_option(site)), fields)
