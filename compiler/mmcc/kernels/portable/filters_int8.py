# SPDX-License-Identifier: Apache-2.0
"""Filters of int8 layers: what their sums may reach, how they end, and how they are packed.

The input's zero point is folded into the bias, which is exact because kernels read x_zero for samples outside
the image. Filters are interleaved in blocks, so that one pointer walks through all weights of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.kernels.epilogue import (
    Epilogue,
    Fields,
    Options,
    check_accumulator,
    epilogue,
    float_epilogue,
)
from mmcc.kernels.select import Site
from mmcc.ops.conv import ConvInt8
from mmcc.ops.conv_transpose import ConvTransposeInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat


@dataclass(frozen=True, slots=True)
class Filters:
    """Weights [OC, KH, KW, IC / groups] ready to pack, their zero point, and what becomes of sums.

    `scale` [OC, 1 to 3] is the bias of each filter; the multiplier, if the output is int8; and the fraction
    of the bias, if there is one.
    """

    w: NDArray[np.int8]
    w_zero: int
    scale: NDArray[np.int64]
    epilogue: Epilogue

    @property
    def bias(self) -> NDArray[np.int64]:
        return self.scale[:, 0]

    @property
    def multiplier(self) -> NDArray[np.int64]:
        return self.scale[:, 1]

    @property
    def plain(self) -> bool:
        """True for what all variants can: an int8 output, whole biases, the high word of a product."""
        return self.epilogue.form in ("high", "left") and self.scale.shape[1] == 2

    @property
    def options(self) -> Options:
        return (*self.epilogue.options, ("w_zero", self.w_zero != 0))

    @property
    def fields(self) -> Fields:
        return (*self.epilogue.fields, *((("w_zero", self.w_zero),) if self.w_zero else ()))


Integer = ConvInt8 | DenseInt8 | ConvTransposeInt8
ToFloat = ConvInt8ToFloat | DenseInt8ToFloat | ConvTransposeInt8ToFloat


def filters_of(site: Site, op: Integer | ToFloat, *, fold: bool = True) -> Filters:
    """The filters of a node, x_zero folded into their biases unless `fold` is False.

    Weights whose zero point fits are shifted to zero point 0.
    """
    w, b, *each = (operand.constant() for operand in site.inputs[1:])
    w_zero, x_zero = op.w_zero, op.x_zero
    wide = w.astype(np.int64) - w_zero
    if w_zero and np.abs(wide).max(initial=0) <= 127:
        w, w_zero = wide.astype(np.int8), 0
    bits = 0 if isinstance(op, ToFloat) else op.bias_bits
    axes = tuple(range(1, w.ndim))
    whole = b.astype(np.int64) >> bits
    bias = whole - (x_zero * wide.sum(axes) if fold else 0)
    taps = int(np.prod(w.shape[1:]))
    exact = np.abs(wide).sum(axes) * max(127 - x_zero, x_zero + 128) + np.abs(whole) + (bits > 0)
    partial = np.abs(bias) + 128 * np.abs(w.astype(np.int64)).sum(axes) + abs(w_zero) * 128 * taps
    bound = int(exact.max(initial=0)) << bits
    check_accumulator(max(bound, int(partial.max(initial=0))), site)
    if isinstance(op, ToFloat):
        return Filters(w, w_zero, bias[:, None], float_epilogue(each[0], each[1], op.activation))
    end = epilogue(bound, each[0], each[1], op.y_zero, (op.low, op.high), bits)
    scale = [bias, each[0].astype(np.int64)]
    if bits:
        scale.append((b.astype(np.int64) - (whole << bits)) << (end.left - bits))
    return Filters(w, w_zero, np.stack(scale, 1), end)


def interleave(per_filter: NDArray[Any], groups: int, block: int) -> NDArray[Any]:
    """[OC, ...] as [groups, blocks, ..., block], each group's filters padded with zeros to whole blocks."""
    size = per_filter.shape[0] // groups
    blocks = -(-size // block)
    padded = np.zeros((groups, blocks * block, *per_filter.shape[1:]), per_filter.dtype)
    padded[:, :size] = per_filter.reshape(groups, size, *per_filter.shape[1:])
    return np.moveaxis(padded.reshape(groups, blocks, block, *per_filter.shape[1:]), 2, -1)


def packed(site: Site, filters: Filters, groups: int, block: int) -> Fields:
    """Weights in blocks of filters, and what each filter's sum ends with, padded to whole blocks."""
    weights = site.keep("weights", np.ascontiguousarray(interleave(filters.w, groups, block)))
    return (("weights", weights), *ends(site, filters, groups, block))


def ends(site: Site, filters: Filters, groups: int, block: int) -> Fields:
    """What each filter's sum ends with, padded to whole blocks."""
    arrays = {
        "scale": np.moveaxis(interleave(filters.scale.astype(np.int32), groups, block), -1, 2),
        "tail": _beside(interleave(filters.epilogue.tail, groups, block)),
    }
    return tuple((name, site.keep(name, np.ascontiguousarray(array))) for name, array in arrays.items())


def _beside(tail: NDArray[Any]) -> NDArray[Any]:
    """[groups, blocks, 2, block] with each filter's two numbers side by side; shifts as they are."""
    return np.moveaxis(tail, -1, 2) if tail.ndim == 4 else tail
