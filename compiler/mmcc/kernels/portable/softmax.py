# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm, float; Softmax of int16."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.softmax import EXP_BITS, Softmax, SoftmaxInt16


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


@layer(SoftmaxInt16)
def softmax_int16(op: SoftmaxInt16, site: Site) -> KernelUse:
    """Exponentials are made twice, for their sum and for results: kept, they take more bytes than both."""
    length = site.output.shape[-1]
    numerator = op.y_inverse << EXP_BITS
    return KernelUse(
        "softmax_int16",
        (),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("length", length),
            ("lines", site.output.geometry[2] // length),
            ("rate", op.rate >> 16),
            ("rate_low", op.rate & 0xFFFF),
            ("numerator_low", numerator & 0xFFFFFFFF),
            ("numerator_high", numerator >> 32),
            ("right", op.shift - 33),
            ("low", op.low),
            ("high", op.high),
        ),
    )
