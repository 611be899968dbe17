# SPDX-License-Identifier: Apache-2.0
"""Where a case's buffers lie in the kernel bench's arena, in each way that a plan may ask for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Span
from mmcc.ir.plan import Slot
from mmcc.ir.types import Tensor, geometry
from mmcc.target import Target
from nearest_places import nearest_places
from op_case import OpCase

RED = 64  # bytes between any two buffers
SPARE = 3  # channels more, before and behind, of a strided slot
OVER, BACKWARD = "over", "_backward"  # the output lies over the operand whose number follows
Layout = dict[str, tuple[int, Slot]]  # by "case/way/operand", where the slot begins


def over_inputs(case: OpCase, target: Target, *, backward: bool) -> dict[str, tuple[int, int]]:
    """By way: an operand that the output may lie over, and how many bytes the operand starts above it.

    With `backward` rows are made from the last to the first in all ways.
    """
    found: dict[str, tuple[int, int]] = {}
    for k, near in nearest_places(case, target).items():
        if near.forward is not None and not backward:
            found[f"{OVER}{k}"] = k, near.forward
        if near.backward is not None:
            found[f"{OVER}{k}{BACKWARD}"] = k, -near.backward
    return found


def layout_of(case: OpCase, way: str, over: tuple[int, int] | None) -> Layout:
    """The slots of a way; `over` says which operand the output lies over, and how far below."""
    layout: Layout = {}
    end = RED
    under, above = over or (None, 0)
    for k in (*case.activations, "y"):
        name, tensor = f"{case.name}/{way}/{k}", _tensor(case, way, k)
        if under is not None and k in (under, "y"):
            continue
        if way == "in_place" and k == "y":
            start, slot = layout[f"{case.name}/{way}/{case.overwritten}"]
            layout[name] = (start, replace(slot, buffer=name))
            continue
        rows, cols, channels = geometry(tensor.shape)
        pixel = channels * tensor.dtype.size
        if way == "strip":
            cols = _strip_width(case, k)
        if way == "ring" and k != "y":
            rows = min(rows, case.ring(k))
        spare = SPARE * tensor.dtype.size if way == "strided" else 0
        col_stride = pixel + 2 * spare
        size = rows * cols * col_stride
        start = -(-end // 16) * 16
        layout[name] = (start, Slot(name, spare, cols * col_stride, col_stride, rows))
        end = start + size + RED
    if under is not None:
        layout |= _place_over(_tensor(case, way, under), _tensor(case, way, "y"), above, end)
    return layout


def end_of(layout: Layout) -> int:
    """Bytes from the arena's begin to where nothing of a layout is read or written any more."""
    return max(start + slot.rows * slot.row_stride for start, slot in layout.values()) + RED


def strips(case: OpCase) -> list[Span]:
    """Columns of the output, cut in up to three."""
    width = geometry(case.want.shape)[1]
    cuts = sorted({0, width // 3, width // 3 * 2, width})
    return [Span(a, b) for a, b in pairwise(cuts) if a < b]


def strip_of(case: OpCase, k: int, strip: Span) -> Span:
    """Columns of an operand that a strip holds: operands that other nodes read too begin further left."""
    needed = case.cols(k, strip)
    return Span(max(0, needed.lo - k), needed.hi) if len(needed) else needed


def _tensor(case: OpCase, way: str, k: int | str) -> Tensor:
    name = f"{case.name}/{way}/{k}"
    if isinstance(k, int):
        return replace(case.tensors[k], name=name)
    return Tensor(name, case.want.shape, ElementType.of(case.want))


def _strip_width(case: OpCase, k: int | str) -> int:
    if isinstance(k, str):
        return max(len(s) for s in strips(case))
    return max(1, max(len(strip_of(case, k, s)) for s in strips(case)))


def _place_over(x: Tensor, y: Tensor, above: int, end: int) -> Layout:
    """The input `above` bytes above the output, or as little more as both addresses allow."""
    start, align = -(-end // 16) * 16, max(4, x.dtype.size, y.dtype.size)
    begins = ((start + at + max(above, 0), start + at + max(-above, 0)) for at in range(0, align, 4))
    both = [(a, b) for a, b in begins if a % max(4, x.dtype.size) == b % max(4, y.dtype.size) == 0]
    if not both:
        return _place_over(x, y, above + 4 if above >= 0 else above - 4, end)
    found: Layout = {}
    for tensor, at in zip((x, y), both[0], strict=True):
        rows, cols, channels = geometry(tensor.shape)
        pixel = channels * tensor.dtype.size
        found[tensor.name] = at, Slot(tensor.name, 0, cols * pixel, pixel, rows)
    return found
