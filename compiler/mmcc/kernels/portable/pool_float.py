# SPDX-License-Identifier: Apache-2.0
"""Average pools, float."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.float_fields import window_fields
from mmcc.kernels.select import Site, layer
from mmcc.ops.pool import AveragePool


@layer(AveragePool)
def average_pool(op: AveragePool, site: Site) -> KernelUse:
    """Taps in the pads of `counted` count, though they add nothing."""
    rows, cols, channels = site.inputs[0].geometry
    top, left, bottom, right = op.counted
    return KernelUse(
        "average_pool",
        (("columns_first", op.window.columns_first),),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            *window_fields(op.window, rows, cols),
            ("channels", channels),
            ("counted_top", top),
            ("counted_left", left),
            ("counted_bottom", rows + bottom),
            ("counted_right", cols + right),
        ),
    )
