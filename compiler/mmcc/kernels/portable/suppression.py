# SPDX-License-Identifier: Apache-2.0
"""The best boxes that do not overlap too much."""

from __future__ import annotations

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.suppression import NonMaxSuppression


@layer(NonMaxSuppression)
def non_max_suppression(op: NonMaxSuppression, site: Site) -> KernelUse:
    """It works in nothing but its result: the next best box is searched for among all."""
    batches, classes, boxes = site.inputs[1].shape
    fields: tuple[tuple[str, Field], ...] = (
        ("x", source_view(site, 0)),
        ("x1", source_view(site, 1)),
        ("y", site.output.where()),
        ("batches", batches),
        ("classes", classes),
        ("boxes", boxes),
        ("count", op.count),
        ("rows", op.rows),
        ("overlap", op.overlap),
        ("threshold", 0.0 if op.threshold is None else op.threshold),
    )
    options = (("centred", op.centred), ("threshold", op.threshold is not None))
    return KernelUse("non_max_suppression", options, fields)
