# SPDX-License-Identifier: Apache-2.0
"""Bands of rows that a kernel makes together, in no order: narrow rows fill its tiles, and weights are read
once a band.

Plans promise only that rows may be made in their order: an output may lie over its input. So a band has more
than one row only where the two are apart, which the planner sees to where there is room
(planner/spread.py), and which the checker looks at again (checker/bands.py).
"""

from __future__ import annotations

from mmcc.ir.program import KernelUse, View
from mmcc.ir.types import Shape, geometry
from mmcc.kernels.select import Operand, Site

CACHE = 2**20  # bytes of a cache, where the target states none
SEVERAL_ROWS = ("conv_winograd_float",)  # kernels that make two rows with fewer products than one by one
NARROW = 24  # pixels of a row that fill tiles by themselves, or nearly
PANEL = 64  # filters for which an input is read once
PART = 4  # of a cache's bytes, for what a band reads and writes: weights and other bands' rows are there, too


def band(site: Site, weights: int) -> int:
    """Rows of a band of a kernel that reads its first operand row by row, and `weights` bytes once a band.

    All rows, or as many as fit a cache beside weights: what then comes from beyond the cache is less.
    """
    x, y = site.inputs[0], site.output
    rows = y.geometry[0]
    if not in_no_order(site):
        return 1
    cache = min((each.size for each in site.target.cache), default=CACHE)
    some = max(1, min(rows, cache * rows // (PART * (x.tensor.bytes + y.tensor.bytes))))
    again = weights * (-(-rows // some) - 1) if weights > cache // 2 else 0
    return rows if again > x.tensor.bytes * (y.geometry[2] // PANEL) else some


def faster_apart(use: KernelUse, y: Shape) -> bool:
    """True of a kernel that makes bands of rows which fill no tile by themselves, or whose tiles have several
    rows."""
    rows, cols, _ = geometry(y)
    return "band" in dict(use.fields) and rows > 1 and (cols < NARROW or use.template in SEVERAL_ROWS)


def in_no_order(site: Site) -> bool:
    """True if a node may make its rows in any order: no other does anything meanwhile, and it writes over
    nothing that it reads."""
    reads = (each for each in site.inputs if each.view is not None)
    return site.alone and not site.backward and all(_apart(each, site.output) for each in reads)


def _apart(x: Operand, y: Operand) -> bool:
    """True if both are whole, and no byte from the first to the last of one is between those of the other."""
    a, b = x.where(), y.where()
    if a.rows < x.geometry[0] or b.rows < y.geometry[0]:
        return False
    if a.memory != b.memory:
        return True
    (a_begin, a_end), (b_begin, b_end) = _bytes(x, a), _bytes(y, b)
    return a_end <= b_begin or b_end <= a_begin


def _bytes(operand: Operand, view: View) -> tuple[int, int]:
    assert isinstance(view.offset, int)
    _, cols, channels = operand.geometry
    last = (view.rows - 1) * view.row_stride + operand.dtype.bytes((cols - 1) * view.col_stride + channels)
    return view.offset, view.offset + last
