# SPDX-License-Identifier: Apache-2.0
"""Convolutions of 3x3 by Winograd's F(2x2, 3x3), in integers: the same sums with 16 products instead of 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), with 2G in place of G: filters of
integers, four times as large. So are the sums, which requantization takes into account by its shift: no bit
differs from the plain sum's. Filters are transformed at compile time, to 16 halfwords for 9 bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.filters import Scales, filters_of, scales_of
from mmcc.kernels.select import Site
from mmcc.kernels.window import window_fields
from mmcc.ops.conv import ConvInt8

TEMPLATE = "conv_winograd"
FILTER = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])  # 2G
BITS = 2  # by which sums are larger
POSITIONS = 16  # of a tile of 4x4 inputs
QUAD = 8  # columns of outputs that four tiles make
SUMS = 512  # bytes of a quad's sums of two filters
COLUMNS = 32  # bytes a channel of the columns of a tile, which lie where sums come to later
PAIRS = (8, 4, 2)  # of channels, multiplied at a time
# Cycles of a Cortex-M4, as modelled: of a quad, two filters and a position; of a pair of channels there; of
# an output; of an input channel of a tile
BLOCK, PAIR, OUTPUT, INPUT = 30, 16, 21, 55
# of four pixels together: of a product and an output; and what a byte of flash that is read costs both
PRODUCT, RESULT, FLASH = 1.12, 10, 0.5


def winograd(op: ConvInt8, site: Site) -> KernelUse | None:
    """The kernel, if it can make the layer and was lent enough memory; in calls for the whole image."""
    depth = site.inputs[0].shape[2]
    if not site.alone or site.room < work_bytes(site) or not _fits(op, depth):
        return None
    if site.backward and site.output.where().col_stride != site.output.shape[2]:
        return None  # a row that is kept lies as the output does
    found = _scales(op, site)
    if found is None:
        return None
    wide, scales = found
    ends = np.stack((scales.bias, scales.multiplier), 1)
    pairs = "once" if depth == 2 * PAIRS[0] else next(p for p in PAIRS if depth // 2 % p == 0)
    return KernelUse(
        TEMPLATE,
        (*scales.options, ("pairs", pairs)),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("work", site.work()),
            ("pad", site.keep("pad", np.full(depth, op.x_zero, np.int8).view(np.int32))),
            ("weights", site.keep("weights", transformed(wide), 4)),
            ("scale", site.keep("scale", (ends & 0xFFFFFFFF).astype(np.uint32).view(np.int32))),
            ("shift", site.keep("shift", scales.right)),
            *scales.fields,
            *window_fields(site, op.window),
            ("depth", depth),
            ("filters", len(wide)),
            ("last", site.output.shape[0] - 1),
            ("sums", _sums(site) // 4),
            ("backward", int(site.backward)),
        ),
    )


def _fits(op: ConvInt8, depth: int) -> bool:
    window = op.window
    shape = (window.kernel, window.strides, window.dilations) == ((3, 3), (1, 1), (1, 1))
    return shape and op.groups == 1 and depth % 4 == 0


def _scales(op: ConvInt8, site: Site) -> tuple[NDArray[np.int64], Scales] | None:
    """Filters [OC, 3, 3, IC], and what requantizes sums; None where these, four times as large, may not be
    within 32 bits. They may wrap on the way."""
    filters = filters_of(op, site)
    more = BITS - filters.bits
    if more < 0 or int(filters.bound.max(initial=0)) << more >= 2**31:
        return None
    scales = scales_of(op, filters, filters.bias << more, more)
    wide = filters.wide.reshape(len(filters.wide), *op.window.kernel, -1)
    return None if scales is None else (wide, scales)


def transformed(wide: NDArray[np.int64]) -> NDArray[np.int16]:
    """Filters [OC, 3, 3, IC] as [pair of filters, position, pair of channels, filter, 2] halfwords.

    Channels are paired as bytes of a word are widened: 0 with 2, 1 with 3.
    """
    made = np.einsum("ai,bj,oijc->oabc", FILTER, FILTER, wide)
    filters, depth = len(made), made.shape[-1]
    made = np.pad(made, ((0, filters % 2), (0, 0), (0, 0), (0, 0)))
    by_pair = made.reshape(-1, 2, POSITIONS, depth // 4, 2, 2).transpose(0, 2, 3, 5, 1, 4)
    return np.ascontiguousarray(by_pair.reshape(-1, POSITIONS, depth // 2, 2, 2)).astype(np.int16)


def work_bytes(site: Site) -> int:
    """Bytes that the kernel works in: values of two rows' tiles, sums, and a row of outputs."""
    (_, cols, filters), depth = site.output.shape, site.inputs[0].shape[2]
    return POSITIONS * 4 * 2 * depth * -(-cols // QUAD) + _sums(site) + -(-cols * filters // 4) * 4


def _sums(site: Site) -> int:
    return max(SUMS * -(-site.output.shape[1] // QUAD), COLUMNS * site.inputs[0].shape[2])


def saves(site: Site) -> int:
    """Cycles that it saves in a run on a Cortex-M4 over four pixels together, by what was modelled."""
    (rows, cols, filters), depth = site.output.shape, site.inputs[0].shape[2]
    quads, tile_rows = -(-cols // QUAD), -(-rows // 2)
    outputs = rows * cols * filters
    plain = outputs * (PRODUCT * 9 * depth + RESULT + FLASH * 9 * depth / 4)
    blocks = tile_rows * quads * -(-filters // 2) * POSITIONS
    made = blocks * (BLOCK + PAIR * depth / 2) + OUTPUT * outputs + INPUT * depth * tile_rows * -(-cols // 2)
    return int(plain - made - tile_rows * FLASH * 2 * POSITIONS * depth * filters)
