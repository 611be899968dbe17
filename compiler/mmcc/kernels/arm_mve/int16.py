# SPDX-License-Identifier: Apache-2.0
"""16x8 on Armv8.1-M vectors (Helium): eight products an instruction, of weights widened as they are read."""

from __future__ import annotations

from math import prod

import numpy as np

from mmcc.ir.program import KernelUse
from mmcc.kernels.arm_dsp.conv import TAP_BOUNDS
from mmcc.kernels.arm_mve.filters import BLOCK
from mmcc.kernels.portable.filters_int8 import interleave
from mmcc.kernels.portable.int16 import MOST_TAPS, geometry_fields, scales
from mmcc.kernels.select import Site, variant_layer
from mmcc.kernels.window import row_bound, views
from mmcc.ops.int16 import ConvInt16, DenseInt16


@variant_layer("arm_mve", ConvInt16)
@variant_layer("arm_mve", DenseInt16)
def conv_int16(op: ConvInt16 | DenseInt16, site: Site) -> KernelUse | None:
    """Four filters at a time; depthwise windows have a kernel for DSP."""
    w = site.inputs[1].constant()
    kh, kw = op.window.kernel if isinstance(op, ConvInt16) else (1, 1)
    taps, depth = kh * kw, w.shape[-1]
    if taps > MOST_TAPS or getattr(op, "groups", 1) > 1:
        return None
    end, options, fields = scales(op, site)
    packed = np.swapaxes(interleave(w.reshape(len(w), taps, depth), 1, BLOCK)[0], -1, -2)
    end = np.pad(end, ((0, -len(w) % BLOCK), (0, 0)))
    bias, tail = end[:, 0].reshape(-1, BLOCK), end[:, 1:].reshape(-1, 2 * BLOCK)
    if dict(options)["high"]:  # of four filters together, and vectors are shifted left
        tail = tail.reshape(-1, BLOCK, 2).transpose(0, 2, 1).reshape(tail.shape) * np.repeat((1, -1), BLOCK)
    ends = np.hstack((bias, tail)).astype(np.int32)
    bound = next((bound for bound in (1, *TAP_BOUNDS) if taps <= bound), taps)
    return KernelUse(
        "mve_conv_int16",
        (*options, ("rows", row_bound(kh)), ("taps", bound)),
        (
            *views(site),
            ("weights", site.keep("weights", np.ascontiguousarray(packed))),
            ("scale", site.keep("scale", ends)),
            *geometry_fields(op, site),
            ("depth", depth),
            ("filters", len(w)),
            ("block", prod(packed.shape[1:])),
            *fields,
        ),
    )
