"""Elementwise operators: the geometry of the output, operands with broadcast strides."""

from __future__ import annotations

from mmcc.codegen.layers import Site, layer
from mmcc.ir.program import KernelUse
from mmcc.ops.elementwise import AddInt8, Lookup


@layer(Lookup)
def lookup(op: Lookup, site: Site) -> KernelUse:
    """One table look-up an element."""
    return KernelUse(
        "lookup",
        (),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("table", site.keep("table", site.inputs[1].constant())),
            ("channels", site.output.geometry[2]),
        ),
    )


@layer(AddInt8)
def add_int8(op: AddInt8, site: Site) -> KernelUse:
    """Two operands, each perhaps broadcast over rows, columns or channels."""
    strides = (site.channel_stride(0), site.channel_stride(1))
    return KernelUse(
        "add_int8",
        (("a_channel_stride", strides[0]), ("b_channel_stride", strides[1])),
        (
            ("a", site.read(0)),
            ("b", site.read(1)),
            ("y", site.output.where()),
            ("a_multiplier", op.multipliers[0]),
            ("b_multiplier", op.multipliers[1]),
            ("channels", site.output.geometry[2]),
            ("a_zero", op.zeros[0]),
            ("b_zero", op.zeros[1]),
            ("shift", op.shift),
            ("y_zero", op.y_zero),
            ("low", op.low),
            ("high", op.high),
        ),
    )
