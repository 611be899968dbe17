# SPDX-License-Identifier: Apache-2.0
"""Cases of 16x8: integers of 16 bits, weights of 8."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ops.int16 import AddInt16, ConvInt16, DenseInt16, MeanInt16, MulInt16, RescaleInt16
from mmcc.ops.layer_norm import LayerNormInt16, normal_bits
from mmcc.ops.matmul import MatMulInt16, Operands
from mmcc.ops.piecewise import EVERY_16, PiecewiseInt16
from mmcc.ops.quantize import Quantize
from mmcc.ops.requantize import multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.softmax import SoftmaxInt16, power_rate
from mmcc.ops.window import Window
from mmcc.passes.piecewise import pieces_of
from op_case import OpCase, rng_of

CONSTANTS = (False, True, True, True, True)
SCALES = {"high": (1e-6, 0.2), "left": (1e-3, 1.9), "wide": (1e2, 1e6), "tiny": (1e-12, 1e-6)}


def int16(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random values, the extremes more often than chance has them."""
    values, ends = rng.integers(-(2**15), 2**15, shape), rng.choice([-(2**15), 2**15 - 1], shape)
    return np.where(rng.random(shape) < 0.15, ends, values).astype(np.int16)


def _filters(rng: np.random.Generator, shape: tuple[int, ...], form: str) -> tuple[np.ndarray, ...]:
    low, high = SCALES[form]
    most = 127 if form != "left" else 2
    w = rng.integers(-most, most + 1, shape).astype(np.int8)
    scale = np.exp(rng.uniform(np.log(low), np.log(high), shape[0]))
    scale[rng.random(shape[0]) < 0.05] = 0
    return w, rng.integers(-(10**6), 10**6, shape[0]).astype(np.int32), *multipliers_and_shifts(scale)


def conv16(
    name: str, x: tuple[int, int, int], filters: int, window: Window, form: str = "high", **more
) -> OpCase:
    rng = rng_of(name)
    op = ConvInt16(window, **more)
    constants = _filters(rng, (filters, *window.kernel, x[2] // op.groups), form)
    return OpCase(name, op, (int16(rng, *x), *constants), CONSTANTS)


def dense16(name: str, x: tuple[int, ...], filters: int, form: str = "high", **more) -> OpCase:
    rng = rng_of(name)
    return OpCase(
        name, DenseInt16(**more), (int16(rng, *x), *_filters(rng, (filters, x[-1]), form)), CONSTANTS
    )


def int16_layer_cases() -> list[OpCase]:
    same, one = Window((3, 3), pads=(1, 1, 1, 1)), Window((1, 1))
    cases = [dense16(f"dense16_{n}_{f}", (n,), f) for n, f in ((1, 1), (7, 3), (8, 4), (12, 9), (512, 6))]
    cases += [dense16(f"dense16_{form}", (5, 20), 7, form) for form in SCALES]
    cases += [conv16(f"point16_{c}_{f}", (3, 5, c), f, one) for c, f in ((4, 8), (6, 3), (20, 12), (5, 5))]
    cases += [conv16(f"conv16_{c}_{f}", (5, 6, c), f, same) for c, f in ((2, 4), (3, 5), (24, 11))]
    cases += [conv16(f"conv16_{form}", (4, 5, 6), 6, same, form) for form in SCALES]
    cases += [conv16(f"depthwise16_{c}", (6, 5, c), c, same, groups=c) for c in (2, 5, 12)]
    cases += [
        conv16("conv16_bounds", (5, 6, 8), 9, same, low=0, high=20000),
        conv16("conv16_stride", (9, 8, 4), 6, Window((3, 2), (2, 3), (1, 1), (1, 0, 0, 1))),
        conv16("conv16_dilated", (9, 12, 8), 6, Window((3, 3), (1, 1), (2, 3), (2, 3, 2, 3))),
        conv16("conv16_groups", (5, 6, 8), 6, same, groups=2),
        conv16("conv16_time", (12, 1, 10), 8, Window((5, 1), (1, 1), (2, 1), (8, 0, 0, 0))),
        conv16("depthwise16_time", (12, 1, 10), 10, Window((5, 1), (1, 1), (2, 1), (8, 0, 0, 0)), groups=10),
        conv16("depthwise16_large", (9, 9, 4), 4, Window((6, 6)), groups=4),
        *(conv16(f"depthwise16_{form}", (4, 5, 8), 8, same, form, groups=8) for form in SCALES),
        conv16("depthwise16_positive", (4, 5, 8), 8, same, groups=8, low=0),
        conv16("depthwise16_bounds", (4, 5, 8), 8, same, groups=8, low=-900, high=1000),
        conv16("depthwise16_outside", (3, 2, 8), 8, Window((2, 1), (1, 1), (7, 1), (4, 0, 4, 0)), groups=8),
        conv16("depthwise16_twice", (5, 6, 4), 8, same, groups=4),
    ]
    return cases


def int16_elementwise_cases() -> list[OpCase]:
    rng = rng_of("int16_elementwise")
    cases: list[OpCase] = []
    for k, (a, b) in enumerate(
        (((3, 4, 5), (3, 4, 5)), ((3, 4, 5), (5,)), ((3, 4, 5), (3, 1, 1)), ((7,), (1,)))
    ):
        pair = int16(rng, *a), int16(rng, *b)
        cases += [
            OpCase(f"add16_{k}", AddInt16((1 << 30, (1 << 29) + 12345), 31), pair),
            OpCase(f"mul16_{k}", MulInt16((1 << 30) + 777, 46, -30000, 29999), pair),
        ]
    x = int16(rng, 4, 3, 6)
    ends = (np.full((2, 3), 2**15 - 1, np.int16), np.full((2, 3), -(2**15), np.int16))
    cases += [
        OpCase("sub16", AddInt16((2**31 - 1, -(2**31) + 1), 30), ends),
        OpCase("add16_constant", AddInt16((1 << 30, 1 << 30), 30, 0), (x, int16(rng, 6)), (False, True)),
        OpCase("mul16_large", MulInt16(2**31 - 1, 1), ends),
        OpCase("clamp16", RescaleInt16(2**30, 30, 0, 9999), (x,)),
        OpCase("rescale16", RescaleInt16((1 << 30) + 3, 31, -20000), (x,)),
        OpCase("add16_far", AddInt16((1 << 30, -(1 << 29)), 17, -32768, 32767), (x // 1024, x // 777)),
        OpCase("rescale16_down", RescaleInt16((1 << 30) + 99, 45), (x,)),
        OpCase("rescale16_up", RescaleInt16(2**31 - 1, 28), (x,)),
    ]
    return cases


def int16_mean_cases() -> list[OpCase]:
    cases: list[OpCase] = []
    for shape in ((6,), (5, 7), (4, 5, 11), (3, 4, 2, 5), (3, 2, 3, 4, 2)):
        for on in product((False, True), repeat=len(shape)):
            axes = tuple(k for k, summed in enumerate(on) if summed)
            if axes:
                name = f"mean16_{len(shape)}_{''.join(map(str, axes))}"
                scale = 0.8 / np.prod([shape[axis] for axis in axes])
                op = MeanInt16(axes, *multiplier_and_shift(scale))
                cases.append(OpCase(name, op, (int16(rng_of(name), *shape),)))
    x = int16(rng_of("mean16"), 4, 4, 9)
    for scale in (16.0, 1e5, 1e-7):
        cases.append(OpCase(f"mean16_scale_{scale:g}", MeanInt16((0, 1), *multiplier_and_shift(scale)), (x,)))
    cases.append(OpCase("mean16_low", MeanInt16((0, 1), *multiplier_and_shift(0.06), -900, 2000), (x,)))
    least = np.full((255, 257, 1), -(2**15), np.int16)
    cases.append(OpCase("mean16_most", MeanInt16((0, 1), *multiplier_and_shift(1 / least.size)), (least,)))
    return cases


def pieces16(name: str, x: np.ndarray, values: np.ndarray, scale: float, **more) -> OpCase:
    """A function that has these values for each of the 65,536 inputs."""
    table = pieces_of(
        Quantize(scale, 0, ElementType.I16), values.astype(np.float32), values, -(2**15), 2**15 - 1
    )
    return OpCase(name, PiecewiseInt16(**more), (x, *table), CONSTANTS)


def int16_piecewise_cases() -> list[OpCase]:
    rng = rng_of("piecewise16")
    x = EVERY_16 * 2.0**-12
    every = EVERY_16.reshape(64, 16, 64)
    return [
        pieces16("pieces16_sigmoid", every, 1 / (1 + np.exp(-x)), 2.0**-15),
        pieces16("pieces16_gelu", int16(rng, 5, 7), np.maximum(x, 0) + np.sin(x) / 9, 2.0**-12, low=-900),
        pieces16("pieces16_one", int16(rng, 9), x, 2.0**-12, low=-20000, high=20000),
        pieces16("pieces16_steps", int16(rng, 2, 3, 4, 5), np.floor(x), 2.0**-12),
        pieces16(
            "pieces16_jumps", np.arange(-9, 9).astype(np.int16), np.sign(x), 2.0**-15
        ),  # 0 is a piece of its own
        pieces16("pieces16_far", int16(rng, 1), np.exp(5 * x), 1.0),
    ]


def softmax16(name: str, x: np.ndarray, step: float, scale: float = 2.0**-15, **more) -> OpCase:
    inverse, shift = multiplier_and_shift(1 / scale)
    return OpCase(name, SoftmaxInt16(power_rate(step), inverse, 30 + shift, **more), (x,))


def int16_softmax_cases() -> list[OpCase]:
    """Steps of every size, lines of one, lines of equal values, several a pixel, many."""
    rng = rng_of("softmax16")
    least = np.full((3, 5), -(2**15), np.int16)
    return [
        softmax16("softmax16_rows", int16(rng, 5, 9), 3e-4),
        softmax16("softmax16_one", int16(rng, 4, 1), 3e-4),
        softmax16("softmax16_line", int16(rng, 33), 1e-3, high=20000),
        softmax16("softmax16_lines", int16(rng, 2, 3, 2, 5), 1e-4, low=100),
        softmax16("softmax16_equal", least, 1e-2),
        softmax16("softmax16_long", int16(rng, 2, 1500), 1e-5, 1e-7),
        softmax16("softmax16_steep", int16(rng, 6, 8) // 4096, 0.6),
        softmax16("softmax16_flat", int16(rng, 6, 8), 1e-12),
        softmax16("softmax16_far", int16(rng, 6, 8), 2e-3, 0.3),
    ]


def normalized16(name: str, shape: tuple[int, ...], spread: float = 9000, **more) -> OpCase:
    rng = rng_of(name)
    centred, epsilon, fraction = more.pop("centred", True), more.pop("epsilon", 0), more.pop("fraction", 8)
    x = np.clip(rng.normal(900, spread, shape), -(2**15), 2**15 - 1).astype(np.int16)
    shift = normal_bits(shape[-1], centred) + more.pop("bits", 14)
    scale, bias = rng.integers(-(2**29), 2**29, shape[-1]), rng.integers(-(2**29), 2**29, shape[-1])
    op = LayerNormInt16(centred, epsilon, fraction, shift - 13, shift, **more)
    return OpCase(name, op, (x, scale.astype(np.int32), bias.astype(np.int32)), (False, True, True))


def int16_layer_norm_cases() -> list[OpCase]:
    """Short and long lines, lines that hardly differ or not at all, epsilons of every size."""
    return [
        normalized16("norm16_row", (64,)),
        normalized16("norm16_rows", (5, 7), epsilon=12345678),
        normalized16("norm16_columns", (3, 4, 33), low=-9000, high=12000),
        normalized16("norm16_lines", (2, 3, 2, 5)),
        normalized16("norm16_one", (4, 1)),
        normalized16("norm16_long", (2, 1027), bits=20),
        normalized16("norm16_longest", (1, 16384), spread=40000, fraction=4),
        normalized16("norm16_equal", (6, 16), spread=0),
        normalized16("norm16_near", (20, 3), spread=2, fraction=24),
        normalized16("norm16_epsilon", (5, 8), epsilon=1 << 61),
        normalized16("norm16_rms", (5, 24), centred=False, epsilon=999),
        normalized16("norm16_rms_small", (9, 3), centred=False, spread=1, fraction=24),
        normalized16("norm16_rms_far", (9, 3), centred=False, spread=90000, bits=2),
    ]


def matmul16(name: str, a: tuple[int, ...], b: tuple[int, ...], scale: float, **more) -> OpCase:
    rng = rng_of(name)
    operands = Operands(more.pop("transposed", False), more.pop("heads", False))
    op = MatMulInt16(operands, *multiplier_and_shift(scale), **more)
    return OpCase(name, op, (int16(rng, *a), int16(rng, *b)), (False, more.pop("constant", False)))


def int16_matmul_cases() -> list[OpCase]:
    """Both layouts, heads side by side, lines of which four outputs or two values at once leave some over."""
    cases = [
        matmul16(f"matmul16_{k}_{n}", (3, k), (k, n), 2e-5) for k, n in ((1, 1), (2, 4), (7, 5), (64, 9))
    ]
    cases += [
        matmul16(f"matmul16_turned_{k}_{n}", (3, k), (n, k), 2e-5, transposed=True)
        for k, n in ((1, 1), (2, 4), (7, 5), (8, 3), (64, 9))
    ]
    cases += [
        matmul16("matmul16_batch", (2, 3, 9), (2, 9, 5), 1e-5, low=-1000, high=900),
        matmul16("matmul16_shared", (2, 2, 3, 6), (6, 4), 1e-5),
        matmul16("matmul16_four", (2, 2, 3, 6), (2, 2, 5, 6), 1e-5, transposed=True),
        matmul16("matmul16_keys", (5, 4, 12), (9, 2, 12), 1e-5, transposed=True, heads=True),
        matmul16("matmul16_values", (5, 4, 9), (9, 4, 12), 1e-5, heads=True),
        matmul16("matmul16_large", (2, 700), (700, 3), 0.24),
        matmul16("matmul16_small", (2, 700), (700, 3), 1e-9),
    ]
    ends = np.full((2, 40), -(2**15), np.int16)
    op = MatMulInt16(Operands(True), *multiplier_and_shift(1e-6))
    return [*cases, OpCase("matmul16_ends", op, (ends, ends))]
