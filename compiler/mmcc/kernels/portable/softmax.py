# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm, float."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.softmax import Softmax


@layer(Softmax)
def softmax(op: Softmax, site: Site) -> KernelUse:
    """A pixel holds one line, or several where the tensor has more than three axes."""
    length = site.output.shape[-1]
    return KernelUse(
        "softmax",
        (("log", op.log),),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("length", length),
            ("lines", site.output.geometry[2] // length),
        ),
    )
