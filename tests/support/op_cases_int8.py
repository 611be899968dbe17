# SPDX-License-Identifier: Apache-2.0
"""Cases of every int8 operator: sizes that divide nothing, extreme values, every form of requantization."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ops.affine import AffineInt8
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8
from mmcc.ops.layer_norm import LayerNormInt8, normal_bits
from mmcc.ops.matmul import MatMulInt8, Operands
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.quantize import FlipSign
from mmcc.ops.reduce import ArgMax, MeanInt8
from mmcc.ops.requantize import multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.resize import ResizeInt8
from mmcc.ops.softmax import SoftmaxInt8, exp_table
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_cases_int8_layers import (
    CONSTANTS,
    conv_cases,
    depthwise_cases,
    int8,
    pads,
    pointwise_cases,
    transposed_cases,
)
from op_cases_int16 import (
    int16_elementwise_cases,
    int16_layer_cases,
    int16_layer_norm_cases,
    int16_matmul_cases,
    int16_mean_cases,
    int16_piecewise_cases,
    int16_softmax_cases,
)
from op_cases_recurrent_int8 import recurrent_int8_cases
from op_cases_tiled import tiled_cases


def add(name: str, a: tuple[int, ...], b: tuple[int, ...], constant: int | None = None, **more) -> OpCase:
    rng = rng_of(name)
    shift = more.pop("shift", 31)
    multipliers = more.pop("multipliers", (1 << 30, (1 << 30) + 12345))
    op = AddInt8(more.pop("zeros", (3, -4)), multipliers, shift, more.pop("y_zero", 5), **more)
    return OpCase(name, op, (int8(rng, *a), int8(rng, *b)), tuple(k == constant for k in range(2)))


def mul(name: str, a: tuple[int, ...], b: tuple[int, ...], scale: float, constant: int | None = None, **more):
    rng = rng_of(name)
    op = MulInt8(more.pop("zeros", (3, -4)), *multiplier_and_shift(scale), more.pop("y_zero", 5), **more)
    return OpCase(name, op, (int8(rng, *a), int8(rng, *b)), tuple(k == constant for k in range(2)))


BROADCASTS = (
    ((5, 7, 6), (5, 7, 6), None),
    ((5, 7, 6), (1, 1, 6), None),
    ((5, 7, 6), (6,), 1),
    ((5, 7, 6), (1,), 1),
    ((5, 7, 6), (5, 1, 6), None),
    ((5, 7, 6), (5, 7, 1), None),
    ((1, 7, 6), (5, 1, 1), None),
    ((1, 6, 4), (5, 6, 4), 0),
    ((5, 6), (6,), 1),
    ((9,), (9,), None),
    ((1, 1, 1), (1, 1, 1), None),
    ((3, 4, 2, 5), (3, 4, 2, 5), None),
)


def elementwise_cases() -> list[OpCase]:
    cases: list[OpCase] = []
    for k, (a, b, constant) in enumerate(BROADCASTS):
        cases += [add(f"add_{k}", a, b, constant), mul(f"mul_{k}", a, b, 0.01, constant)]
    for shift in (1, 5, 8, 9, 30, 32, 40, 62):
        multipliers = (min(1 << shift, (1 << 31) - 1) // 2 + 1, -(min(1 << shift, (1 << 31) - 1) // 3))
        cases.append(add(f"add_shift_{shift}", (3, 5, 7), (3, 5, 7), shift=shift, multipliers=multipliers))
    cases.append(add("add_apart", (3, 5, 7), (3, 5, 7), shift=24, multipliers=(40 << 24, 5033165)))
    cases.append(add("add_huge", (3, 5, 7), (3, 5, 7), shift=2, multipliers=((1 << 31) - 1, (1 << 31) - 1)))
    cases.append(add("add_low", (3, 5, 7), (3, 5, 7), low=-9, high=33, zeros=(-128, 127), y_zero=-128))
    cases += [
        mul(f"mul_scale_{scale:g}", (3, 4, 5), (3, 4, 5), scale) for scale in (1e-6, 0.3, 1.0, 7.0, 1e6, 0)
    ]
    cases.append(mul("mul_low", (3, 4, 5), (3, 4, 5), 0.01, low=-3, high=70, zeros=(-128, 127), y_zero=-3))
    for shape in ((5, 7, 6), (5, 6), (9,), (3, 2, 2, 3)):
        rng = rng_of(f"lookup{shape}")
        name = "x".join(map(str, shape))
        cases.append(OpCase(f"lookup_{name}", Lookup(), (int8(rng, *shape), int8(rng, 256)), (False, True)))
        cases.append(OpCase(f"flip_{name}", FlipSign(), (int8(rng, *shape),)))
        cases.append(OpCase(f"flip_back_{name}", FlipSign(), (int8(rng, *shape).view(np.uint8),)))
    return cases


def affine_cases() -> list[OpCase]:
    """Slopes of either sign, next to nothing and steep; one line for each channel or two."""
    cases: list[OpCase] = []
    for shape, lines in product(((5, 7, 6), (4, 1, 9), (6, 5), (13,), (3, 2, 3, 4)), (1, 2)):
        name = f"affine_{'x'.join(map(str, shape))}_{lines}"
        rng = rng_of(name)
        channels, each = shape[-1], []
        for _ in range(lines):
            slopes = rng.normal(0, 1, channels) * rng.choice([0.001, 0.5, 3], channels)
            each += [np.rint(slopes * 2**20).astype(np.int32), rng.integers(-(2**27), 2**27, channels)]
        knees = [int8(rng, channels)] if lines == 2 else []
        operands = [*each[:2], *knees, *each[2:]]
        numbers = [a if a.dtype == np.int8 else a.astype(np.int32) for a in operands]
        op = AffineInt8(20, *((-77, 100) if lines == 2 else ()))
        cases.append(OpCase(name, op, (int8(rng, *shape), *numbers), (False, *[True] * len(numbers))))
    far = [np.array([2**24 - 1, 1 - 2**24], np.int32), np.array([-128, 127], np.int32)]
    x = int8(rng_of("far"), 4, 5, 2)
    cases.append(OpCase("affine_far", AffineInt8(0), (x, *far), (False, True, True)))
    return cases


WINDOWS = {
    "2": Window((2, 2), (2, 2)),
    "3": Window((3, 3), (2, 2), (1, 1), pads(1, 1, 1, 1)),
    "3x1": Window((3, 1), (1, 3)),
    "far": Window((2, 3), (3, 1), (1, 1), pads(1, 2, 1, 2)),
    "dilated": Window((3, 2), (1, 2), (2, 3), pads(2, 1, 0, 3)),
    "1": Window((1, 1)),
    "outside": Window((2, 2), (1, 2), (1, 1), pads(3, 3, 2, 4)),
    "tall": Window((9, 2), (1, 1), (1, 1), pads(4, 0, 4, 1)),
}


POOL_SHAPES = ((8, 9, 11), (8, 10, 4), (7, 7, 8))


def pool_cases() -> list[OpCase]:
    cases: list[OpCase] = []
    for (name, window), shape, dtype in product(
        WINDOWS.items(), POOL_SHAPES, (np.int8, np.float32, np.uint8)
    ):
        rng = rng_of(f"max{name}{shape}")
        x = int8(rng, *shape)
        case = f"max_pool_{name}_{shape[2]}_{np.dtype(dtype).name}"
        cases.append(OpCase(case, MaxPool(window), (x.astype(dtype),)))
    cases += average_pool_cases()
    return [*cases, OpCase("max_pool_whole", MaxPool(Window((5, 6))), (int8(rng_of("w"), 5, 6, 17),))]


def average_pool_cases() -> list[OpCase]:
    cases: list[OpCase] = []
    for (name, window), shape in product(WINDOWS.items(), POOL_SHAPES):
        rng = rng_of(f"average{name}{shape}")
        taps = window.kernel[0] * window.kernel[1]
        for kind, counted, scale in (
            ("plain", None, 0.4),
            ("counted", (0, 0, 0, 0), 0.9),
            ("pads", window.pads, 1.7),
            ("wide", window.pads, 1e6),
        ):
            counts = np.arange(1, taps + 1) if counted is not None else np.array([taps])
            table = multipliers_and_shifts(scale / counts)
            op = AveragePoolInt8(
                window, -3, 7, counted or (0, 0, 0, 0), *((-90, 90) if kind == "pads" else ())
            )
            case = f"average_pool_{name}_{shape[2]}_{kind}"
            cases.append(OpCase(case, op, (int8(rng, *shape), *table), CONSTANTS))
    return cases


def mean(name: str, shape: tuple[int, ...], axes: tuple[int, ...], scale: float = 0.8, **more) -> OpCase:
    rng = rng_of(name)
    count = int(np.prod([shape[axis] for axis in axes]))
    op = MeanInt8(
        axes, more.pop("x_zero", -5), more.pop("y_zero", 3), *multiplier_and_shift(scale / count), **more
    )
    return OpCase(name, op, (int8(rng, *shape),))


def reduce_cases() -> list[OpCase]:
    shapes = ((6,), (5, 7), (4, 5, 11), (3, 4, 2, 5), (3, 2, 3, 4, 2))
    cases: list[OpCase] = []
    for shape in shapes:
        subsets = product((False, True), repeat=len(shape))
        for axes in (tuple(k for k, on in enumerate(bits) if on) for bits in subsets):
            if axes:
                cases.append(mean(f"mean_{len(shape)}_{''.join(map(str, axes))}", shape, axes))
        for axis, smallest, last in product(range(len(shape)), (False, True), (False, True)):
            rng = rng_of(f"arg{shape}{axis}")
            x = (int8(rng, *shape) >> 5).astype(np.int8)  # many equal ones
            name = f"arg_{len(shape)}_{axis}_{smallest:d}{last:d}"
            cases.append(OpCase(name, ArgMax(axis, smallest, last), (x,)))
            cases.append(OpCase(f"{name}_float", ArgMax(axis, smallest, last), (x.astype(np.float32),)))
    cases += [mean(f"mean_scale_{scale:g}", (4, 4, 9), (0, 1), scale) for scale in (16.0, 1e6, 1e-7)]
    cases.append(mean("mean_low", (4, 4, 9), (0, 1), low=-7, high=20, x_zero=-128, y_zero=-7))
    return cases


def softmax_cases() -> list[OpCase]:
    cases: list[OpCase] = []
    shapes = ((10,), (4, 7), (3, 4, 6), (2, 3, 2, 5), (1,), (1000,))
    for shape, scale, inverse in product(shapes, (0.003, 0.1, 2.0), (256.0, 100.5, 3.0)):
        rng = rng_of(f"softmax{shape}{scale}")
        op = SoftmaxInt8(round(inverse * 65536), -128 if inverse == 256.0 else -7)
        name = f"softmax_{'x'.join(map(str, shape))}_{scale:g}_{inverse:g}"
        cases.append(OpCase(name, op, (int8(rng, *shape), exp_table(scale).astype(np.int32)), (False, True)))
    rng = rng_of("fine")
    table = exp_table(0.05).astype(np.int32)
    return [
        *cases,
        OpCase("softmax_fine", SoftmaxInt8(round(2e5 * 65536), 0), (int8(rng, 9), table), (False, True)),
    ]


def matmul(name: str, a: tuple[int, ...], b: tuple[int, ...], operands: Operands, scale: float, **more):
    rng = rng_of(name)
    op = MatMulInt8(
        operands, more.pop("zeros", (3, -4)), *multiplier_and_shift(scale), more.pop("y_zero", 5), **more
    )
    return OpCase(name, op, (int8(rng, *a), int8(rng, *b)))


def matmul_cases() -> list[OpCase]:
    """In every layout, of lengths that divide nothing or that kernels like, zero points at both ends."""
    plain, transposed = Operands(), Operands(transposed=True)
    heads, queries = Operands(heads=True), Operands(transposed=True, heads=True)
    cases = [
        matmul("matmul_plain", (5, 7), (7, 9), plain, 0.01),
        matmul("matmul_long", (3, 131), (131, 17), plain, 0.001),
        matmul("matmul_batch", (3, 5, 16), (3, 16, 12), plain, 0.005, zeros=(-128, 0)),
        matmul("matmul_four", (2, 3, 5, 8), (2, 1, 8, 6), plain, 0.005),
        matmul("matmul_transposed", (5, 7), (9, 7), transposed, 0.01, zeros=(0, 127)),
        matmul("matmul_transposed_batch", (3, 5, 16), (3, 12, 16), transposed, 0.005),
        matmul("matmul_transposed_long", (3, 2, 150), (3, 13, 150), transposed, 0.001),
        matmul("matmul_heads", (5, 4, 33), (33, 4, 16), heads, 0.003, zeros=(-128, 127)),
        matmul("matmul_heads_group", (5, 6, 9), (9, 2, 7), heads, 0.01, low=-20, high=77),
        matmul("matmul_queries", (5, 4, 16), (33, 4, 16), queries, 0.004, zeros=(2, 2)),
        matmul("matmul_queries_odd", (6, 3, 19), (7, 3, 19), queries, 0.004, zeros=(127, -128)),
        matmul("matmul_queries_group", (5, 4, 12), (9, 2, 12), queries, 0.02, low=-128, high=-3),
    ]
    cases += [matmul(f"matmul_scale_{s:g}", (4, 20), (20, 6), plain, s) for s in (16.0, 1e5, 1e-7)]
    return cases


def normalized(name: str, shape: tuple[int, ...], **more) -> OpCase:
    rng = rng_of(name)
    centred, epsilon, spread = more.pop("centred", True), more.pop("epsilon", 1e-5), more.pop("spread", 128)
    length, fraction = shape[-1], more.pop("fraction", 24)
    shift = normal_bits(length, centred) + more.pop("bits", 24) - 32
    x = np.clip(rng.normal(9, spread / 3, shape), -128, 127).astype(np.int8)
    scale = rng.uniform(-60, 60, length) * (1 if centred else length**0.5)
    scale, bias = scale * 2.0 ** (shift + 32 - normal_bits(length, centred)), rng.uniform(-90, 90, length)
    scale, bias = (
        np.clip(scale, -(2**31) + 1, 2**31 - 1).astype(np.int32),
        (bias * 2.0**shift).astype(np.int32),
    )
    op = LayerNormInt8(centred, 9, round(epsilon * length**2 * 2.0**fraction), fraction, shift, **more)
    return OpCase(name, op, (x, scale, bias), (False, True, True))


def layer_norm_cases() -> list[OpCase]:
    """Short and long rows, rows that hardly differ or not at all, epsilons of every size."""
    cases = [
        normalized("norm_row", (64,)),
        normalized("norm_rows", (5, 7)),
        normalized("norm_columns", (3, 4, 33)),
        normalized("norm_lines", (2, 3, 2, 5)),
        normalized("norm_one", (4, 1), bits=16),
        normalized("norm_long", (2, 1027), low=-50, high=100),
        normalized("norm_flat", (6, 16), spread=1.5),
        normalized("norm_equal", (6, 16), spread=0, epsilon=0),
        normalized("norm_near", (20, 3), spread=2, epsilon=0),
        normalized("norm_wide_epsilon", (5, 8), epsilon=1e7, fraction=10),
        normalized("norm_rms", (5, 24), centred=False, bits=20),
        normalized("norm_rms_small", (9, 3), centred=False, spread=1, bits=21, epsilon=0),
        normalized("norm_rms_epsilon", (9, 3), centred=False, epsilon=1e6, fraction=8, low=-5, high=9),
    ]
    return cases


def resize_cases() -> list[OpCase]:
    """Up and down, taps outside the image, negative weights, ratios of scales of every size, clamped."""
    cases: list[OpCase] = []
    sizes = (((4, 5, 6), (8, 10)), ((7, 6, 3), (5, 9)), ((1, 5, 4), (3, 5)), ((6, 6, 5), (1, 1)))
    for (shape, size), limits, ratio in product(sizes, ((), (-90, 101)), (1.0, 0.013, 200.0)):
        name = f"resize_{'x'.join(map(str, shape))}{'_clamped' * bool(limits)}_{ratio:g}"
        rng = rng_of(name)
        weights, firsts = [], []
        for new, old in zip(size, shape, strict=False):
            raw = rng.uniform(-0.2, 1, (new, 2))
            weights.append(raw / np.abs(raw).sum(1, keepdims=True))
            ends = np.sort(rng.integers(-2, old, new))
            firsts.append(tuple(int(first) for first in ends))
        shift = 29 - int(np.ceil(np.log2(ratio)))
        rows = np.rint(weights[0] * 2**29).astype(np.int32)
        cols = np.rint(weights[1] * ratio * 2.0**shift).astype(np.int32)
        op = ResizeInt8(*firsts, -7, 5, shift, *limits)
        cases.append(OpCase(name, op, (int8(rng, *shape), rows, cols), (False, True, True)))
    return cases


FAMILIES = {
    "pointwise": pointwise_cases,
    "conv": conv_cases,
    "depthwise": depthwise_cases,
    "transposed": transposed_cases,
    "tiled": tiled_cases,
    "elementwise": elementwise_cases,
    "affine": affine_cases,
    "resize": resize_cases,
    "pool": pool_cases,
    "reduce": reduce_cases,
    "softmax": softmax_cases,
    "matmul": matmul_cases,
    "layer_norm": layer_norm_cases,
    "recurrent_int8": recurrent_int8_cases,
    "int16_layers": int16_layer_cases,
    "int16_elementwise": int16_elementwise_cases,
    "int16_means": int16_mean_cases,
    "int16_piecewise": int16_piecewise_cases,
    "int16_softmax": int16_softmax_cases,
    "int16_layer_norm": int16_layer_norm_cases,
    "int16_matmul": int16_matmul_cases,
}
