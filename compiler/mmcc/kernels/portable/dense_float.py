# SPDX-License-Identifier: Apache-2.0
"""Dense layers, float."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.conv_float import ALIGN, pack
from mmcc.kernels.portable.float_fields import activation_fields, half_option
from mmcc.kernels.portable.plain_layers import has_packed, plain_dense
from mmcc.kernels.select import Site, layer
from mmcc.ops.dense import Dense


@layer(Dense)
def dense(op: Dense, site: Site) -> KernelUse:
    """Weights in blocks of 8 outputs, as a convolution's."""
    if not has_packed(site):
        return plain_dense(op, site)
    option, limits = activation_fields(op.activation)
    w = site.inputs[1].constant()
    return KernelUse(
        "dense",
        (option, half_option(site)),
        (
            ("x", site.inputs[0].where()),
            ("y", site.output.where()),
            ("weights", site.keep("weights", pack(w, 1), ALIGN)),
            ("bias", site.keep("bias", pack(site.inputs[2].constant(), 1))),
            *limits,
            ("inputs", w.shape[1]),
            ("outputs", w.shape[0]),
        ),
    )
