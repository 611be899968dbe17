# SPDX-License-Identifier: Apache-2.0
"""Layers in integers as sums of products: their ranges, and which taps are beside the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.types import Shape
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.window import Window
from mmcc.passes.dead_channels.values import Range, requantized

Array = NDArray[Any]
Layer = ConvInt8 | ConvInt8ToFloat | DenseInt8 | DenseInt8ToFloat
AT_ONCE = 1 << 22  # weights whose products are held at a time


def taps_beside(window: Window, x: Shape) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """By tap [KH, KW]: whether it is ever in an image [H, W, C], and whether it is ever beside it."""
    size = window.output(x)
    ever: list[tuple[Any, Any]] = []
    for axis in (0, 1):
        start = np.arange(size[axis]) * window.strides[axis] - window.pads[axis]
        at = start[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside = (at >= 0) & (at < x[axis])
        ever.append((inside.any(0), (~inside).any(0)))
    (row_in, row_out), (col_in, col_out) = ever
    return row_in[:, None] & col_in, row_out[:, None] | col_out


def taps_of(op: Layer, x: Shape) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """As `taps_beside`, of any layer; a dense layer has one tap, which is never beside."""
    if isinstance(op, (ConvInt8, ConvInt8ToFloat)):
        return taps_beside(op.window, x)
    return np.ones((1, 1), bool), np.zeros((1, 1), bool)


def centred(op: Layer, w: Array) -> NDArray[np.int64]:
    """Weights less their zero point, as [OC, KH, KW, IC / groups]."""
    wide = w.astype(np.int64) - op.w_zero
    return wide if w.ndim == 4 else wide[:, None, None, :]


def layer_range(op: ConvInt8 | DenseInt8, x: Shape, found: Range, constants: list[Array]) -> Range:
    """A layer's range: each product is least and largest at an end of its channel's range.

    A tap that is beside the image for some outputs adds nothing to these.
    """
    w, b, multiplier, shift = constants
    groups = op.groups if isinstance(op, ConvInt8) else 1
    inside, beside = (taps[None, :, :, None] for taps in taps_of(op, x))
    outputs, each = len(w), w.shape[-1]
    step = max(1, AT_ONCE // max(1, w[0].size))
    sums: list[list[Array]] = [[], []]
    for first in range(0, outputs, step):
        weights = centred(op, w[first : first + step])
        group: Array = np.arange(first, first + len(weights), dtype=np.int64) // (outputs // groups)
        channels: Array = group[:, None] * each + np.arange(each, dtype=np.int64)
        ends = [weights * (end[channels] - op.x_zero)[:, None, None, :] for end in (found.low, found.high)]
        for total, pick in zip(sums, (np.minimum, np.maximum), strict=True):
            products = np.where(inside, pick(*ends), 0)
            total.append(np.where(beside, pick(products, 0), products).sum((1, 2, 3)))
    total = [(np.concatenate(parts) << op.bias_bits) + b for parts in sums]
    return requantized(op, [(end, multiplier, shift) for end in total])
