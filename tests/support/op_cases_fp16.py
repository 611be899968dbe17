# SPDX-License-Identifier: Apache-2.0
"""Cases of layers that are float16 altogether, whose sums are exact in float16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.dense import Dense
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_case_values import LAYER, RELU
from op_cases_float_layers import conv

SAME = Window((3, 3), pads=(1, 1, 1, 1))
POINT = Window((1, 1))
LARGEST = 2048  # beyond it float16 has no odd numbers


def all_halves(case: OpCase) -> OpCase:
    """The case with small whole numbers in float16; no sum of some products is beyond what is exact."""
    rng = rng_of(case.name)
    shapes = [np.shape(x) for x in case.inputs]
    x, w, b = (rng.integers(-low, low + 1, shape) for low, shape in zip((3, 3, 20), shapes, strict=True))
    kept = rng.random(w.shape) < min(1.0, 200 / w[0].size)
    w = np.where(kept, w, 0)
    assert np.abs(w).reshape(len(w), -1).sum(1).max(initial=0) * 3 + 20 <= LARGEST, case.name
    return replace(case, inputs=tuple(array.astype(np.float16) for array in (x, w, b)))


def dense(name: str, x: tuple[int, ...], outputs: int) -> OpCase:
    operands = (np.zeros(x), np.zeros((outputs, x[-1])), np.zeros(outputs))
    return OpCase(name, Dense(RELU), operands, LAYER)


def layers_in_halves() -> list[OpCase]:
    """Every size of tile, blocks that are not full, windows at the border, and what is gathered."""
    strided = Window((3, 3), (2, 2), (1, 1), (0, 0, 1, 1))
    gathered = Window((5, 3), (2, 2), pads=(2, 1, 2, 1))
    cases = [
        *(conv(f"row_{w}", (2, w, 5 + w), 16 * (w % 5) + 8 + w, POINT) for w in range(1, 12)),
        conv("window", (5, 11, 9), 24, SAME, activation=RELU),
        conv("window_70", (4, 7, 16), 70, SAME, activation=Clamp(-5.5, 60.0)),
        conv("window_strided", (7, 9, 3), 33, strided),
        conv("window_gathered", (12, 9, 1), 18, gathered, activation=Leaky(0.5)),
        conv("depthwise", (5, 13, 40), 40, SAME, 40, activation=RELU),
        conv("depthwise_23", (3, 3, 23), 23, SAME, 23, activation=Leaky(0.25)),
        conv("depthwise_5x3", (9, 10, 16), 16, Window((5, 3), (2, 2), (1, 2), (2, 2, 1, 3)), 16),
        dense("dense", (76,), 45),
        dense("dense_rows", (11, 24), 16),
    ]
    return [all_halves(case) for case in cases]
