# SPDX-License-Identifier: Apache-2.0
"""Cases of operators for kernels with vectors: widths around theirs."""

from __future__ import annotations

from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.window import Window
from op_case import OpCase
from op_case_values import RELU
from op_cases_float_layers import conv as float_conv
from op_cases_int8_layers import conv, dense

SAME = Window((3, 3), pads=(1, 1, 1, 1))


DOWN = Window((3, 3), (2, 2), (1, 1), (0, 0, 1, 1))


def wide_cases() -> list[OpCase]:
    """Every size of tile: rows of 1 to 11 pixels, and filters of one to several blocks."""
    rows = [
        conv(f"row_{w}", (2, w, 20 + 4 * (w % 4)), 16 * (w % 4) + 3 * w, Window((1, 1))) for w in range(1, 12)
    ]
    return [
        *rows,
        conv("same_40_70", (4, 9, 40), 70, SAME, "left"),
        conv("same_16_48", (5, 6, 16), 48, SAME, zeros=(-128, 127)),
        conv("down_32_33", (7, 9, 32), 33, DOWN, low=0),
        conv("first_40", (6, 9, 3), 40, DOWN),
        conv("kws_64", (12, 9, 1), 64, Window((10, 4), (2, 2), (1, 1), (4, 1, 5, 1)), zeros=(83, -128)),
        conv("depthwise_40", (5, 9, 40), 40, SAME, groups=40),
        conv("depthwise_down_32", (7, 9, 32), 32, DOWN, "left", groups=32),
        conv("depthwise_5_17", (6, 8, 17), 17, Window((5, 5), pads=(2, 2, 2, 2)), groups=17),
        conv("depthwise_8x2_24", (9, 7, 24), 24, Window((8, 2), pads=(4, 0, 3, 1)), groups=24),
        conv("depthwise_dilated_16", (8, 9, 16), 16, Window((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)), groups=16),
        dense("dense_132_150", (132,), 150),
        dense("dense_rows_64", (3, 64), 16),
        *(conv(f"far_{form}", (3, 5, 64), 32, Window((1, 1)), form) for form in ("left", "wide", "tiny")),
    ]


def float_cases() -> list[OpCase]:
    """Every size of tile in float, windows that are gathered, and depthwise windows."""
    shapes = [(w, 5 + w % 4, 16 * (w % 5) + 2 * w) for w in range(4, 14)]
    return [
        *(float_conv(f"row_{w}", (2, w, c), f, Window((1, 1))) for w, c, f in shapes),
        *(float_conv(f"window_{f}", (4, 7, 6), f, SAME, activation=RELU) for f in (8, 16, 40, 48, 64, 70)),
        *(float_conv(f"limits_{f}", (3, 11, 5), f, SAME, activation=Clamp(-0.5, 0.25)) for f in (24, 90)),
        float_conv("no_limits", (3, 11, 5), 40, SAME),
        float_conv("window_strided", (7, 9, 3), 33, DOWN),
        float_conv("window_gathered", (12, 9, 1), 50, Window((10, 4), (2, 2), (1, 1), (4, 1, 5, 1))),
        float_conv("channels_40", (5, 13, 40), 40, SAME, 40, activation=Leaky(0.125)),
        float_conv("channels_16", (9, 10, 16), 16, Window((5, 3), (2, 2), (1, 2), (2, 2, 1, 3)), 16),
        float_conv("channels_24_limits", (4, 9, 24), 24, SAME, 24, activation=Clamp(-0.5, 0.25)),
        float_conv("channels_23", (3, 3, 23), 23, SAME, 23, activation=RELU),
    ]
