# SPDX-License-Identifier: Apache-2.0
"""Cases of int8 convolutions and dense layers, with results in int8 and in float."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import ConvInt8
from mmcc.ops.conv_transpose import ConvTransposeInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.ops.window import Window
from op_case import OpCase, rng_of

CONSTANTS = (False, True, True, True, True)


SCALES = {"high": (0.0001, 0.2), "left": (0.0001, 3.0), "wide": (1e3, 1e7), "tiny": (1e-9, 1e-3)}


def int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random values, the extremes more often than chance has them."""
    values = rng.integers(-128, 128, shape)
    extremes = rng.choice([-128, 127], shape)
    return np.where(rng.random(shape) < 0.15, extremes, values).astype(np.int8)


def per_filter(
    rng: np.random.Generator, count: int, form: str, bias: int = 2000, bits: int = 0
) -> tuple[np.ndarray, ...]:
    """Bias in units of 2^-bits, multiplier and shift; now and then a scale of 0."""
    low, high = SCALES[form]
    scales = np.exp(rng.uniform(np.log(low), np.log(high), count))
    scales[rng.random(count) < 0.05] = 0
    low, high = -bias << bits, (bias << bits) + 1
    return rng.integers(low, high, count).astype(np.int32), *multipliers_and_shifts(scales / 2**bits)


def float_filter(rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """Bias in units of products, and what turns sums into floats: a factor and an offset."""
    factor = np.exp(rng.uniform(-9, -2, count)).astype(np.float32)
    bias, offset = rng.integers(-2000, 2001, count), rng.normal(0, 2, count)
    return bias.astype(np.int32), factor, offset.astype(np.float32)


def conv(
    name: str,
    x: tuple[int, int, int],
    filters: int,
    window: Window,
    form: str = "high",
    zeros: tuple[int, int] = (-7, 11),
    **more,
) -> OpCase:
    rng = rng_of(name)
    groups = more.get("groups", 1)
    w = int8(rng, filters, *window.kernel, x[2] // groups)
    op = ConvInt8(window, *zeros, **more)
    numbers = per_filter(rng, filters, form, bits=op.bias_bits)
    return OpCase(name, op, (int8(rng, *x), w, *numbers), CONSTANTS)


def conv_to_float(name: str, x: tuple[int, int, int], filters: int, window: Window, **more) -> OpCase:
    rng = rng_of(name)
    op = ConvInt8ToFloat(window, more.pop("x_zero", -7), **more)
    w = int8(rng, filters, *window.kernel, x[2] // op.groups)
    return OpCase(name, op, (int8(rng, *x), w, *float_filter(rng, filters)), CONSTANTS)


def dense(name: str, x: tuple[int, ...], filters: int, form: str = "high", **more) -> OpCase:
    rng = rng_of(name)
    op = DenseInt8(more.pop("x_zero", 3), more.pop("y_zero", -5), **more)
    w = int8(rng, filters, x[-1])
    numbers = per_filter(rng, filters, form, bits=op.bias_bits)
    return OpCase(name, op, (int8(rng, *x), w, *numbers), CONSTANTS)


def dense_to_float(name: str, x: tuple[int, ...], filters: int, **more) -> OpCase:
    rng = rng_of(name)
    op = DenseInt8ToFloat(more.pop("x_zero", 3), **more)
    w = int8(rng, filters, x[-1])
    return OpCase(name, op, (int8(rng, *x), w, *float_filter(rng, filters)), CONSTANTS)


def transposed(
    name: str,
    x: tuple[int, int, int],
    filters: int,
    window: Window,
    size: tuple[int, int],
    form: str = "high",
    **more,
) -> OpCase:
    rng = rng_of(name)
    w = int8(rng, filters, *window.kernel, x[2] // more.get("groups", 1))
    op = ConvTransposeInt8(window, size, more.pop("x_zero", -3), more.pop("y_zero", 4), **more)
    numbers = per_filter(rng, filters, form, bits=op.bias_bits)
    return OpCase(name, op, (int8(rng, *x), w, *numbers), CONSTANTS)


def transposed_to_float(
    name: str, x: tuple[int, int, int], filters: int, window: Window, size: tuple[int, int], **more
) -> OpCase:
    rng = rng_of(name)
    op = ConvTransposeInt8ToFloat(window, size, more.pop("x_zero", -3), **more)
    w = int8(rng, filters, *window.kernel, x[2] // op.groups)
    return OpCase(name, op, (int8(rng, *x), w, *float_filter(rng, filters)), CONSTANTS)


def pads(top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
    return top, left, bottom, right


def pointwise_cases() -> list[OpCase]:
    one = Window((1, 1))
    cases = [
        conv(f"pointwise_{h}x{w}x{c}_{f}", (h, w, c), f, one)
        for h, w, c, f in (
            (5, 7, 8, 8),
            (4, 4, 3, 5),
            (3, 1, 6, 4),
            (1, 1, 1, 1),
            (2, 5, 10, 7),
            (6, 6, 16, 3),
        )
    ]
    cases += [conv(f"pointwise_{form}", (3, 5, 12), 6, one, form) for form in SCALES]
    cases += [
        conv(f"pointwise_zeros_{a}_{b}", (2, 3, 8), 5, one, zeros=(a, b))
        for a, b in product((-128, 0, 127), (-128, 127))
    ]
    return [
        *cases,
        conv("pointwise_stride", (7, 8, 4), 6, Window((1, 1), (2, 3))),
        conv("pointwise_relu", (3, 4, 5), 6, one, low=11, high=90),
        conv("pointwise_w_zero", (3, 5, 6), 5, one, w_zero=3),
        conv("pointwise_w_zero_far", (3, 5, 8), 5, one, w_zero=-128, form="left"),
        conv("pointwise_padded", (3, 4, 5), 6, Window((1, 1), (1, 1), (1, 1), pads(1, 2, 0, 1))),
        conv("pointwise_groups", (3, 4, 6), 9, one, groups=3),
        dense("dense", (37,), 11),
        dense("dense_1", (1,), 1),
        dense("dense_wide", (16,), 10, "wide", x_zero=-128, y_zero=127),
        dense("dense_left", (40,), 8, "left", x_zero=127),
        dense("dense_rows", (6, 20), 9, low=-5),
        dense("dense_w_zero", (5, 12), 6, w_zero=-100),
        *(dense(f"dense_fraction_{form}", (40,), 9, form, bias_bits=5) for form in ("high", "left", "wide")),
        conv("pointwise_fraction", (3, 5, 12), 6, one, bias_bits=3),
        conv("pointwise_fraction_left", (3, 4, 5), 6, one, "left", bias_bits=9),
        conv("pointwise_fraction_w_zero", (3, 4, 5), 6, one, bias_bits=8, w_zero=-128, low=-100, high=99),
        dense_to_float("dense_to_float", (37,), 11),
        dense_to_float("dense_to_float_1", (1,), 1, x_zero=-128),
        dense_to_float("dense_to_float_rows", (6, 20), 9, activation=Leaky(0.125)),
        dense_to_float("dense_to_float_w_zero", (5, 12), 6, w_zero=-100, activation=Clamp(0.0, 6.0)),
        conv_to_float("pointwise_to_float", (4, 5, 16), 7, one),
        conv_to_float("pointwise_to_float_odd", (3, 1, 6), 4, one, activation=Clamp(0.0)),
        conv_to_float("pointwise_to_float_stride", (7, 8, 4), 6, Window((1, 1), (2, 3)), w_zero=7),
    ]


def conv_cases() -> list[OpCase]:
    three, same = Window((3, 3)), Window((3, 3), pads=pads(1, 1, 1, 1))
    far = Window((3, 3), (2, 2), (1, 1), pads(4, 3, 5, 6))
    return [
        conv("conv_first", (9, 10, 3), 8, Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1))),
        conv("conv_first_odd", (7, 9, 3), 5, same, "left"),
        conv("conv_kws", (12, 8, 1), 7, Window((10, 4), (2, 2), (1, 1), pads(4, 1, 5, 1))),
        conv("conv_patch_dilated", (9, 11, 2), 6, Window((3, 3), (1, 2), (2, 3), pads(2, 3, 2, 3))),
        conv("conv_patch_w_zero", (6, 7, 3), 6, same, w_zero=77),
        conv("conv_patch_far", (4, 5, 2), 5, far, "wide"),
        conv("conv_patch_column", (9, 1, 4), 6, Window((3, 1), (2, 1), (1, 1), pads(1, 0, 1, 0))),
        conv("conv_patch_one", (1, 1, 3), 4, same),
        conv("conv_general", (6, 7, 20), 9, same),
        conv("conv_general_even", (6, 8, 20), 8, same, zeros=(-128, -128)),
        conv("conv_general_valid", (7, 6, 24), 5, three, "left"),
        conv("conv_general_odd", (5, 6, 19), 6, same, "wide"),
        conv("conv_general_far", (4, 5, 24), 6, far),
        conv("conv_general_stride", (9, 10, 20), 4, Window((3, 3), (3, 2), (1, 1), pads(1, 0, 1, 2))),
        conv("conv_general_dilated", (9, 12, 20), 6, Window((3, 3), (1, 1), (2, 3), pads(2, 3, 2, 3))),
        conv("conv_general_w_zero", (5, 6, 20), 6, same, w_zero=-90),
        conv("conv_general_w_zero_valid", (5, 6, 20), 6, three, w_zero=100),
        conv("conv_general_low", (5, 6, 20), 6, same, low=-4, high=60),
        conv("conv_general_whole", (5, 6, 18), 6, Window((5, 6))),
        conv("conv_general_column", (9, 1, 60), 6, Window((3, 1), pads=pads(2, 0, 0, 0))),
        conv("conv_general_1", (1, 1, 24), 3, same),
        conv("conv_tall", (13, 4, 6), 3, Window((11, 3), pads=pads(5, 1, 5, 1))),
        conv("conv_groups", (6, 7, 12), 8, same, groups=4),
        conv("conv_groups_odd", (5, 5, 9), 15, same, groups=3),
        conv("conv_groups_valid", (5, 6, 8), 12, three, groups=2),
        conv("conv_groups_one_filter", (5, 6, 8), 4, same, groups=4),
        conv("conv_groups_w_zero", (5, 6, 8), 6, same, groups=2, w_zero=120),
        conv("conv_patch_fraction", (7, 9, 3), 5, same, bias_bits=6),
        conv("conv_general_fraction", (6, 7, 20), 9, same, bias_bits=4),
        conv("conv_general_fraction_wide", (5, 6, 20), 6, same, "wide", bias_bits=7),
        conv("conv_groups_fraction", (6, 7, 12), 8, same, "left", groups=4, bias_bits=5),
        conv_to_float("conv_patch_to_float", (7, 9, 3), 5, same),
        conv_to_float("conv_general_to_float", (6, 7, 20), 9, same, activation=Clamp(0.0, 6.0)),
        conv_to_float("conv_general_to_float_w_zero", (5, 6, 20), 6, three, w_zero=100),
        conv_to_float("conv_groups_to_float", (6, 7, 12), 8, same, groups=4, activation=Leaky(0.3)),
        conv_to_float("conv_groups_one_filter_to_float", (5, 6, 8), 4, same, groups=4),
    ]


def depthwise_cases() -> list[OpCase]:
    same = Window((3, 3), pads=pads(1, 1, 1, 1))
    down = Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1))
    cases = [
        conv(f"depthwise_{h}x{w}x{c}", (h, w, c), c, same, groups=c)
        for h, w, c in (
            (5, 9, 6),
            (4, 4, 8),
            (3, 3, 5),
            (2, 2, 4),
            (6, 7, 1 + 2),
            (3, 5, 2),
            (1, 13, 4),
            (7, 1, 5),
        )
    ]
    cases += [conv(f"depthwise_{form}", (4, 5, 6), 6, same, form, groups=6) for form in SCALES]
    return [
        *cases,
        conv("depthwise_1", (1, 1, 3), 3, same, groups=3),
        conv("depthwise_valid", (6, 8, 5), 5, Window((3, 3)), groups=5),
        conv("depthwise_stride_2", (8, 14, 6), 6, down, groups=6),
        conv("depthwise_stride_3", (8, 14, 4), 4, Window((3, 3), (3, 3), (1, 1), pads(1, 1, 1, 1)), groups=4),
        conv("depthwise_dilated", (9, 13, 4), 4, Window((3, 3), (1, 1), (2, 3), pads(2, 3, 2, 3)), groups=4),
        conv("depthwise_5", (7, 9, 4), 4, Window((5, 5), pads=pads(2, 2, 2, 2)), groups=4),
        conv("depthwise_7", (7, 9, 3), 3, Window((7, 7), (2, 2), (1, 1), pads(3, 3, 3, 3)), groups=3),
        conv("depthwise_row", (5, 12, 3), 3, Window((1, 4), pads=pads(0, 3, 0, 0)), groups=3),
        conv("depthwise_column", (9, 1, 6), 6, Window((5, 1), (1, 1), (2, 1), pads(8, 0, 0, 0)), groups=6),
        conv("depthwise_whole", (5, 6, 7), 7, Window((5, 6)), groups=7),
        conv("depthwise_broad", (4, 14, 3), 3, Window((3, 11), pads=pads(1, 5, 1, 5)), groups=3),
        conv("depthwise_tall", (20, 3, 3), 3, Window((18, 2), pads=pads(1, 1, 1, 0)), groups=3),
        conv("depthwise_far", (4, 5, 3), 3, Window((3, 3), (2, 2), (1, 1), pads(4, 3, 5, 6)), groups=3),
        conv("depthwise_multiplier", (5, 7, 3), 6, same, groups=3),
        conv("depthwise_multiplier_1", (5, 7, 1 + 1), 10, down, groups=2),
        conv("depthwise_many", (3, 4, 300), 300, same, groups=300),
        conv("depthwise_many_multiplied", (3, 4, 150), 300, same, groups=150),
        *(conv(f"depthwise_fraction_{n}", (5, 9, n), n, same, groups=n, bias_bits=8) for n in (6, 8)),
        conv("depthwise_fraction_wide", (5, 7, 3), 6, same, "wide", groups=3, bias_bits=2),
        conv_to_float("depthwise_to_float", (5, 9, 6), 6, same, groups=6),
        conv_to_float("depthwise_to_float_tall", (20, 3, 3), 3, Window((18, 2)), groups=3, x_zero=127),
        conv_to_float("depthwise_to_float_multiplier", (5, 7, 3), 6, down, groups=3, activation=Clamp(0.0)),
        conv("depthwise_w_zero", (4, 6, 5), 5, same, groups=5, w_zero=100),
        conv("depthwise_low", (4, 6, 5), 5, same, groups=5, low=-100, high=100, zeros=(127, -100)),
    ]


def transposed_cases() -> list[OpCase]:
    return [
        transposed("transposed", (4, 5, 6), 7, Window((3, 3), (2, 2), (1, 1), pads(1, 1, 0, 0)), (8, 10)),
        transposed("transposed_2", (3, 4, 5), 4, Window((2, 2), (2, 2)), (6, 8), "left", x_zero=-128),
        transposed("transposed_1", (5, 4, 3), 5, Window((3, 3), pads=pads(1, 1, 1, 1)), (5, 4), "wide"),
        transposed("transposed_4", (3, 3, 8), 3, Window((4, 4), (3, 3), (1, 1), pads(1, 0, 0, 0)), (9, 10)),
        transposed(
            "transposed_dilated", (4, 4, 3), 5, Window((3, 2), (2, 3), (2, 2), pads(2, 1, 0, 0)), (9, 12)
        ),
        transposed("transposed_groups", (3, 4, 6), 9, Window((3, 3), (2, 2)), (7, 9), groups=3),
        transposed(
            "transposed_depthwise",
            (3, 4, 5),
            5,
            Window((4, 4), (2, 2), (1, 1), pads(1, 1, 1, 1)),
            (6, 8),
            groups=5,
        ),
        transposed("transposed_gap", (3, 3, 4), 4, Window((1, 1), (2, 2)), (6, 6), low=-20, high=99),
        transposed("transposed_larger", (2, 2, 4), 4, Window((2, 2), (2, 2)), (7, 6)),
        transposed("transposed_w_zero", (3, 4, 5), 4, Window((3, 2), (2, 2)), (7, 8), w_zero=-90),
        transposed("transposed_fraction", (3, 4, 5), 4, Window((2, 2), (2, 2)), (6, 8), bias_bits=7),
        transposed_to_float("transposed_to_float", (4, 5, 6), 7, Window((3, 3), (2, 2)), (9, 11)),
        transposed_to_float(
            *("transposed_to_float_groups", (3, 4, 6), 9, Window((3, 3), (2, 2)), (7, 9)),
            groups=3,
            w_zero=11,
            activation=Leaky(0.5),
        ),
    ]
