# SPDX-License-Identifier: Apache-2.0
"""Lines for each channel of an int8 tensor."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.kernels.window import views
from mmcc.ops.affine import AffineInt8


@layer(AffineInt8)
def affine_int8(op: AffineInt8, site: Site) -> KernelUse:
    """A multiplication, an addition, a shift and a clamp an element; axes past the second are one run."""
    channels = site.output.geometry[2]
    multiplier, bias, *second = (
        np.tile(operand.constant(), channels // operand.shape[0]) for operand in site.inputs[1:]
    )
    lines = np.stack((multiplier, bias, *second[1:]), 1)
    knee = (("knee", site.keep("knee", second[0])),) if second else ()
    return KernelUse(
        "affine_int8",
        (("lines", 2 if second else 1),),
        (
            *views(site),
            ("line", site.keep("line", lines.astype(np.int32))),
            *knee,
            ("channels", channels),
            ("shift", op.shift),
            ("low", op.low),
            ("high", op.high),
        ),
    )
