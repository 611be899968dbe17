# SPDX-License-Identifier: Apache-2.0
"""Float convolutions on vectors of x86-64 and AArch64: sixteen filters or channels side by side.

Layers whose operands are all float16 (`--fp16-math`) are made by the same kernels, dense ones too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.bands import band
from mmcc.kernels.portable.float_fields import activation_fields, half_option, window_fields
from mmcc.kernels.portable.plain_layers import has_packed
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.simd.conv_int8 import BLOCK, SPAN_LIMIT, VARIANT
from mmcc.kernels.window import row_bound
from mmcc.ops.activation import Activation
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import POINT
from mmcc.ops.dense import Dense
from mmcc.ops.half_layers import DEPTHWISE_LIMIT, LEAST_FILTERS, TAP_LIMIT, sums_in_halves
from mmcc.ops.window import Window

Fields = tuple[tuple[str, Field], ...]
GATHERED_DEPTH = 3  # channels of images whose windows are gathered, if they have fewer
PATCH_LIMIT = 128  # values of a window that may be gathered on the stack
NEIGHBOURS = 5  # outputs of a depthwise tile


def _pack(per_filter: NDArray[Any]) -> NDArray[Any]:
    """[OC, ...] as [block][...][16], the last block filled up with zeros."""
    blocks = -(-per_filter.shape[0] // BLOCK)
    padded = np.zeros((blocks * BLOCK, *per_filter.shape[1:]), per_filter.dtype)
    padded[: per_filter.shape[0]] = per_filter
    return np.ascontiguousarray(np.moveaxis(padded.reshape(blocks, BLOCK, *per_filter.shape[1:]), 1, -1))


@variant_layer(VARIANT, Conv)
def conv(op: Conv, site: Site) -> KernelUse | None:
    """Groups other than depthwise, few filters, and sums by columns go the common way."""
    known = site.inputs[0].dtype == ElementType.F32 or _all_halves(op, site)
    if not known or not has_packed(site) or op.window.columns_first:
        return None
    w, (kh, kw) = site.inputs[1].constant(), op.window.kernel
    if op.groups > 1:
        whole = w.shape[3] == 1 and w.shape[0] == op.groups >= BLOCK
        return _depthwise(op, site) if whole and max(kh, kw) <= DEPTHWISE_LIMIT else None
    if w.shape[0] < LEAST_FILTERS or kh * kw > TAP_LIMIT:
        return None
    return _tiles(site, op.window, w, op.activation)


@variant_layer(VARIANT, Dense)
def dense(op: Dense, site: Site) -> KernelUse | None:
    """A convolution of one tap over rows of one pixel, if all is float16; others go the common way."""
    if not _all_halves(op, site) or not has_packed(site):
        return None
    w = site.inputs[1].constant()
    return _tiles(site, POINT, w.reshape(len(w), 1, 1, -1), op.activation)


def _all_halves(op: Conv | Dense, site: Site) -> bool:
    """True of a layer whose sums may be float16."""
    return sums_in_halves(op, site.inputs[0].dtype)


def _fp16_option(site: Site) -> tuple[str, bool]:
    """Option of a layer whose values are all float16."""
    return "fp16", site.inputs[0].dtype == ElementType.F16


def _tiles(site: Site, window: Window, w: NDArray[Any], activation: Activation | None) -> KernelUse:
    """Weights [OC, KH, KW, IC] in blocks of 16 filters."""
    kh, kw = window.kernel
    x, depth = site.inputs[0].where(), w.shape[3]
    rows, cols, _ = site.inputs[0].geometry
    option, limits = activation_fields(activation)
    point = (kh, kw) == (1, 1) and not any(window.pads)
    patch = kh * kw * depth if depth < GATHERED_DEPTH and kh * kw * depth <= PATCH_LIMIT and not point else 0
    joined = kw * depth if window.dilations[1] == 1 and x.col_stride == depth else 0
    pad = site.keep("pad", np.zeros((max(joined, depth),), site.inputs[0].dtype.numpy))
    fields: Fields = (
        ("x", x),
        ("y", site.output.where()),
        *(() if patch else (("band", band(site, w.nbytes)),)),
        ("weights", site.keep("weights", _pack(w))),
        ("bias", site.keep("bias", _pack(site.inputs[2].constant()))),
        *(() if point or patch else (("pad", pad),)),
        *limits,
        *window_fields(window, rows, cols),
        ("in_channels", depth),
        ("out_channels", w.shape[0]),
        ("blocks", -(-w.shape[0] // BLOCK)),
        ("block_weights", BLOCK * w[0].size),
        ("joined", joined),
    )
    bounds = (("rows", kh if patch else row_bound(kh)), ("taps", row_bound(kh) * row_bound(kw)))
    options = (option, half_option(site), _fp16_option(site), ("point", point), ("patch", patch), *bounds)
    return KernelUse("simd_conv_float", options, fields)


def _outputs(site: Site, window: Window) -> tuple[int, ...]:
    """How many neighbours a tile may have."""
    reach = (window.kernel[1] - 1) * window.dilations[1] + 1
    room = max(1, min(NEIGHBOURS, 1 + (SPAN_LIMIT - reach) // window.strides[1]))
    return tuple(range(min(room, site.output.shape[1]), 0, -1))


def _depthwise(op: Conv, site: Site) -> KernelUse:
    """Weights as [kh][kw][channels]."""
    w, x, window = site.inputs[1].constant(), site.inputs[0].where(), op.window
    rows, cols, channels = site.inputs[0].geometry
    option, limits = activation_fields(op.activation)
    fields: Fields = (
        ("x", x),
        ("y", site.output.where()),
        ("weights", site.keep("weights", np.ascontiguousarray(w[..., 0].transpose(1, 2, 0)))),
        ("bias", site.keep("bias", site.inputs[2].constant())),
        ("pad", site.keep("pad", np.zeros((channels,), site.inputs[0].dtype.numpy))),
        *limits,
        *window_fields(window, rows, cols),
        ("channels", channels),
    )
    options = (
        option,
        half_option(site),
        _fp16_option(site),
        ("rows", window.kernel[0]),
        ("cols", window.kernel[1]),
        ("stride", window.strides[1]),
        ("dilation", window.dilations[1] if window.kernel[1] > 1 else 1),
        ("outputs", _outputs(site, window)),
    )
    return KernelUse("simd_depthwise_float", options, fields)
