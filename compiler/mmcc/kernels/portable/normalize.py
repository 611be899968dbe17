# SPDX-License-Identifier: Apache-2.0
"""Local response normalization."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.normalize import LocalResponseNorm


@layer(LocalResponseNorm)
def local_response_norm(op: LocalResponseNorm, site: Site) -> KernelUse:
    """A pixel holds one line of channels, or several where the tensor has more than three axes."""
    length = site.output.shape[-1]
    return KernelUse(
        "local_response_norm",
        (),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("alpha", float(op.alpha / op.size)),
            ("beta", float(op.beta)),
            ("bias", float(op.bias)),
            ("length", length),
            ("lines", site.output.geometry[2] // length),
            ("before", (op.size - 1) // 2),
            ("after", op.size - 1 - (op.size - 1) // 2),
        ),
    )
