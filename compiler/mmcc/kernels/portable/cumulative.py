# SPDX-License-Identifier: Apache-2.0
"""Sums and products of all elements so far."""

from __future__ import annotations

from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.cumulative import Cumulative


@layer(Cumulative)
def cumulative(op: Cumulative, site: Site) -> KernelUse:
    """A pixel may hold several lines of the last axis, one behind the other."""
    x = site.inputs[0]
    length = x.shape[-1]
    wide = "" if x.dtype.is_float else "uint64_t" if x.dtype.bits == 64 else "uint32_t"
    options = (
        ("function", op.function),
        ("type", x.dtype.ctype),
        ("wide", wide),
        ("exclusive", op.exclusive),
        ("reverse", op.reverse),
    )
    fields = (
        ("x", source_view(site, 0)),
        ("y", site.output.where()),
        ("lines", x.geometry[2] // length),
        ("length", length),
    )
    return KernelUse("cumulative", options, fields)
