# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of one, two and three operands, with broadcasting; any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.select import Site, layer
from mmcc.ops.elementwise import Binary, Cast, Unary, Where

# Elements made at a time, by variant: what compilers make vectors of, or enough to save most of a loop's own
# instructions on a core without.
BLOCKS = {"simd": 16, "arm_dsp": 4}
SHORT = 8  # runs of fewer elements are faster one by one
# What compilers make of vectors: no calls, and no more than a few comparisons.
IN_VECTORS = {
    *("abs", "neg", "reciprocal", "clamp", "saturate", "leaky_relu", "hard_sigmoid", "hard_swish", "affine"),
    *("thresholded_relu", "add", "sub", "mul", "div", "min", "max", "prelu"),
}


def broadcast_fields(
    site: Site, names: Sequence[str]
) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, Field], ...]]:
    """Options (a channel stride of 0 or 1 an operand) and views for operands of these names, and for y."""
    strides = tuple((f"{name}_channel_stride", site.channel_stride(k)) for k, name in enumerate(names))
    views = tuple((name, site.read(k)) for k, name in enumerate(names))
    return strides, (*views, ("y", site.output.where()), ("channels", site.output.geometry[2]))


@layer(Unary)
def unary(op: Unary, site: Site) -> KernelUse:
    """One kernel a function and type; parameters are fields."""
    return KernelUse(
        "unary",
        (("function", op.function), ("type", site.inputs[0].dtype.ctype), ("block", _block(op, site))),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("channels", site.output.geometry[2]),
            *_parameters(op, site),
        ),
    )


def _block(op: Unary | Binary, site: Site) -> int:
    """Floats made at a time; 0 where they are made one by one."""
    return most_at_once(site) if site.inputs[0].dtype == ElementType.F32 and op.function in IN_VECTORS else 0


def most_at_once(site: Site) -> int:
    """How many elements of 32 bits, where each takes a few instructions; 0 if runs are too short for it."""
    block = next((BLOCKS[name] for name in site.target.kernels if name in BLOCKS), 0)
    _, columns, channels = site.output.geometry
    views = [site.output.where(), *(site.read(k) for k in range(len(site.inputs)))]
    whole = all(view.col_stride == channels for view in views)
    return block if channels * (columns if whole else 1) >= max(block, SHORT) else 0


def _parameters(op: Unary, site: Site) -> tuple[tuple[str, Field], ...]:
    """Floats as fields; the bounds of an integer clamp as an array of its type, which may have 64 bits."""
    dtype = site.inputs[0].dtype
    if dtype.is_float:
        return tuple((f"p{k}", float(value)) for k, value in enumerate(op.parameters))
    if not op.parameters:
        return ()
    least, most = dtype.least, dtype.most
    bounds = [least if value <= least else most if value >= most else int(value) for value in op.parameters]
    return (("bounds", site.keep("bounds", np.array(bounds, dtype.numpy))),)


@layer(Binary)
def binary(op: Binary, site: Site) -> KernelUse:
    """One kernel a function, type and way of broadcasting channels."""
    strides, fields = broadcast_fields(site, "ab")
    dtype = site.inputs[0].dtype
    options = (
        ("function", op.function),
        ("type", dtype.ctype),
        ("unsigned", dtype.unsigned.ctype),
        ("result", site.output.dtype.ctype),
        ("block", _block(op, site)),
    )
    return KernelUse("binary", (*options, *strides), fields)


@layer(Where)
def where(op: Where, site: Site) -> KernelUse:
    """Selects by size, whatever the type."""
    strides, fields = broadcast_fields(site, "cab")
    block = most_at_once(site) if site.output.dtype.bits == 32 else 0
    return KernelUse("where", (("type", site.output.dtype.moved), ("block", block), *strides), fields)


@layer(Cast)
def cast(op: Cast, site: Site) -> KernelUse:
    """One kernel a pair of types."""
    source = site.inputs[0].dtype
    types = (("source", source.ctype), ("type", op.dtype.ctype))
    codes = (("of", decoding(source)), ("to", _encoding(op)))
    both = {source, op.dtype} == {ElementType.F16, ElementType.F32}
    halves = both and "simd" in site.target.kernels and most_at_once(site) > 0
    return KernelUse(
        "cast",
        (*types, *codes, ("halves", halves)),
        (("x", site.read(0)), ("y", site.output.where()), ("channels", site.output.geometry[2])),
    )


def decoding(source: ElementType) -> str | None:
    """What `mmcc_of_narrow` is given beside the code; None for types that C has."""
    code = source.code
    if code is None:
        return None
    infinity = int(code.over != code.most and not code.one_zero and code.over != code.nan)
    last = code.over if infinity else code.most
    return f"{code.fraction}, {code.bias}, {code.sign}, {last}u, {infinity}u, {int(code.one_zero)}u"


def _encoding(op: Cast) -> str | None:
    """What `mmcc_to_narrow` is given beside the value; None for types that C has."""
    code = op.dtype.code
    if code is None:
        return None
    over = code.most if op.saturates and op.dtype.bits == 8 else code.over
    form = f"{code.fraction}, {code.bias}, {code.sign}"
    return f"{form}, {code.most}u, {over}u, {code.nan}u, {int(code.one_zero)}u"
