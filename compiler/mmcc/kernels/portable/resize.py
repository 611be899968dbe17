# SPDX-License-Identifier: Apache-2.0
"""Linear and cubic resizing in float, linear in int8; nearest is a look-up (movement.py)."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields
from mmcc.kernels.select import Site, layer
from mmcc.ops.resize import ROW_BITS, ResizeInt8, ResizeLinear


@layer(ResizeLinear)
def resize_linear(op: ResizeLinear, site: Site) -> KernelUse:
    """First taps as tables, weights as they are."""
    return KernelUse("resize_linear", (("taps", op.taps),), _fields(op, site))


@layer(ResizeInt8)
def resize_int8(op: ResizeInt8, site: Site) -> KernelUse:
    """First taps and weights as tables of integers; sums have 64 bits."""
    numbers: Fields = (
        ("x_zero", op.x_zero),
        ("y_zero", op.y_zero),
        ("shift", op.shift),
        ("low", op.low),
        ("high", op.high),
    )
    return KernelUse("resize_int8", (("row_bits", ROW_BITS),), (*_fields(op, site), *numbers))


def _fields(op: ResizeLinear | ResizeInt8, site: Site) -> Fields:
    rows, cols, channels = site.inputs[0].geometry
    return (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("row_first", site.keep("row_first", np.array(op.row_first, np.int32))),
        ("col_first", site.keep("col_first", np.array(op.col_first, np.int32))),
        ("row_weights", site.keep("row_weights", site.inputs[1].constant())),
        ("col_weights", site.keep("col_weights", site.inputs[2].constant())),
        ("last_row", rows - 1),
        ("last_col", cols - 1),
        ("channels", channels),
    )
