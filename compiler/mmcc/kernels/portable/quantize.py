# SPDX-License-Identifier: Apache-2.0
"""Between float and quantized integers."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.quantize import Dequantize, Quantize


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
