# SPDX-License-Identifier: Apache-2.0
"""Which convolutions take fewer products by Winograd's F(2x2, 3x3): 16 for four outputs instead of 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). Asked of a layer alone, whatever
plan it is in: its sums are of another order, so one that were made so in some plans would have other bits.
"""

from __future__ import annotations

from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Tensor
from mmcc.ops.conv import Conv
from mmcc.ops.window import Window

POSITIONS = 16  # of a tile of 4x4 inputs: products of its four outputs, for each channel
PLAIN = 36  # products of four outputs, window by window
MORE = 1.3  # times the products, what tiles of few filters take besides
PIECE = 16  # channels that are gone over together
_3X3 = Window((3, 3))


def in_tiles(op: Conv, x: Tensor, w: Tensor, y: Tensor) -> bool:
    """True of float layers of 3x3 and stride 1, of whose tiles not too much is beyond the image."""
    floats = x.dtype == w.dtype == ElementType.F32
    window = (op.window.kernel, op.window.strides, op.window.dilations)
    known = window == (_3X3.kernel, _3X3.strides, _3X3.dilations) and op.groups == 1
    return floats and known and x.shape[-1] % PIECE == 0 and _full(*y.shape[-3:-1])


def _full(rows: int, cols: int) -> bool:
    tiles = -(-rows // 2) * -(-cols // 2)
    return MORE * POSITIONS * tiles < PLAIN / 4 * rows * cols
