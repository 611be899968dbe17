# SPDX-License-Identifier: Apache-2.0
"""Cases of functions of one and of two tensors, selections and conversions, of all element types."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape
from mmcc.kernels.contract import NARROW, TYPES
from mmcc.ops.elementwise import BINARY, OF_BITS, UNARY, Binary, BitCast, Cast, Unary, Where
from mmcc.ops.quantize import Dequantize, Quantize, QuantizeBy
from op_case import OpCase, rng_of
from op_case_values import SIGNED, UNSIGNED, integers, real, values

PARAMETERS: dict[str, tuple[float, ...]] = {
    "clamp": (-0.5, 1.2),
    "saturate": (-0.5, 1.2),
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


INSIDE = {"asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.9, 0.9), "acosh": (1, 9)}


NOT_AT_INFINITY = ("sin", "cos", "tan", "gelu", "gelu_tanh", "silu", "mish", "hard_swish", "softsign")


def unary(name: str, function: str, x: np.ndarray) -> OpCase:
    return OpCase(name, Unary(function, PARAMETERS.get(function, ())), (x,))


def functions_of_one() -> list[OpCase]:
    cases: list[OpCase] = []
    for function in UNARY.keys() - {"bit_not"}:
        rng = rng_of(function)
        x = real(rng, 3, 5, 9) * 4
        x = np.abs(x) if function in POSITIVE else x
        x = np.clip(x, *INSIDE.get(function, (None, None)))
        special = SPECIAL[np.isfinite(SPECIAL)] if function in NOT_AT_INFINITY else SPECIAL
        special = special[np.abs(special) < 100] if function in ("sin", "cos", "tan") else special
        cases += [unary(function, function, x), unary(f"{function}_special", function, special)]
    rng = rng_of("unary shapes")
    for rank, shape in enumerate(
        ((), (13,), (4, 7), (3, 4, 5), (2, 3, 4, 5), (2, 3, 2, 2, 3), (2, 1, 2, 3, 1, 2))
    ):
        cases.append(unary(f"abs_rank{rank}", "abs", real(rng, *shape)))
    for function, dtype in product(
        ("abs", "neg", "sign", "clamp", "not", "bit_not"), (*SIGNED, *UNSIGNED, ElementType.BOOL)
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
        if function not in (*LOGICAL, *OF_BITS):
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
        *(special_pair(f) for f in BINARY if f not in (*LOGICAL, *OF_BITS, "pow", "mod", "fmod", "prelu")),
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
        if source.bits == target.bits and ElementType.BOOL not in (source, target):
            cases.append(OpCase(f"bits_{source.name}_{target.name}", BitCast(target), (x,)))
    return cases


def narrow_conversions() -> list[OpCase]:
    """All codes of narrow floats to float32; values around all of theirs, and what they do not have, back."""
    cases: list[OpCase] = []
    for dtype in NARROW:
        code = dtype.code
        assert code is not None
        count = 2 << code.sign
        codes = np.arange(0, count, 1 if count < 1000 else 17).astype(dtype.unsigned.numpy).view(dtype.numpy)
        cases.append(OpCase(f"of_{dtype}", Cast(ElementType.F32), (codes,)))
        wide = codes.astype(np.float32)
        wide = np.sort(wide[np.isfinite(wide)])
        ties = ((wide[:-1].astype(np.float64) + wide[1:]) / 2).astype(np.float32)
        above, below = (np.nextafter(ties, np.float32(end)) for end in (inf, -inf))
        ends = np.array([1e-45, -1e-40, 1e38, -1e38], np.float32)
        x = np.concatenate([SPECIAL, ends, wide, ties, above, below])
        for saturates in (True, False):
            cases.append(OpCase(f"to_{dtype}_{saturates}", Cast(dtype, saturates), (x,)))
    half = np.linspace(-300, 300, 77).astype(np.float16)
    for target in (ElementType.I8, ElementType.U16, ElementType.BOOL, ElementType.F8E5M2):
        cases.append(OpCase(f"half_to_{target}", Cast(target), (half,)))
    for source in (ElementType.I32, ElementType.BOOL):
        x = values(rng_of("halves"), source, 3, 5, 3)
        cases.append(OpCase(f"{source}_to_half", Cast(ElementType.F16), (x,)))
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
        if dtype != ElementType.I32:
            by = np.float32(scale), np.float32(zero)
            cases.append(OpCase(f"quantize_by_{dtype.name}", QuantizeBy(dtype), (x, *map(np.asarray, by))))
            rows = real(rng, 3, 1, 1) ** 2 + np.float32(0.1), np.rint(real(rng, 5) * 9).astype(np.float32)
            image = real(rng, 3, 4, 5) * 99
            cases.append(OpCase(f"quantize_by_{dtype.name}_rows", QuantizeBy(dtype), (image, *rows)))
            fixed = (image, *map(np.asarray, by))
            cases.append(
                OpCase(f"quantize_by_{dtype.name}_constant", QuantizeBy(dtype), fixed, (False, True, True))
            )
        stored = integers(rng, dtype, 3, 5, 7)
        cases.append(OpCase(f"dequantize_{dtype.name}", Dequantize(scale, zero), (stored,)))
    rng = rng_of("quantize image")
    cases.append(OpCase("quantize_image", Quantize(0.02, -128), (real(rng, 4, 5, 3),)))
    return cases
