# SPDX-License-Identifier: Apache-2.0
"""Rows that come and go through callbacks."""

from __future__ import annotations

from mmcc.ir.module import port_symbol
from mmcc.ir.program import Field, KernelUse, View
from mmcc.kernels.select import Site, layer
from mmcc.ops.stream import ReadRows, WriteRows


@layer(ReadRows)
def read_rows(op: ReadRows, site: Site) -> KernelUse:
    """A kernel of its own for each input: callbacks are typed."""
    callback = port_symbol(site.entry, "input", op.port)
    return _stream("read_rows", callback, "y", site.output.where(), site)


@layer(WriteRows)
def write_rows(op: WriteRows, site: Site) -> KernelUse:
    """A kernel of its own for each output."""
    callback = port_symbol(site.entry, "output", op.port)
    return _stream("write_rows", callback, "x", site.inputs[0].where(), site)


def _stream(template: str, port: str, name: str, view: View, site: Site) -> KernelUse:
    """Callbacks know dense pixels only, so a call is for as much as lies densely in the view.

    That may be several rows, one row, or one pixel, where channels of other tensors lie between two pixels.
    """
    _, cols, channels = site.output.geometry
    if cols > 1 and view.col_stride != channels:
        window = "pixel"
    else:
        window = "rows" if view.row_stride == site.output.dtype.bytes(cols * channels) else "row"
    fields: list[tuple[str, Field]] = [(name, view)]
    if window == "rows":
        fields.append(("columns", cols))
    options = (("port", port), ("ctype", site.output.dtype.ctype), ("window", window))
    return KernelUse(template, options, tuple(fields))
