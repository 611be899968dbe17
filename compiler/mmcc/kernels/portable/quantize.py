# SPDX-License-Identifier: Apache-2.0
"""Between float and quantized integers."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.elementwise_float import broadcast_fields
from mmcc.kernels.select import Site, layer
from mmcc.ops.quantize import Dequantize, Quantize, QuantizeBy


@layer(Quantize)
def quantize(op: Quantize, site: Site) -> KernelUse:
    """A division, a rounding and a clamp an element."""
    return KernelUse(
        "quantize",
        (("type", op.dtype.ctype),),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("scale", float(op.scale)),
            ("channels", site.output.geometry[2]),
            ("zero_point", op.zero_point),
        ),
    )


@layer(QuantizeBy)
def quantize_by(op: QuantizeBy, site: Site) -> KernelUse:
    """The same by operands, in float until it is stored."""
    strides, fields = broadcast_fields(site, ("x", "x1", "x2"))
    dtype = op.dtype
    limits = ("least", dtype.least), ("most", dtype.most)
    return KernelUse("quantize_by", (("type", dtype.ctype), *limits, *strides), fields, origins=3)


@layer(Dequantize)
def dequantize(op: Dequantize, site: Site) -> KernelUse:
    """A subtraction and a multiplication an element."""
    return KernelUse(
        "dequantize",
        (("type", site.inputs[0].dtype.ctype),),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("scale", float(op.scale)),
            ("channels", site.output.geometry[2]),
            ("zero_point", op.zero_point),
        ),
    )
