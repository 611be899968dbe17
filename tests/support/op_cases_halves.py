# SPDX-License-Identifier: Apache-2.0
"""Cases of layers whose constant weights are float16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_case_values import LAYER, RELU, exact
from op_cases_float_layers import by_columns, conv
from op_cases_recurrent import CellFunction, layers

SAME = Window((3, 3), pads=(1, 1, 1, 1))


def half(case: OpCase) -> OpCase:
    """The case with weights in float16."""
    x, w, *more = case.inputs
    return replace(case, inputs=(x, w.astype(np.float16), *more))


def every_kind_of_code() -> np.ndarray:
    """Zeros, subnormal and normal numbers of every exponent, infinities, with either sign."""
    fractions = np.array([0, 1, 2, 3, 255, 256, 511, 512, 513, 682, 1022, 1023], np.uint16)
    codes = (np.arange(31, dtype=np.uint16)[:, None] << 10 | fractions).reshape(-1)
    codes = np.concatenate([codes, [0x7C00]]).astype(np.uint16)
    return np.concatenate([codes, codes | 0x8000]).view(np.float16)


def codes(depth: int) -> OpCase:
    """Products of 2^14 with every code, so that a lost subnormal number is no small error; others add 0."""
    w = np.zeros((every_kind_of_code().size, depth), np.float16)
    w[:, -1] = every_kind_of_code()
    x, b = np.full(depth, 2.0**14, np.float32), np.zeros(len(w), np.float32)
    return OpCase(f"codes_{depth}", Dense(), (x, w, b), LAYER)


def dense(name: str, x: tuple[int, ...], outputs: int) -> OpCase:
    rng = rng_of(name)
    return OpCase(name, Dense(RELU), (exact(rng, *x), exact(rng, outputs, x[-1]), exact(rng, outputs)), LAYER)


def transposed(name: str, x: tuple[int, int, int], filters: int) -> OpCase:
    rng = rng_of(name)
    op = ConvTranspose(Window((3, 3), (2, 2), pads=(1, 1, 0, 0)), (2 * x[0], 2 * x[1]))
    return OpCase(name, op, (exact(rng, *x), exact(rng, filters, 3, 3, x[2]), exact(rng, filters)), LAYER)


def layers_of_halves() -> list[OpCase]:
    """Every kernel that widens weights, and its ends: blocks that are not full, columns at the border."""
    sigmoid, tanh = CellFunction("sigmoid"), CellFunction("tanh")
    cases = [
        dense("dense_odd", (2, 13), 45),
        dense("dense_even", (22,), 17),
        conv("conv", (5, 11, 5), 13, SAME, activation=RELU),
        conv("conv_columns", (5, 9, 5), 13, by_columns((3, 3), (2, 1), pads=(1, 2, 1, 1))),
        conv("conv_wide", (3, 9, 4), 40, SAME),
        conv("conv_groups", (4, 9, 6), 10, SAME, 2),
        conv("conv_gathered", (7, 6, 1), 18, Window((5, 3), (2, 2), pads=(2, 1, 2, 1))),
        conv("point", (3, 7, 6), 70, Window((1, 1))),
        conv("depthwise_odd", (5, 9, 11), 11, SAME, 11),
        conv("depthwise_even", (5, 9, 24), 24, SAME, 24),
        conv("depthwise_23", (3, 3, 23), 23, SAME, 23, RELU),
        transposed("transposed", (3, 4, 5), 11),
        layers("lstm", 3, "lstm", 11, (sigmoid, tanh, tanh)),
        layers("gru", 3, "gru", 8, (sigmoid, tanh), ("bias", "h")),
    ]
    return [codes(1), codes(2), codes(5), *map(half, cases)]
