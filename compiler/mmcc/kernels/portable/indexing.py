# SPDX-License-Identifier: Apache-2.0
"""Elements taken from, and put to, places that are computed at run time."""

from __future__ import annotations

from typing import Any

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.indexing import ScatterAlong, ScatterLines, TakeAlong, TakeLines

Options = tuple[tuple[str, Any], ...]


def _views(site: Site) -> list[tuple[str, Field]]:
    names = ("x", "x1", "x2")[: len(site.inputs)]
    views: list[tuple[str, Field]] = [(name, source_view(site, k)) for k, name in enumerate(names)]
    return [*views, ("y", site.output.where()), ("channels", site.output.geometry[2])]


def _lines(site: Site, extents: tuple[int, ...]) -> tuple[Options, list[tuple[str, Field]]]:
    """Options and fields that say which line an index names."""
    index = site.inputs[1]
    options = (("index", index.dtype.ctype), ("by_row", len(index.shape) == 2), ("extents", len(extents)))
    return options, [(f"extent{k}", extent) for k, extent in enumerate(extents)]


def _update(dtype: ElementType, reduction: str) -> Options:
    """Options of how an element is updated; where it is only replaced, all types of a size are one."""
    if reduction == "none":
        return (("type", dtype.moved), ("reduction", reduction))
    wide = "uint64_t" if dtype.bits == 64 else "uint32_t"
    return (
        ("type", dtype.ctype),
        ("wide", wide),
        ("floats", dtype.is_float),
        ("reduction", reduction),
    )


@layer(TakeLines)
def take_lines(op: TakeLines, site: Site) -> KernelUse:
    """By the size of an element."""
    options, fields = _lines(site, op.extents)
    size = ("type", site.output.dtype.moved)
    return KernelUse("take_lines", (size, *options), (*_views(site), *fields))


@layer(TakeAlong)
def take_along(op: TakeAlong, site: Site) -> KernelUse:
    """By the size of an element, and by how many axes the index has."""
    del op
    index = site.inputs[1]
    options = (
        ("type", site.output.dtype.moved),
        ("index", index.dtype.ctype),
        ("rank", len(index.shape)),
    )
    return KernelUse("take_along", options, (*_views(site), ("extent", site.inputs[0].shape[1])))


@layer(ScatterLines)
def scatter_lines(op: ScatterLines, site: Site) -> KernelUse:
    """One kernel a type where elements are computed."""
    options, fields = _lines(site, op.extents)
    fields = [*_views(site), *fields, ("updates", site.inputs[1].shape[0]), ("first", op.first)]
    return KernelUse("scatter_lines", (*_update(site.output.dtype, op.reduction), *options), tuple(fields))


@layer(ScatterAlong)
def scatter_along(op: ScatterAlong, site: Site) -> KernelUse:
    """One kernel a type where elements are computed, and by whether one index is for all rows."""
    index = site.inputs[1]
    options = (
        *_update(site.output.dtype, op.reduction),
        ("index", index.dtype.ctype),
        ("rank", len(index.shape)),
    )
    rows, count, _ = site.inputs[2].shape
    fields = (
        *_views(site),
        ("extent", site.output.shape[1]),
        ("updates", count),
        ("first", op.first),
        ("last", op.first + rows),
    )
    return KernelUse("scatter_along", options, fields)
