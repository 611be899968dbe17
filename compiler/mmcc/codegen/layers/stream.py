"""Rows that come and go through callbacks."""

from __future__ import annotations

from mmcc.codegen.layers import Site, layer
from mmcc.ir.program import Field, KernelUse, View
from mmcc.ops.stream import ReadRows, WriteRows


@layer(ReadRows)
def read_rows(op: ReadRows, site: Site) -> KernelUse:
    """A kernel of its own for each input: callbacks are typed."""
    return KernelUse("read_rows", _options(site, op.port), _fields("y", site.output.where(), site))


@layer(WriteRows)
def write_rows(op: WriteRows, site: Site) -> KernelUse:
    """A kernel of its own for each output."""
    return KernelUse("write_rows", _options(site, op.port), _fields("x", site.inputs[0].where(), site))


def _options(site: Site, port: int) -> tuple[tuple[str, int | str], ...]:
    return (("port", port), ("ctype", site.output.dtype.value), ("size", site.output.dtype.size))


def _fields(name: str, view: View, site: Site) -> tuple[tuple[str, Field], ...]:
    """`dense` if the rows lie one behind the other, so that one call can serve several."""
    _, cols, channels = site.output.geometry
    dense = view.col_stride == channels and view.row_stride == cols * channels * site.output.dtype.size
    return ((name, view), ("dense", int(dense)), ("columns", cols))
