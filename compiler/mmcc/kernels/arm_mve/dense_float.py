# SPDX-License-Identifier: Apache-2.0
"""Float depthwise convolutions on Armv8.1-M vectors (Helium); dense layers are packed as everywhere."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.conv_float import inner_columns
from mmcc.kernels.portable.float_fields import Fields, activation_fields, half_option, window_fields
from mmcc.kernels.portable.plain_layers import has_packed
from mmcc.kernels.select import Site, variant_layer
from mmcc.ops.conv import Conv

TAP_LIMIT = 49  # taps whose places may be listed on the stack


@variant_layer("arm_mve", Conv)
def depthwise(op: Conv, site: Site) -> KernelUse | None:
    """Channels innermost, in x, y and the weights [kh][kw][channels]; no sums by columns."""
    if not has_packed(site) or op.window.columns_first:
        return None
    w = site.inputs[1].constant()
    if op.groups == 1 or w.shape[3] != 1 or w.shape[0] != op.groups or w[0].size > TAP_LIMIT:
        return None
    option, limits = activation_fields(op.activation)
    rows, cols, channels = site.inputs[0].geometry
    begin, end = inner_columns(op.window, cols, site.output.geometry[1])
    fields: Fields = (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("weights", site.keep("weights", np.ascontiguousarray(w[..., 0].transpose(1, 2, 0)))),
        ("bias", site.keep("bias", site.inputs[2].constant())),
        *limits,
        *window_fields(op.window, rows, cols),
        ("channels", channels),
        ("inner_begin", begin),
        ("inner_end", end),
    )
    return KernelUse("mve_depthwise", (option, half_option(site), ("taps", w[0].size)), fields)
