# SPDX-License-Identifier: Apache-2.0
"""Rows that go to slow memory and come back."""

from __future__ import annotations

from mmcc.ir.program import Field, KernelUse, View
from mmcc.kernels.select import Operand, Site, layer
from mmcc.ops.paging import PageIn, PageOut


@layer(PageOut)
def page_out(op: PageOut, site: Site) -> KernelUse:
    """What leaves is where its ring has it; the other side has no addresses, so none in a view."""
    return _paged("page_out", op.page, ("x", site.inputs[0].where()), site.output, ())


@layer(PageIn)
def page_in(op: PageIn, site: Site) -> KernelUse:
    """The next row comes to the kernel's scratch."""
    work = (("work", site.work()),)
    return _paged("page_in", op.page, ("y", site.output.where()), site.inputs[0], work)


def _paged(
    template: str, page: int, fast: tuple[str, View], slow: Operand, more: tuple[tuple[str, Field], ...]
) -> KernelUse:
    """A copy is for a row, or for a pixel where other channels lie between two pixels in the arena."""
    rows, cols, channels = slow.geometry
    offset, view = slow.where().offset, fast[1]
    assert isinstance(offset, int)
    bytes_of_row = slow.dtype.bytes(cols * channels)
    assert rows == 1 or slow.where().row_stride == bytes_of_row, "slow memory has rows one behind the other"
    dense = cols == 1 or view.col_stride == channels
    fields: list[tuple[str, Field]] = [fast, *more, ("slow", offset), ("bytes", bytes_of_row)]
    fields += [("rows", rows), ("page", page), *([] if dense else [("cols", cols)])]
    return KernelUse(template, (("dense", dense), ("size", slow.dtype.size)), tuple(fields))
