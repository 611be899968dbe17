# SPDX-License-Identifier: Apache-2.0
"""Cases of gradients, losses and steps of optimizers, and of layers whose weights are no constants."""

from __future__ import annotations

import numpy as np
from mmcc.ir.types import Shape
from mmcc.ops.activation import Leaky
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.clamp_bits import BitsGradient, ClampBits
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import ConvInputGradient, WeightGradient
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import UNARY
from mmcc.ops.elementwise_gradient import AT_RESULT, DERIVATIVES, UnaryGradient
from mmcc.ops.loss import CrossEntropy, CrossEntropyGradient, label_shape
from mmcc.ops.optimizer import AdamStep, Descend, Moment
from mmcc.ops.pool_arg_max import PoolArgMax, PoolByArgMax, PoolByArgMaxGradient
from mmcc.ops.pool_gradient import AveragePoolGradient, MaxPoolGradient
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_case_values import RELU, exact, real
from op_cases_elementwise import PARAMETERS, POSITIVE

SAME = Window((3, 3), pads=(1, 1, 1, 1))
WINDOWS: dict[str, tuple[Shape, int, Window, int]] = {  # shape of x, filters, window, groups
    "same": ((7, 13, 11), 13, SAME, 1),
    "point": ((5, 9, 16), 9, Window((1, 1)), 1),
    "stride": ((9, 12, 3), 6, Window((3, 2), (2, 3), pads=(1, 0, 1, 1)), 1),
    "past_stride": ((9, 12, 3), 4, Window((1, 2), (3, 4), pads=(0, 1, 0, 0)), 1),
    "dilated": ((11, 14, 2), 3, Window((3, 2), (2, 1), (2, 3), (2, 1, 1, 3)), 1),
    "wide_pads": ((2, 2, 3), 5, Window((3, 3), pads=(4, 4, 4, 4)), 1),
    "groups": ((6, 7, 6), 10, SAME, 2),
    "depthwise": ((7, 9, 11), 11, Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), 11),
    "multiplier": ((5, 6, 3), 6, SAME, 3),
    "time": ((17, 1, 5), 12, Window((5, 1), (2, 1), pads=(2, 0, 2, 0)), 1),
}
POOLS: dict[str, tuple[Shape, Window]] = {
    "halves": ((6, 8, 5), Window((2, 2), (2, 2))),
    "overlap": ((7, 9, 4), Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
    "rest": ((8, 9, 3), Window((2, 3), (3, 4))),
    "dilated": ((9, 8, 2), Window((2, 2), (1, 2), (3, 2), (1, 0, 1, 2))),
    "whole": ((4, 5, 6), Window((4, 5))),
    "pairs": ((3, 6, 11), Window((1, 2), (1, 2))),
}


def _layer(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, weights, and a gradient of the result."""
    shape, filters, window, groups = WINDOWS[name]
    rng = rng_of(name)
    w = exact(rng, filters, *window.kernel, shape[2] // groups)
    return exact(rng, *shape), w, exact(rng, *window.output(shape), filters)


def plain_layers() -> list[OpCase]:
    cases: list[OpCase] = []
    for name, (shape, filters, window, groups) in WINDOWS.items():
        x, w, _ = _layer(name)
        bias = exact(rng_of("bias"), filters)
        activation = {"same": RELU, "dilated": Leaky(0.25)}.get(name)
        cases.append(OpCase(f"plain_conv_{name}", Conv(window, groups, activation), (x, w, bias)))
        if name in ("stride", "dilated", "groups"):
            op = ConvTranspose(window, (2 * shape[0], 2 * shape[1]), groups)
            cases.append(OpCase(f"plain_conv_transpose_{name}", op, (x, w, bias)))
    cases.append(
        OpCase(
            "plain_weights_only",
            Conv(SAME),
            (*_layer("same")[:2], np.ones(13, np.float32)),
            (False, False, True),
        )
    )
    rng = rng_of("plain_dense")
    for name, x in (("vector", (37,)), ("rows", (6, 19))):
        w, bias = exact(rng, 13, x[-1]), exact(rng, 13)
        cases.append(OpCase(f"plain_dense_{name}", Dense(RELU), (exact(rng, *x), w, bias)))
    return cases


def layer_gradients() -> list[OpCase]:
    cases: list[OpCase] = []
    for name, (shape, _, window, groups) in WINDOWS.items():
        x, w, g = _layer(name)
        op = ConvInputGradient(window, shape[:2], groups)
        cases.append(OpCase(f"conv_input_{name}", op, (g, w), (False, name in ("same", "groups"))))
        cases.append(OpCase(f"conv_weights_{name}", WeightGradient(window, groups), (x, g)))
        if name in ("same", "depthwise", "groups"):
            cases += _into(f"conv_weights_{name}", window, groups, (x, g), w)
    rng = rng_of("dense_weights")
    for name, rows in (("vector", ()), ("rows", (6,))):
        x, g, w = exact(rng, *rows, 19), exact(rng, *rows, 7), exact(rng, 7, 19)
        cases.append(OpCase(f"dense_weights_{name}", WeightGradient(), (x, g)))
        cases += _into(f"dense_weights_{name}", None, 1, (x, g), w)
    for name, shape in (("image", (5, 7, 9)), ("matrix", (6, 11))):
        g, s = exact(rng, *shape), exact(rng, shape[-1])
        cases.append(OpCase(f"bias_gradient_{name}", BiasGradient(), (g,)))
        cases.append(OpCase(f"bias_gradient_{name}_summed", BiasGradient("sum", 0.5), (g, s)))
    return cases


def _into(name: str, window: Window | None, groups: int, operands: tuple, w: np.ndarray) -> list[OpCase]:
    rate = np.array([0.25], np.float32)
    summed = WeightGradient(window, groups, "sum", 0.5)
    step = WeightGradient(window, groups, "step", 0.125)
    return [
        OpCase(f"{name}_summed", summed, (*operands, w)),
        OpCase(f"{name}_step", step, (*operands, w, rate)),
    ]


def pool_gradients() -> list[OpCase]:
    cases: list[OpCase] = []
    for name, (shape, window) in POOLS.items():
        rng = rng_of(name)
        g = exact(rng, *window.output(shape), shape[2])
        ties = np.rint(2 * real(rng, *shape)).astype(np.float32)
        cases.append(OpCase(f"max_pool_gradient_{name}", MaxPoolGradient(window), (g, ties)))
        (taps,) = PoolArgMax(window).reference(ties)
        cases.append(OpCase(f"pool_arg_max_{name}", PoolArgMax(window), (ties,)))
        cases.append(OpCase(f"pool_by_arg_max_{name}", PoolByArgMax(window), (ties, taps)))
        op = PoolByArgMaxGradient(window, shape[:2])
        cases.append(OpCase(f"pool_by_arg_max_gradient_{name}", op, (g, taps)))
        for counted in ((0, 0, 0, 0), window.pads):
            op = AveragePoolGradient(window, shape[:2], counted)
            cases.append(OpCase(f"average_pool_gradient_{name}_{sum(counted)}", op, (g,)))
    return [case for k, case in enumerate(cases) if case.name not in {c.name for c in cases[:k]}]


def function_gradients() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in DERIVATIVES:
        rng = rng_of(function)
        x = 4 * real(rng, 3, 5, 9)
        x = np.abs(x) + np.float32(0.1) if function in (*POSITIVE, "reciprocal") else x
        parameters = PARAMETERS.get(function, ())
        v = UNARY[function][1](x.astype(np.float64), *parameters) if function in AT_RESULT else x
        op = UnaryGradient(function, parameters)
        cases.append(OpCase(f"{function}_gradient", op, (real(rng, 3, 5, 9), v.astype(np.float32))))
    for name, y in (("vector", (19,)), ("image", (3, 5, 9)), ("single", (4, 3, 1)), ("bytes", (2, 3, 16))):
        v, g = np.clip(6 * real(rng_of(name), *y), 0, 6).astype(np.float32), real(rng_of(name), *y)
        cases.append(OpCase(f"clamp_bits_{name}", ClampBits(0.0, 6.0), (v,)))
        (bits,) = ClampBits(0.0, 6.0).reference(v)
        cases.append(OpCase(f"bits_gradient_{name}", BitsGradient(y[-1]), (g, bits)))
    cases.append(OpCase("bits_gradient_of_mean", BitsGradient(16), (real(rng_of("m"), 1, 1, 16), bits)))
    rng = rng_of("repeated")
    for name, g in (("channels", (1, 1, 9)), ("pixels", (3, 5, 1)), ("number", (1,)), ("vector", (9,))):
        op = UnaryGradient("clamp", (0.0, 6.0))
        cases.append(OpCase(f"clamp_gradient_of_{name}", op, (real(rng, *g), real(rng, 3, 5, 9))))
    return cases


def losses() -> list[OpCase]:
    cases: list[OpCase] = []
    for name, shape in (("vector", (10,)), ("rows", (5, 7)), ("image", (4, 3, 6)), ("deep", (2, 3, 4, 5))):
        rng = rng_of(name)
        logits = 3 * real(rng, *shape)
        label = rng.integers(0, shape[-1], label_shape(shape)).astype(np.int32)
        cases.append(OpCase(f"cross_entropy_{name}", CrossEntropy(), (logits, label)))
        cases.append(OpCase(f"cross_entropy_gradient_{name}", CrossEntropyGradient(), (logits, label)))
    none = np.array([[0], [7], [-1]], np.int32)
    for op in (CrossEntropy(), CrossEntropyGradient()):
        cases.append(OpCase(f"{op}_of_no_class", op, (real(rng_of("none"), 3, 7), none)))
    return cases


def optimizer_steps() -> list[OpCase]:
    cases: list[OpCase] = []
    for name, shape in (("vector", (11,)), ("matrix", (5, 7)), ("filters", (3, 2, 2, 5))):
        rng = rng_of(name)
        w, g = real(rng, *shape), real(rng, *shape)
        one = [np.array([value], np.float32) for value in (0.01, 0.729, 0.997)]
        cases.append(OpCase(f"descend_{name}", Descend(0.125), (w, g, one[0])))
        cases.append(OpCase(f"moment_{name}", Moment(0.9), (w, g)))
        cases.append(OpCase(f"squares_{name}", Moment(0.999, 0.001, squares=True), (np.abs(w), g)))
        cases.append(OpCase(f"adam_{name}", AdamStep(1e-8, 0.01), (w, g, np.abs(w), *one)))
        soon = [
            np.array([value], np.float32) for value in (0.5, 0.9, 0.999)
        ]  # of a first step, which divides v
        large = w, g * np.float32(1e18), np.abs(w) * np.float32(1e36) + np.float32(1e36)
        cases.append(OpCase(f"adam_large_{name}", AdamStep(1e-8), (*large, *soon)))
        cases.append(OpCase(f"adam_early_{name}", AdamStep(0.5, early=True), (w, g, np.abs(w), *one)))
    return cases
