# SPDX-License-Identifier: Apache-2.0
"""Pools over windows: maximum of any element type, mean of int8."""

from __future__ import annotations

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.epilogue import check_accumulator, epilogue
from mmcc.kernels.select import Site, layer
from mmcc.kernels.window import reaches_outside, row_bound, views, window_fields
from mmcc.ops.pool import AveragePoolInt8, MaxPool, MaxPoolIndices
from mmcc.ops.window import Window

SPELLED = 4  # taps of a window to each of which there may be a pointer


def pool_fields(site: Site, window: Window) -> tuple[tuple[str, Field], ...]:
    """Views and numbers of a pool; `reach` is the columns from a window's first tap to behind its last."""
    return (
        *views(site),
        *window_fields(site, window),
        ("channels", site.inputs[0].shape[2]),
        ("kernel_rows", window.kernel[0]),
        ("reach", (window.kernel[1] - 1) * window.dilations[1] + 1),
    )


def least_of(dtype: ElementType) -> str:
    """The least value of a type, in C."""
    if dtype.is_float:
        return "(-1.0f / 0.0f)"
    return f"({dtype.ctype})({dtype.least + 1} - 1)" if dtype.least else "0"


@layer(MaxPool)
def max_pool(op: MaxPool, site: Site) -> KernelUse:
    """One kernel for each element type."""
    dtype = site.inputs[0].dtype
    options = (
        ("ctype", dtype.ctype),
        ("least", least_of(dtype)),
        ("rows", row_bound(op.window.kernel[0])),
        ("words", dtype == ElementType.I8),
        ("columns_first", op.window.columns_first),
    )
    return KernelUse("max_pool", options, pool_fields(site, op.window))


@layer(MaxPoolIndices)
def max_pool_indices(op: MaxPoolIndices, site: Site) -> KernelUse:
    """The maximum of each window, with its place; one kernel for each element type."""
    dtype = site.inputs[0].dtype
    fields = (*pool_fields(site, op.window), ("y1", site.outputs[1].where()))
    return KernelUse("max_pool_indices", (("ctype", dtype.ctype), ("least", least_of(dtype))), fields)


@layer(AveragePoolInt8)
def average_pool_int8(op: AveragePoolInt8, site: Site) -> KernelUse:
    """The scale is looked up by the number of taps that count, if that differs from window to window."""
    multiplier, shift = site.inputs[1].constant(), site.inputs[2].constant()
    bound = op.window.kernel[0] * op.window.kernel[1] * max(127 - op.x_zero, op.x_zero + 128)
    check_accumulator(2 * bound, site)
    end = epilogue(bound, multiplier, shift, op.y_zero, (op.low, op.high))
    counted = len(multiplier) > 1
    fields: list[tuple[str, Field]] = [
        *pool_fields(site, op.window),
        ("multiplier", site.keep("multiplier", multiplier)),
        ("shift", site.keep("shift", end.tail)),
        *end.fields,
        ("x_zero", op.x_zero),
    ]
    if counted:
        sides = ("top", "left", "bottom", "right")
        fields += [(f"counted_{side}", pad) for side, pad in zip(sides, op.counted, strict=True)]
        fields += [("kernel_cols", op.window.kernel[1]), ("entries", len(multiplier))]
    kh, kw = op.window.kernel
    spelled = kh * kw <= SPELLED and not counted and not reaches_outside(site, op.window)
    options = (
        *end.options,
        ("rows", kh if spelled else row_bound(kh)),
        ("counted", counted),
        ("spelled", kw if spelled else 0),
    )
    return KernelUse("average_pool_int8", options, tuple(fields))
