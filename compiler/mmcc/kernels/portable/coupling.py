# SPDX-License-Identifier: Apache-2.0
"""Probabilities of classes from those of their pairs."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.coupling import MOST_ROUNDS, TOLERANCE, PairwiseCoupling


@layer(PairwiseCoupling)
def pairwise_coupling(op: PairwiseCoupling, site: Site) -> KernelUse:
    """A pixel may hold several lines, one behind the other."""
    return KernelUse(
        "pairwise_coupling",
        (),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("tolerance", TOLERANCE / op.classes),
            ("classes", op.classes),
            ("pairs", op.classes * (op.classes - 1) // 2),
            ("lines", site.output.geometry[2] // op.classes),
            ("rounds", MOST_ROUNDS),
        ),
    )
