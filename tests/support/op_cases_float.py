# SPDX-License-Identifier: Apache-2.0
"""Cases of every float operator and every operator that moves elements.

Where sums could cancel, values are multiples of 1/16: their sums are exact, so the order of a sum that the
reference takes does not matter, and any wrong tap shows.
"""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
from kernel_bench import OpCase, rng_of
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape
from mmcc.kernels.contract import TYPES
from mmcc.ops.activation import Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense, MatMul
from mmcc.ops.elementwise import BINARY, UNARY, Binary, Cast, Unary, Where
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.pool import AveragePool
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.ops.reduce import REDUCTIONS, Reduce
from mmcc.ops.softmax import Softmax
from mmcc.ops.window import Window
from op_case_values import LAYER, RELU, RELU6, SIGNED, UNSIGNED, exact, integers, real, values
from op_cases_movement import concatenations, look_ups, movements, resizes


def conv(name: str, x: Shape, filters: int, window: Window, groups: int = 1, activation=None) -> OpCase:
    rng = rng_of(name)
    w = exact(rng, filters, *window.kernel, x[2] // groups)
    return OpCase(name, Conv(window, groups, activation), (exact(rng, *x), w, exact(rng, filters)), LAYER)


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


def matrices() -> list[OpCase]:
    shapes: list[tuple[Shape, Shape]] = [
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
    cases = [
        dense("dense_vector", (37,), 45),
        dense("dense_one", (1,), 1, RELU),
        dense("dense_small", (5,), 3, Leaky(0.125)),
        dense("dense_blocks", (9,), 75, RELU6),
        dense("dense_lines", (3, 37), 13, RELU),
    ]
    rng = rng_of("matmul")
    for k, (a, b) in enumerate(shapes):
        cases.append(OpCase(f"matmul{k}", MatMul(), (exact(rng, *a), exact(rng, *b))))
    for k, constant in ((3, (True, False)), (7, (False, True)), (6, (True, False)), (13, (False, True))):
        a, b = shapes[k]
        cases.append(OpCase(f"matmul{k}_constant", MatMul(), (exact(rng, *a), exact(rng, *b)), constant))
    return cases


def average(name: str, x: Shape, window: Window, counted=(0, 0, 0, 0)) -> OpCase:
    return OpCase(name, AveragePool(window, counted), (exact(rng_of(name), *x),))


def pools() -> list[OpCase]:
    return [
        average("average_plain", (8, 12, 11), Window((2, 2), (2, 2))),
        average("average_global", (7, 9, 20), Window((7, 9))),
        average("average_same", (7, 9, 3), Window((3, 3), pads=(1, 1, 1, 1))),
        average("average_counted", (7, 9, 8), Window((3, 3), pads=(1, 1, 1, 1)), (1, 1, 1, 1)),
        average("average_ceil", (8, 9, 3), Window((3, 3), (2, 2), pads=(1, 0, 2, 2)), (1, 0, 1, 1)),
        average("average_dilated", (9, 13, 11), Window((3, 2), (2, 1), (1, 2), (1, 1, 2, 1)), (1, 0, 0, 1)),
        average("average_far_dilated", (9, 13, 1), Window((2, 2), (1, 1), (4, 5))),
        average("average_pixel", (1, 1, 5), Window((1, 1))),
        average("average_time", (16, 1, 9), Window((4, 1), (3, 1))),
    ]


PARAMETERS: dict[str, tuple[float, ...]] = {
    "clamp": (-0.5, 1.2),
    "leaky_relu": (0.1,),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.1,),
    "selu": (1.6732632, 1.05070098),
    "celu": (0.7,),
    "thresholded_relu": (0.4,),
    "shrink": (0.3, 0.8),
}


POSITIVE = ("log", "sqrt")


SPECIAL = np.array([0, -0.0, inf, -inf, np.nan, 0.5, 1.5, -2.5, 1e-30, 80, -80, 3e38], np.float32)


NOT_AT_INFINITY = ("sin", "cos", "tan", "gelu", "gelu_tanh", "silu", "mish", "hard_swish", "softsign")


def unary(name: str, function: str, x: np.ndarray) -> OpCase:
    return OpCase(name, Unary(function, PARAMETERS.get(function, ())), (x,))


def functions_of_one() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in UNARY:
        rng = rng_of(function)
        x = real(rng, 3, 5, 9) * 4
        x = np.abs(x) if function in POSITIVE else x
        special = SPECIAL[np.isfinite(SPECIAL)] if function in NOT_AT_INFINITY else SPECIAL
        special = special[np.abs(special) < 100] if function in ("sin", "cos", "tan") else special
        cases += [unary(function, function, x), unary(f"{function}_special", function, special)]
    rng = rng_of("unary shapes")
    for rank, shape in enumerate(
        ((), (13,), (4, 7), (3, 4, 5), (2, 3, 4, 5), (2, 3, 2, 2, 3), (2, 1, 2, 3, 1, 2))
    ):
        cases.append(unary(f"abs_rank{rank}", "abs", real(rng, *shape)))
    for function, dtype in product(
        ("abs", "neg", "sign", "clamp", "not"), (*SIGNED, *UNSIGNED, ElementType.BOOL)
    ):
        if (function == "not") != (dtype == ElementType.BOOL) or (function == "neg" and dtype in UNSIGNED):
            continue
        parameters = (-3.0, 5.0) if function == "clamp" else ()
        x = integers(rng, dtype, 3, 4, 5)
        cases.append(OpCase(f"{function}_{dtype.name}", Unary(function, parameters), (x,)))
    for dtype, bounds in (
        (ElementType.I64, (-inf, 2.0**40)),
        (ElementType.I32, (0.0, inf)),
        (ElementType.U8, (-3.0, 300.0)),
    ):
        x = integers(rng, dtype, 50)
        cases.append(OpCase(f"clamp_wide_{dtype.name}", Unary("clamp", bounds), (x,)))
    return cases


BROADCASTS: tuple[tuple[Shape, Shape], ...] = (
    ((3, 5, 9), (3, 5, 9)),
    ((3, 5, 9), (9,)),
    ((3, 1, 9), (3, 5, 1)),
    ((1, 5, 9), (3, 1, 9)),
    ((3, 5, 9), (1,)),
    ((), (3, 5, 9)),
    ((5, 9), (3, 5, 9)),
    ((3, 5, 9), (5, 1)),
    ((4, 5), (4, 1)),
    ((5,), (4, 5)),
    ((7,), (7,)),
    ((), ()),
    ((2, 3, 4, 5), (2, 1, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (1, 1, 4, 5)),
)


LOGICAL = ("and", "or", "xor")


def pair(
    function: str, dtype: ElementType, a: Shape, b: Shape, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Operands for which numpy defines the function."""
    x, y = values(rng, dtype, *a), values(rng, dtype, *b)
    if dtype == ElementType.F32:
        return (np.abs(x) if function == "pow" else x) * np.float32(3), y * np.float32(3)
    if function == "pow":
        y = np.abs(y % 8)
    if function == "div" and dtype in SIGNED:  # numpy has no magnitude for the least integer
        x, y = (np.maximum(v, -np.iinfo(dtype.numpy).max) for v in (x, y))
    return x, y


def functions_of_two() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in BINARY:
        rng = rng_of(function)
        if function not in LOGICAL:
            for k, (a, b) in enumerate(BROADCASTS if function == "sub" else BROADCASTS[:2]):
                cases.append(
                    OpCase(f"{function}{k}", Binary(function), pair(function, ElementType.F32, a, b, rng))
                )
        types = (ElementType.BOOL,) if function in LOGICAL else (*SIGNED, *UNSIGNED)
        for dtype in (*types, ElementType.BOOL) if function == "equal" else types:
            if function == "prelu" and dtype in UNSIGNED:
                continue
            x, y = pair(function, dtype, (3, 4, 5), (3, 4, 5), rng)
            cases.append(OpCase(f"{function}_{dtype.name}", Binary(function), (x, y)))
    rng = rng_of("binary constants")
    scalar = np.array(0.5, np.float32)
    cases += [
        OpCase("constant_channels", Binary("mul"), (real(rng, 3, 5, 9), real(rng, 9)), (False, True)),
        OpCase("constant_scalar", Binary("div"), (scalar, real(rng, 3, 5, 9)), (True,)),
        OpCase("constant_columns", Binary("add"), (real(rng, 3, 5, 9), real(rng, 5, 1)), (False, True)),
        OpCase("constant_all", Binary("add"), (real(rng, 3, 5, 9), real(rng, 3, 5, 9)), (False, True)),
        OpCase("constant_rows", Binary("add"), (real(rng, 4, 9), real(rng, 4, 1)), (False, True)),
        *(special_pair(f) for f in BINARY if f not in (*LOGICAL, "pow", "mod", "fmod", "prelu")),
    ]
    return cases


def special_pair(function: str) -> OpCase:
    """Every special value with every other one."""
    finite = SPECIAL[np.abs(SPECIAL) != np.float32(3e38)]
    return OpCase(f"{function}_special", Binary(function), (finite[:, None], finite[None, :].copy()))


def selections() -> list[OpCase]:
    rng = rng_of("where")

    def case(name: str, dtype: ElementType, c: Shape, a: Shape, b: Shape, constant=()) -> OpCase:
        inputs = (rng.random(c) < 0.5, values(rng, dtype, *a), values(rng, dtype, *b))
        return OpCase(name, Where(), tuple(np.asarray(x) for x in inputs), constant)

    return [
        case("where_same", ElementType.F32, (3, 5, 9), (3, 5, 9), (3, 5, 9)),
        case("where_rows", ElementType.F32, (3, 5, 9), (1, 5, 9), (3, 1, 1)),
        case("where_condition", ElementType.I64, (9,), (3, 5, 9), (3, 5, 1)),
        case("where_scalar", ElementType.I8, (3, 5, 9), (3, 5, 9), (), (False, False, True)),
        case("where_lines", ElementType.I16, (4, 1), (4, 6), (6,)),
    ]


def conversions() -> list[OpCase]:
    cases: list[OpCase] = []
    for source, target in product(TYPES, TYPES):
        rng = rng_of(f"{source} {target}")
        x = values(rng, source, 3, 5, 3)
        if source == ElementType.F32:
            big = 1e9 if target == ElementType.I64 else 4e9
            special = np.array([np.nan, 0, 0.7, -0.7, 1e5, -1e5, big, -big], np.float32)
            x = np.concatenate([x.ravel() * 100, special])
        cases.append(OpCase(f"cast_{source.name}_{target.name}", Cast(target), (x,)))
    return cases


def quantizations() -> list[OpCase]:
    cases: list[OpCase] = []
    for dtype in (ElementType.I8, ElementType.U8, ElementType.I16, ElementType.U16, ElementType.I32):
        rng = rng_of(f"quantize {dtype}")
        scale, zero = 0.37, 3
        halves = (np.arange(-9, 9) + 0.5) * np.float32(scale)
        special = [np.nan, inf, -inf, 1e9, -1e9, 3e5, 1e20]
        x = np.concatenate([real(rng, 100) * 100, halves, np.array(special)]).astype(np.float32)
        cases.append(OpCase(f"quantize_{dtype.name}", Quantize(scale, zero, dtype), (x,)))
        stored = integers(rng, dtype, 3, 5, 7)
        cases.append(OpCase(f"dequantize_{dtype.name}", Dequantize(scale, zero), (stored,)))
    rng = rng_of("quantize image")
    cases.append(OpCase("quantize_image", Quantize(0.02, -128), (real(rng, 4, 5, 3),)))
    return cases


REDUCED: tuple[tuple[Shape, tuple[int, ...]], ...] = (
    ((5, 7, 11), (0, 1)),
    ((5, 7, 11), (2,)),
    ((5, 7, 11), (1,)),
    ((5, 7, 11), (0,)),
    ((5, 7, 11), (0, 2)),
    ((5, 7, 11), (0, 1, 2)),
    ((3, 4, 5, 6), (2,)),
    ((3, 4, 5, 6), (0, 3)),
    ((3, 4, 5, 6), (1, 2)),
    ((2, 3, 4, 2, 5), (2, 4)),
    ((2, 3, 3, 2, 3, 2), (3, 5)),
    ((9,), (0,)),
    ((4, 9), (1,)),
    ((4, 9), (0,)),
    ((40, 33, 9), (0, 1)),
    ((), ()),
)


def reductions() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in REDUCTIONS:
        rng = rng_of(function)
        for k, (shape, axes) in enumerate(REDUCED if function == "sum" else (*REDUCED[:3], REDUCED[9])):
            x = exact(rng, *shape) if function in ("sum", "mean", "l1", "sum_square") else real(rng, *shape)
            x = np.abs(x) if function == "log_sum" else x
            cases.append(OpCase(f"reduce_{function}{k}", Reduce(function, axes), (x,)))
    types = (*SIGNED, *UNSIGNED, ElementType.BOOL)
    for function, dtype in product(("sum", "max", "min", "prod"), types):
        x = integers(rng_of(f"{function} {dtype}"), dtype, 3, 4, 5)
        cases.append(OpCase(f"reduce_{function}_{dtype.name}", Reduce(function, (0, 2)), (x,)))
    x = np.array([[1, np.nan, 3], [inf, 2, 1], [-inf, inf, 0], [-inf, -1, -2]], np.float32)
    for function in ("sum", "mean", "max", "min", "prod", "l1", "l2"):
        cases.append(OpCase(f"reduce_{function}_special", Reduce(function, (1,)), (x,)))
    return cases


def normalizations() -> list[OpCase]:
    rng = rng_of("softmax")
    large = real(rng, 3, 40) * 50
    masked = real(rng, 3, 5)
    masked[1, 2] = masked[2, :4] = -inf
    cases = [
        OpCase("softmax_masked", Softmax(), (masked,)),
        OpCase("log_softmax_far", Softmax(True), (large,)),
    ]
    for k, shape in enumerate(((10,), (1,), (4, 33), (5, 7, 3), (2, 3, 4, 70), (2, 2, 2, 2, 5))):
        for log in (False, True):
            name = f"{'log_' if log else ''}softmax{k}"
            cases.append(OpCase(name, Softmax(log), (real(rng, *shape) * 3,)))
    for k, (shape, size) in enumerate(
        (((5, 7, 9), 5), ((5, 7, 3), 5), ((11,), 4), ((2, 3, 2, 6), 3), ((4, 6), 1))
    ):
        op = LocalResponseNorm(size, 0.01 * (k + 1), 0.75, 1.0 + k)
        cases.append(OpCase(f"local_response_norm{k}", op, (real(rng, *shape) * 4,)))
    return cases


FAMILIES = {
    "convolutions": convolutions,
    "transposed_convolutions": transposed_convolutions,
    "matrices": matrices,
    "pools": pools,
    "functions_of_one": functions_of_one,
    "functions_of_two": functions_of_two,
    "selections": selections,
    "conversions": conversions,
    "quantizations": quantizations,
    "reductions": reductions,
    "normalizations": normalizations,
    "resizes": resizes,
    "movements": movements,
    "look_ups": look_ups,
    "concatenations": concatenations,
}
