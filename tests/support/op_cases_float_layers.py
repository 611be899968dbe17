# SPDX-License-Identifier: Apache-2.0
"""Cases of float convolutions, matrix products and pools.

Where sums could cancel, values are multiples of 1/16: their sums are exact, so the order of a sum that the
reference takes does not matter, and any wrong tap shows.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ir.types import Shape
from mmcc.ops.activation import Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.dense_blocked import DenseBlocked, packed
from mmcc.ops.matmul import MatMul, Operands
from mmcc.ops.pool import AveragePool
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_case_values import LAYER, RELU, RELU6, exact


def conv(name: str, x: Shape, filters: int, window: Window, groups: int = 1, activation=None) -> OpCase:
    rng = rng_of(name)
    w = exact(rng, filters, *window.kernel, x[2] // groups)
    return OpCase(name, Conv(window, groups, activation), (exact(rng, *x), w, exact(rng, filters)), LAYER)


def by_columns(
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Window:
    """A window whose taps are added up column by column."""
    return Window(kernel, strides, dilations, pads, columns_first=True)


def convolutions() -> list[OpCase]:
    return [
        conv("conv_same", (7, 23, 5), 13, Window((3, 3), pads=(1, 1, 1, 1)), activation=RELU),
        conv("conv_wide", (3, 29, 4), 40, Window((3, 3), pads=(1, 1, 1, 1))),
        conv("conv_seven", (5, 7, 3), 33, Window((3, 3), pads=(1, 1, 1, 1)), activation=RELU6),
        conv("conv_pointwise", (5, 19, 6), 8, Window((1, 1))),
        conv("conv_pointwise_stride", (6, 19, 3), 9, Window((1, 1), (2, 3))),
        conv("conv_stem", (13, 17, 3), 8, Window((7, 7), (2, 2), pads=(3, 3, 3, 3)), activation=RELU),
        conv("conv_uneven_pads", (9, 8, 3), 4, Window((3, 2), (2, 1), pads=(0, 2, 3, 1))),
        conv(
            "conv_dilated",
            (11, 22, 6),
            8,
            Window((3, 3), (2, 2), (2, 2), (2, 1, 1, 3)),
            activation=Leaky(0.125),
        ),
        conv("conv_far_dilated", (9, 9, 2), 3, Window((2, 3), (1, 1), (5, 4), (2, 5, 3, 5))),
        conv("conv_wide_pads", (2, 2, 3), 5, Window((3, 3), pads=(4, 4, 4, 4))),
        conv("conv_time", (17, 1, 5), 12, Window((5, 1), (2, 1), pads=(2, 0, 2, 0))),
        conv("conv_one_pixel", (1, 1, 9), 17, Window((1, 1))),
        conv("conv_one_pixel_padded", (1, 1, 3), 2, Window((3, 3), pads=(1, 1, 1, 1))),
        conv("conv_whole_image", (4, 5, 3), 6, Window((4, 5))),
        conv("conv_one_channel", (6, 21, 1), 1, Window((3, 3), pads=(1, 1, 1, 1))),
        conv("conv_groups", (7, 23, 6), 10, Window((3, 3), pads=(1, 1, 1, 1)), 2, RELU),
        conv(
            "conv_by_columns", (7, 23, 5), 13, by_columns((3, 3), (2, 1), pads=(1, 2, 1, 1)), activation=RELU
        ),
        conv("conv_groups_by_columns", (9, 11, 6), 40, by_columns((2, 3), (1, 2), (3, 2), (1, 2, 3, 1)), 2),
        conv("depthwise_by_columns", (7, 23, 19), 19, by_columns((3, 2), (1, 2), (2, 1), (2, 1, 1, 1)), 19),
        conv("conv_groups_wide", (3, 12, 8), 36, Window((1, 3), pads=(0, 1, 0, 1)), 2),
        conv("conv_multiplier", (7, 13, 3), 6, Window((3, 3), pads=(1, 1, 1, 1)), 3),
        conv("depthwise", (7, 23, 11), 11, Window((3, 3), pads=(1, 1, 1, 1)), 11, RELU6),
        conv("depthwise_stride", (9, 14, 24), 24, Window((3, 3), (2, 2), pads=(0, 0, 1, 1)), 24),
        conv("depthwise_dilated", (9, 9, 8), 8, Window((3, 2), (1, 2), (3, 2), (3, 2, 2, 2)), 8, Leaky(0.25)),
        conv("depthwise_whole_image", (5, 6, 9), 9, Window((5, 6)), 9),
        conv("depthwise_wide_pads", (2, 2, 3), 3, Window((2, 2), pads=(3, 3, 3, 3)), 3),
        conv("depthwise_time", (12, 1, 10), 10, Window((9, 1), pads=(4, 0, 4, 0)), 10),
    ]


def transposed(
    name: str, x: Shape, filters: int, window: Window, size: tuple[int, int], groups: int = 1, activation=None
) -> OpCase:
    rng = rng_of(name)
    w = exact(rng, filters, *window.kernel, x[2] // groups)
    op = ConvTranspose(window, size, groups, activation)
    return OpCase(name, op, (exact(rng, *x), w, exact(rng, filters)), LAYER)


def transposed_convolutions() -> list[OpCase]:
    return [
        transposed("transposed_double", (5, 7, 3), 6, Window((2, 2), (2, 2)), (10, 14)),
        transposed("transposed_same", (4, 5, 3), 9, Window((3, 3), (1, 1), pads=(1, 1, 0, 0)), (4, 5)),
        transposed(
            "transposed_odd", (5, 7, 3), 6, Window((3, 3), (2, 2), pads=(1, 1, 0, 0)), (9, 13), 1, RELU
        ),
        transposed("transposed_output_pad", (3, 4, 2), 4, Window((2, 2), (3, 3)), (11, 13)),
        transposed(
            "transposed_dilated", (5, 7, 4), 6, Window((4, 3), (3, 2), (2, 3), (2, 1, 0, 0)), (20, 21), 2
        ),
        transposed("transposed_even", (4, 4, 2), 3, Window((3, 3), (4, 4), (2, 2), (1, 0, 0, 0)), (14, 17)),
        transposed("transposed_gaps", (3, 3, 2), 3, Window((2, 1), (3, 2)), (9, 6), 1, Leaky(0.5)),
        transposed("transposed_pixel", (1, 1, 3), 10, Window((4, 4), (4, 4)), (4, 4)),
        transposed(
            "transposed_depthwise", (4, 5, 6), 6, Window((4, 4), (2, 2), pads=(1, 1, 0, 0)), (8, 10), 6
        ),
    ]


def dense(name: str, x: Shape, outputs: int, activation=None) -> OpCase:
    rng = rng_of(name)
    inputs = (exact(rng, *x), exact(rng, outputs, x[-1]), exact(rng, outputs))
    return OpCase(name, Dense(activation), inputs, LAYER)


def dense_blocked(
    name: str, x: Shape, count: int, block: int, bits: int, offsets: bool, biased: bool
) -> OpCase:
    rng = rng_of(name)
    w = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (count, x[-1]))
    held = packed(w) if bits == 4 else w.astype(np.int8)
    scales = [exact(rng, count, -(-x[-1] // block)) for _ in range(1 + offsets)]
    more = [exact(rng, count)] * biased
    op = DenseBlocked(bits, block, offsets)
    constant = (False, *(True,) * (2 + offsets + biased))
    return OpCase(name, op, (exact(rng, *x), held, *scales, *more), constant)


MATMULS: list[tuple[Shape, Shape]] = [
    ((5, 7), (7, 45)),
    ((1, 1), (1, 1)),
    ((9, 3), (3, 8)),
    ((3, 5, 7), (3, 7, 45)),
    ((3, 5, 7), (1, 7, 9)),
    ((1, 5, 7), (3, 7, 9)),
    ((5, 7), (3, 7, 9)),
    ((3, 5, 7), (7, 9)),
    ((2, 3, 5, 7), (2, 3, 7, 34)),
    ((1, 3, 5, 7), (2, 1, 7, 4)),
    ((2, 1, 5, 7), (1, 3, 7, 4)),
    ((2, 3, 5, 7), (3, 7, 4)),
    ((3, 5, 7), (2, 3, 7, 4)),
    ((2, 3, 5, 7), (7, 4)),
    ((5, 7), (2, 3, 7, 4)),
    ((2, 3, 1, 7), (2, 3, 7, 1)),
]
MATMUL_FORMS = [
    ((5, 7), (9, 7), Operands(transposed=True)),
    ((3, 5, 7), (3, 6, 7), Operands(transposed=True)),
    ((2, 3, 5, 8), (2, 1, 9, 8), Operands(transposed=True)),
    ((5, 4, 7), (9, 4, 7), Operands(transposed=True, heads=True)),
    ((5, 4, 7), (9, 2, 7), Operands(transposed=True, heads=True)),
    ((5, 4, 9), (9, 4, 7), Operands(heads=True)),
    ((5, 6, 9), (9, 2, 34), Operands(heads=True)),
]


def matrices() -> list[OpCase]:
    cases = [
        dense("dense_vector", (37,), 45),
        dense("dense_one", (1,), 1, RELU),
        dense("dense_small", (5,), 3, Leaky(0.125)),
        dense("dense_blocks", (9,), 75, RELU6),
        dense("dense_lines", (3, 37), 13, RELU),
    ]
    sizes = (((32,), 9, 16), ((3, 37), 16, 10), ((5, 7), 3, 7), ((2, 5), 8, 1))
    forms = ((4, False, True), (4, True, False), (8, True, True), (8, False, False))
    for (k, size), form in product(enumerate(sizes), forms):
        cases.append(dense_blocked(f"blocked{k}_{form[0]}_{form[1]:d}", *size, *form))
    rng = rng_of("matmul")
    for k, (a, b) in enumerate(MATMULS):
        cases.append(OpCase(f"matmul{k}", MatMul(), (exact(rng, *a), exact(rng, *b))))
    for k, constant in ((3, (True, False)), (7, (False, True)), (6, (True, False)), (13, (False, True))):
        a, b = MATMULS[k]
        cases.append(OpCase(f"matmul{k}_constant", MatMul(), (exact(rng, *a), exact(rng, *b)), constant))
    for k, (a, b, form) in enumerate(MATMUL_FORMS):
        cases.append(OpCase(f"matmul_form{k}", MatMul(form), (exact(rng, *a), exact(rng, *b))))
    a, b, form = MATMUL_FORMS[4]
    cases.append(
        OpCase("matmul_form4_constant", MatMul(form), (exact(rng, *a), exact(rng, *b)), (False, True))
    )
    return cases


def average(name: str, x: Shape, window: Window, counted=(0, 0, 0, 0)) -> OpCase:
    return OpCase(name, AveragePool(window, counted), (exact(rng_of(name), *x),))


def pools() -> list[OpCase]:
    return [
        average("average_plain", (8, 12, 11), Window((2, 2), (2, 2))),
        average("average_global", (7, 9, 20), Window((7, 9))),
        average("average_same", (7, 9, 3), Window((3, 3), pads=(1, 1, 1, 1))),
        average("average_by_columns", (7, 9, 11), by_columns((3, 2), (1, 2), (1, 2), (1, 1, 1, 1))),
        average("average_counted", (7, 9, 8), Window((3, 3), pads=(1, 1, 1, 1)), (1, 1, 1, 1)),
        average("average_ceil", (8, 9, 3), Window((3, 3), (2, 2), pads=(1, 0, 2, 2)), (1, 0, 1, 1)),
        average("average_dilated", (9, 13, 11), Window((3, 2), (2, 1), (1, 2), (1, 1, 2, 1)), (1, 0, 0, 1)),
        average("average_far_dilated", (9, 13, 1), Window((2, 2), (1, 1), (4, 5))),
        average("average_pixel", (1, 1, 5), Window((1, 1))),
        average("average_time", (16, 1, 9), Window((4, 1), (3, 1))),
    ]
