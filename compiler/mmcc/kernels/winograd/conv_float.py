# SPDX-License-Identifier: Apache-2.0
"""Float convolutions of 3x3 by Winograd's F(2x2, 3x3), which ops/winograd.py says more of.

Each output is a sum of what its window holds and of nothing else, so rows and strips may be made one by one
as by plain sums, to the same bits. Values and sums of a few tiles lie on the stack, for some channels and
filters at a time (`PIECE` is MMCC_WINOGRAD_DEPTH of runtime_c/mmcc_winograd.h, `BLOCKS` is
MMCC_WINOGRAD_BLOCKS there).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.bands import band
from mmcc.kernels.portable.float_fields import activation_fields
from mmcc.kernels.portable.plain_layers import has_packed
from mmcc.kernels.select import Site, variant_layer
from mmcc.ops.conv import Conv
from mmcc.ops.winograd import PIECE, POSITIONS, in_tiles

VARIANT = "winograd"
TEMPLATE = "conv_winograd_float"
BLOCK = 16  # filters whose weights lie side by side
BLOCKS = 4  # of filters, whose sums begin with the zeros of `pad`
FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # G


@variant_layer(VARIANT, Conv)
def conv(op: Conv, site: Site) -> KernelUse | None:
    """Layers whose weights are constant."""
    x, w = site.inputs[0].tensor, site.inputs[1].tensor
    if not has_packed(site) or not in_tiles(op, x, w, site.output.tensor):
        return None
    filters, (rows, cols, depth) = site.inputs[1].constant(), site.inputs[0].geometry
    option, limits = activation_fields(op.activation)
    blocks = -(-len(filters) // BLOCK)
    bias = np.zeros(blocks * BLOCK, np.float32)
    bias[: len(filters)] = site.inputs[2].constant()
    packed = transformed(filters.transpose(0, 2, 1, 3) if op.window.columns_first else filters)
    return KernelUse(
        TEMPLATE,
        (option, ("turned", op.window.columns_first)),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("band", _pairs(band(site, packed.nbytes))),
            ("weights", site.keep("weights", packed)),
            ("bias", site.keep("bias", bias)),
            ("pad", site.keep("pad", np.zeros(max(depth, BLOCKS * BLOCK), np.float32))),
            *limits,
            ("in_rows", rows),
            ("in_cols", cols),
            ("pad_top", op.window.pads[0]),
            ("pad_left", op.window.pads[1]),
            ("in_channels", depth),
            ("out_channels", len(filters)),
            ("blocks", blocks),
        ),
    )


def _pairs(rows: int) -> int:
    """Rows of a band, which tiles have two of."""
    return max(rows // 2 * 2, min(rows, 2))


def transformed(w: NDArray[Any]) -> NDArray[np.float32]:
    """Filters [OC, 3, 3, IC] as [block of filters][piece of channels][position][channel][16].

    Each is rounded once, so it does not depend on an order.
    """
    filters, depth = w.shape[0], w.shape[-1]
    made = np.einsum("ai,bj,oijc->oabc", FILTER, FILTER, w.astype(np.float64)).astype(np.float32)
    made = np.pad(made, ((0, -filters % BLOCK), (0, 0), (0, 0), (0, 0)))
    by_block = made.reshape(-1, BLOCK, POSITIONS, depth).transpose(0, 2, 3, 1)
    by_piece = by_block.reshape(len(by_block), POSITIONS, depth // PIECE, PIECE, BLOCK).swapaxes(1, 2)
    return np.ascontiguousarray(by_piece)
