# SPDX-License-Identifier: Apache-2.0
"""Steps of optimizers, float."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.float_fields import Fields
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.optimizer import AdamStep, Descend, Moment


@layer(Descend)
def descend(op: Descend, site: Site) -> KernelUse:
    """The rate is read once a call."""
    return KernelUse("descend", (), (*_operands(site), ("decay", float(op.decay))))


@layer(Moment)
def moment(op: Moment, site: Site) -> KernelUse:
    """One kernel for sums, one for sums of squares."""
    numbers: Fields = (("decay", float(op.decay)), ("weight", float(op.weight)))
    return KernelUse("moment", (("squares", op.squares),), (*_operands(site), *numbers))


@layer(AdamStep)
def adam_step(op: AdamStep, site: Site) -> KernelUse:
    """What all elements share is computed once a call."""
    numbers: Fields = (("epsilon", float(op.epsilon)), ("decay", float(op.decay)))
    return KernelUse(
        "adam_step", (("early", op.early),), (*_operands(site), *numbers), origins=len(site.inputs)
    )


def _operands(site: Site) -> Fields:
    names = ("x", *(f"x{k}" for k in range(1, len(site.inputs))))
    return (
        *((name, source_view(site, k)) for k, name in enumerate(names)),
        ("y", site.output.where()),
        ("channels", site.output.geometry[2]),
    )
