# SPDX-License-Identifier: Apache-2.0
"""Where a stream begins: rows before row 0, and the count of hops."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.sequence_start import CountHops, MaskBeforeStart, RepeatFirstRow


@layer(MaskBeforeStart)
def mask_before_start(op: MaskBeforeStart, site: Site) -> KernelUse:
    """Rows are moved as unsigned integers of their size, so the value is stored as its bits."""
    dtype = site.output.dtype
    value = np.array([op.value], dtype.numpy).view(dtype.unsigned.numpy)
    fields = (
        ("x0", site.read(0)),
        ("x1", site.read(1)),
        ("y", site.output.where()),
        ("channels", site.output.geometry[2]),
        ("value", site.keep("value", value)),
        ("lag", op.lag),
        ("hop", op.hop),
    )
    return KernelUse("mask_before_start", (("type", dtype.moved),), fields)


@layer(RepeatFirstRow)
def repeat_first_row(op: RepeatFirstRow, site: Site) -> KernelUse:
    """Rows are moved as unsigned integers of their size."""
    rows, _, channels = site.output.geometry
    fields = (
        ("x0", site.read(0)),
        ("x1", site.read(1)),
        ("y", site.output.where()),
        ("channels", channels),
        ("last_row", rows - 1),
        ("lag", op.lag),
        ("hop", op.hop),
    )
    return KernelUse("repeat_first_row", (("type", site.output.dtype.moved),), fields)


@layer(CountHops)
def count_hops(op: CountHops, site: Site) -> KernelUse:
    """As other functions of one operand."""
    fields = (
        ("x", site.read(0)),
        ("y", site.output.where()),
        ("channels", site.output.geometry[2]),
        ("most", op.most),
    )
    return KernelUse("count_hops", (), fields)
