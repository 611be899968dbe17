# SPDX-License-Identifier: Apache-2.0
"""Back through the steps of recurrent cells, float."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.float_fields import Fields
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.recurrent_gradient import RecurrentGradient


@layer(RecurrentGradient)
def recurrent_gradient(op: RecurrentGradient, site: Site) -> KernelUse:
    """One kernel a cell; recurrent weights as the model has them."""
    more = range(1, len(site.outputs))
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("x1", source_view(site, 1)),
        ("x2", source_view(site, 2)),
        ("y", site.output.where()),
        *((f"y{k}", site.outputs[k].where()) for k in more),
        ("work", site.work()),
        ("units", site.inputs[1].shape[1]),
        *((("final", site.inputs[0].shape[0] - 1),) if op.begun else ()),
    )
    options = ("cell", op.cell), ("after", op.after), ("vectors", op.vectors), ("begun", tuple(more))
    return KernelUse("recurrent_gradient", options, fields, origins=3)
