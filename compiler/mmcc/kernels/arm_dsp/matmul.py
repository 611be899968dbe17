# SPDX-License-Identifier: Apache-2.0
"""Products of two activations whose second matrix meets several lines of the first: four of its columns, a
tile, are laid ready once, for all lines that a call makes.

Lines are the output's rows, or what is in one row: columns, or lines inside a pixel. Rows may only be made
together where their order is free.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.conv import VARIANT
from mmcc.kernels.bands import in_no_order
from mmcc.kernels.portable.matmul import matmul_int8
from mmcc.kernels.select import Site, variant_layer
from mmcc.ops.matmul import MatMulInt8

TEMPLATE = "matmul_tiles"
FEWEST = 4  # lines for which it pays, columns of a tile, and values along them
LONGEST = 128  # values along a column: a tile is on the stack
SHORT = 16  # values that are one vector: its columns stay in registers
SIZES = 32  # what the column of a tile is rounded up to, so that kernels are shared
MOST_RIGHT = 21  # bits by which a rounding of 10 can be shifted


@variant_layer("arm_mve", MatMulInt8)
@variant_layer(VARIANT, MatMulInt8)
def matmul_tiles(op: MatMulInt8, site: Site) -> KernelUse | None:
    """The kernel, or None where every line meets a matrix of its own, or rows have an order."""
    use, along = matmul_int8(op, site), _along(op, site)
    if not along or not _fits(use) or site.target.small_frames:
        return None
    if along == "rows" and not in_no_order(site):
        return None
    band = (("band", site.output.geometry[0]),) if along == "rows" else ()
    inner = cast(int, dict(use.fields)["inner"])
    short = "arm_mve" in site.target.kernels and inner <= SHORT
    tile = ("along", along), ("inner", SHORT if short else -(-inner // SIZES) * SIZES)
    return replace(use, template=TEMPLATE, options=(*use.options, *tile), fields=(*use.fields, *band))


def faster_apart(op: MatMulInt8, site: Site) -> bool:
    """True if rows of the output would be made together if they lay apart from what is read."""
    return VARIANT in site.target.kernels and _along(op, site) == "rows" and _fits(matmul_int8(op, site))


def _fits(use: KernelUse) -> bool:
    """True if a tile has values enough and not too many, and sums need no more than the high word's form."""
    fields = dict(use.fields)
    inner, outer, right = (cast(int, fields[name]) for name in ("inner", "outer", "shift"))
    high = dict(use.options)["requantize"] == "high"
    return high and right <= MOST_RIGHT and FEWEST <= inner <= LONGEST and outer >= FEWEST


def _along(op: MatMulInt8, site: Site) -> str:
    """The axis of the output that has lines which meet one matrix; "" if there are few of them."""
    shape = site.output.shape
    if op.operands.heads or len(shape) == 2:
        axis, name = 0, "rows"
    else:
        axis, name = len(shape) - 2, "columns" if len(shape) == 3 else "lines"
    return name if shape[axis] >= FEWEST else ""
