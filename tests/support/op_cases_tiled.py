# SPDX-License-Identifier: Apache-2.0
"""Cases of convolutions that are made tile by tile."""

from __future__ import annotations

from mmcc.ops.conv import ConvInt8
from mmcc.ops.tiled_conv import TiledConvInt8
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_cases_int8_layers import int8, pads, per_filter

SAME = Window((3, 3), pads=pads(1, 1, 1, 1))
DOWN = Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1))


def tiled(
    name: str,
    x: tuple[int, int, int],
    channels: tuple[int, int],
    window: Window,
    form: str = "high",
    depthwise: bool = True,
    low: int = -128,
) -> OpCase:
    """Channels of what is expanded and of the result; each zero point is another."""
    rng, (wide, narrow) = rng_of(name), channels
    parts = (
        ConvInt8(Window((1, 1)), -7, 11, low=low),
        ConvInt8(window, 11, -3, wide if depthwise else 1, low=low),
        ConvInt8(Window((1, 1)), -3, 5),
    )
    shapes = ((wide, 1, 1, x[2]), (wide, *window.kernel, 1 if depthwise else wide), (narrow, 1, 1, wide))
    constants = [a for shape in shapes for a in (int8(rng, *shape), *per_filter(rng, shape[0], form))]
    return OpCase(
        name, TiledConvInt8(*parts), (int8(rng, *x), *constants), (False, *(True for _ in constants))
    )


def tiled_cases() -> list[OpCase]:
    return [
        tiled("tiled", (6, 7, 4), (12, 5), SAME),
        tiled("tiled_down", (9, 11, 8), (24, 8), DOWN, low=11),
        tiled("tiled_down_even", (8, 10, 3), (9, 4), Window((3, 3), (2, 2), pads=pads(1, 1, 1, 1))),
        tiled("tiled_valid", (6, 8, 5), (7, 3), Window((3, 3))),
        tiled("tiled_5", (8, 9, 4), (8, 6), Window((5, 5), pads=pads(2, 2, 2, 2)), "left"),
        tiled("tiled_dilated", (9, 10, 4), (6, 4), Window((3, 3), (1, 1), (2, 3), pads(2, 3, 2, 3))),
        tiled("tiled_far", (4, 5, 3), (6, 3), Window((3, 3), (2, 2), (1, 1), pads(4, 3, 5, 6))),
        tiled("tiled_apart", (9, 11, 3), (6, 3), Window((2, 2), (3, 3), (1, 1), pads(0, 0, 0, 0))),
        tiled("tiled_dense", (5, 6, 4), (8, 4), SAME, depthwise=False),
        tiled("tiled_row", (1, 9, 4), (8, 4), Window((1, 3), pads=pads(0, 1, 0, 1)), "wide"),
        tiled("tiled_column", (9, 1, 4), (8, 4), Window((3, 1), pads=pads(1, 0, 1, 0))),
        tiled("tiled_wide", (3, 130, 2), (4, 2), Window((3, 3), (1, 2), pads=pads(1, 1, 1, 1))),
    ]
