# SPDX-License-Identifier: Apache-2.0
"""Convolutions made tile by tile: the target's own kernels of the three, called for a pixel at a time."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.element_type import ElementType
from mmcc.ir.kernel_part import KernelPart
from mmcc.ir.program import Field, KernelUse, View
from mmcc.ir.types import Tensor
from mmcc.kernels.scratch import Tile
from mmcc.kernels.select import Operand, Site, kernel_use, layer
from mmcc.kernels.window import window_fields
from mmcc.ops.tiled_conv import CONSTANTS, TiledConvInt8
from mmcc.ops.window import Window

NAMES = ("expand", "window", "project")


@layer(TiledConvInt8)
def tiled_conv_int8(op: TiledConvInt8, site: Site) -> KernelUse:
    """What is expanded lies in a ring of the window's rows and columns, in scratch.

    Of several fields of parts that are equal one would do, but few bytes are saved by that.
    """
    shapes = op.shapes(*(operand.shape for operand in site.inputs))
    tile, work = Tile(op, tuple(operand.shape for operand in site.inputs)), site.work()
    assert isinstance(work.offset, int)
    channels = [shape[2] for shape in shapes]
    views = (
        View(work.memory, work.offset, tile.cols * channels[0], channels[0], tile.rows),
        View(work.memory, work.offset + tile.window_offset, channels[1], channels[1], 1),
    )
    between = [
        Operand(Tensor(f"{site.label}_{name}", shape, ElementType.I8), view, None)
        for name, shape, view in zip(NAMES, shapes, views, strict=False)
    ]
    seen = {"expand": ("x", "work0"), "window": ("work0", "work1"), "project": ("work1", "y")}
    ends = (site.inputs[0], *between, site.output)
    fields: list[tuple[str, Field]] = [("x", site.inputs[0].where()), ("y", site.output.where())]
    fields += [("work0", views[0]), ("work1", views[1])]
    parts: list[KernelPart] = []
    for k, (name, part) in enumerate(zip(NAMES, op.parts, strict=True)):
        constants = site.inputs[1 + CONSTANTS * k : 1 + CONSTANTS * (k + 1)]
        own = replace(
            site,
            label=f"{site.label}_{name}",
            inputs=(ends[k], *constants),
            outputs=(ends[k + 1],),
            scratch=None,
            room=0,
            alone=False,
        )
        use = kernel_use(part, own)
        members = {"x": seen[name][0], "y": seen[name][1]}
        for field, value in use.fields:
            if field not in members:
                members[field] = f"{name}_{field}"
                fields.append((members[field], value))
        parts.append(KernelPart(name, use.template, use.options, tuple(members.items())))
    middle = replace(site, inputs=(between[0],), outputs=(between[1],))
    fields += [*window_fields(middle, op.window.window), *_reach(op.window.window)]
    return KernelUse("tiled_conv_int8", (("called", tuple(parts)),), tuple(fields))


def _reach(window: Window) -> list[tuple[str, Field]]:
    """Rows and columns from the first that a window reads to the last."""
    return [
        (f"reach_{what}", window.dilations[axis] * (window.kernel[axis] - 1) + 1)
        for axis, what in enumerate(("rows", "cols"))
    ]
