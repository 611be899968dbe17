# SPDX-License-Identifier: Apache-2.0
"""Reductions over any axes, of floats and integers."""

from __future__ import annotations

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import axis_strides, merge, source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.reduce import Reduce


@layer(Reduce)
def reduce(op: Reduce, site: Site) -> KernelUse:
    """Loops of an output pixel over what is kept inside it, around loops over what is reduced."""
    operand = site.inputs[0]
    assert operand.dtype.is_float or op.function in ("sum", "max", "min", "prod")
    view = source_view(site, 0)
    strides = axis_strides(operand, view)
    rank = len(operand.shape)
    outside = min(2, max(0, rank - 1))  # axes that rows and columns walk
    axes = list(zip(operand.shape, strides, strict=True))
    kept = merge([axes[axis] for axis in range(outside, rank) if axis not in op.axes])
    reduced = merge([axes[axis] for axis in range(rank) if axis in op.axes])
    fields: list[tuple[str, Field]] = [
        ("x", view),
        ("y", site.output.where()),
        ("row_walk", int(outside > 0 and 0 not in op.axes)),
        ("col_step", view.col_stride if outside > 1 and 1 not in op.axes else 0),
        ("held_step", view.col_stride if outside > 1 else 0),
    ]
    for name, loops in (("kept", kept), ("reduced", reduced)):
        for k, (extent, stride) in enumerate(loops):
            fields += [(f"{name}{k}", extent), (f"{name}_step{k}", stride)]
    if op.function == "mean":
        count = 1
        for extent, _ in reduced:
            count *= extent
        fields.append(("count", float(count)))
    options = (
        ("function", op.function),
        ("type", operand.dtype.ctype),
        ("kept", len(kept)),
        ("reduced", len(reduced)),
        ("side_by_side", operand.dtype.is_float and kept[-1][1] == 1 and kept[-1][0] >= 4),
    )
    return KernelUse("reduce", options, tuple(fields))
