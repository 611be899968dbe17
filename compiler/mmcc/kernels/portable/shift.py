# SPDX-License-Identifier: Apache-2.0
"""Shift registers of rows."""

from __future__ import annotations

from math import prod

from mmcc.ir.program import KernelUse, View
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Operand, Site, layer
from mmcc.ops.shift import Shift


@layer(Shift)
def shift(op: Shift, site: Site) -> KernelUse:
    """Rows that stay move together where they lie one behind the other, as they do in a state."""
    del op
    kept, new = site.inputs
    views = source_view(site, 0), source_view(site, 1)
    block = _is_block(kept, views[0]) and _is_block(site.output, site.output.where())
    fields = (
        ("x0", views[0]),
        ("x1", views[1]),
        ("y", site.output.where()),
        ("stay", kept.shape[0] - new.shape[0]),
        ("shift", new.shape[0]),
        ("pixel", kept.geometry[2] * kept.dtype.size),
    )
    options = (("size", kept.dtype.size), ("block", block))
    return KernelUse("shift", options, fields)


def _is_block(operand: Operand, view: View) -> bool:
    """True if all rows are there, dense."""
    row = prod(operand.geometry[1:])
    dense = view.row_stride == row * operand.dtype.size and view.col_stride == operand.geometry[2]
    return dense and view.rows >= operand.shape[0]
