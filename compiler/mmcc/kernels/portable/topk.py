# SPDX-License-Identifier: Apache-2.0
"""The largest or smallest elements of each pixel."""

from __future__ import annotations

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.topk import TopK


@layer(TopK)
def top_k(op: TopK, site: Site) -> KernelUse:
    """A pixel may hold several rows of the last axis, one behind the other."""
    x = site.inputs[0]
    length = x.shape[-1]
    fields: tuple[tuple[str, Field], ...] = (
        ("x", source_view(site, 0)),
        ("y", site.outputs[0].where()),
        ("y1", site.outputs[1].where()),
        ("lines", x.geometry[2] // length),
        ("length", length),
        ("count", op.count),
    )
    options = (
        ("ctype", x.dtype.ctype),
        ("order", "<" if op.smallest else ">"),
        ("floats", x.dtype.is_float),
    )
    return KernelUse("top_k", options, fields)
