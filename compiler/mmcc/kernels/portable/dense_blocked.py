# SPDX-License-Identifier: Apache-2.0
"""Dense layers of floats with weights of 4 or 8 bits, scaled in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.conv_float import pack
from mmcc.kernels.select import Site, layer
from mmcc.ops.dense_blocked import DenseBlocked


@layer(DenseBlocked)
def dense_blocked(op: DenseBlocked, site: Site) -> KernelUse:
    """Weights in blocks of 8 outputs; those of 4 bits of two neighbours in one byte."""
    x, w, scale, *more = site.inputs
    length = x.shape[-1]
    names = [*(("offset",) if op.offsets else ()), "bias"][: len(more)]
    tables = (("scale", scale), *zip(names, more, strict=True))
    return KernelUse(
        "dense_blocked",
        (("bits", op.bits), ("offsets", op.offsets), ("bias", "bias" in names)),
        (
            ("x", x.where()),
            ("y", site.output.where()),
            ("weights", site.keep("weights", _lanes(op, op.weights(w.constant(), length)))),
            *((name, site.keep(name, pack(operand.constant(), 1))) for name, operand in tables),
            ("inputs", length),
            ("outputs", w.shape[0]),
            ("block", op.block),
        ),
    )


def _lanes(op: DenseBlocked, w: NDArray[np.int8]) -> NDArray[Any]:
    lanes = pack(w, 1)  # [1][N/8][K][8]
    if op.bits != 4:
        return lanes
    halves = lanes.astype(np.int64) & 15
    return (halves[..., ::2] | halves[..., 1::2] << 4).astype(np.uint8)
