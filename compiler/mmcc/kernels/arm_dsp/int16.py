# SPDX-License-Identifier: Apache-2.0
"""16x8 for cores with DSP instructions: two products an instruction, of weights that are widened in flash."""

from __future__ import annotations

from math import prod

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.conv import TAP_BOUNDS, VARIANT
from mmcc.kernels.portable.filters_int8 import interleave
from mmcc.kernels.portable.int16 import MOST_TAPS, geometry_fields, scales
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import row_bound, views
from mmcc.ops.int16 import ConvInt16, DenseInt16

BLOCK = 4  # filters made together


@variant_layer(VARIANT, ConvInt16)
@variant_layer(VARIANT, DenseInt16)
def conv_int16(op: ConvInt16 | DenseInt16, site: Site) -> KernelUse | None:
    """Of an even number of channels: four filters at a time, or two channels of a depthwise window."""
    w = site.inputs[1].constant().astype(np.int16)
    kh, kw = op.window.kernel if isinstance(op, ConvInt16) else (1, 1)
    taps, groups, depth = kh * kw, getattr(op, "groups", 1), w.shape[-1]
    depthwise = groups > 1
    if taps > MOST_TAPS or (depthwise and (depth != 1 or groups != len(w) or groups % 2)):
        return None
    if not depthwise and depth % 2:
        return None
    end, options, fields = scales(op, site)
    if depthwise:
        packed = w.reshape(groups, taps).T
    else:  # [blocks, taps, pairs of channels, filters, 2]
        by_pair = w.reshape(len(w), taps, depth // 2, 2)
        packed = np.swapaxes(interleave(by_pair, 1, BLOCK)[0], -1, -2)
        end = np.pad(end, ((0, -len(w) % BLOCK), (0, 0)))
    bound = next((bound for bound in (1, *TAP_BOUNDS) if taps <= bound), taps)
    pairs = (groups if depthwise else depth) // 2
    step = next(step for step in ((2, 1) if depthwise else (4, 2, 1)) if pairs % step == 0)
    return KernelUse(
        "conv_int16_dsp",
        (*options, ("rows", row_bound(kh)), ("taps", bound), ("depthwise", depthwise), ("step", step)),
        (
            *views(site),
            ("weights", site.keep("weights", np.ascontiguousarray(packed), 4)),
            ("scale", site.keep("scale", end)),
            *geometry_fields(op, site),
            ("pairs", pairs),
            ("filters", len(w)),
            ("block", prod(packed.shape[1:]) // 2),
            *fields,
        ),
    )
