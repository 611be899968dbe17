# SPDX-License-Identifier: Apache-2.0
"""Vector kernels on emulated AArch64 with each set of instructions: cases of the host, and exact counts.

Dot products, and products of matrices, are used where the compiler is told of them, or the processor is found
to have them.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from mmcc.kernels.portable.float_fields import activation_fields
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.window import Window
from mmcc.target import Target, load_target
from op_case import OpCase, rng_of
from op_case_values import LAYER, exact
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import conv, dense
from qemu_bench import QemuBench
from vector_cases import float_cases, wide_cases

TOOLS = ("aarch64-linux-gnu-gcc", "qemu-aarch64")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason="no compiler or emulator for AArch64"
)
SAME = Window((3, 3), pads=(1, 1, 1, 1))
CASES = {**FAMILIES, "wide": wide_cases, "float": float_cases}
VARIANTS = {  # what the compiler is told of, and the processor
    "neon": ("armv8-a", "cortex-a53"),
    "dot products found": ("armv8-a", "cortex-a76"),
    "dot products told": ("armv8.2-a+dotprod", "cortex-a76"),
    "matrices found": ("armv8-a", "max"),
    "matrices found beside dot products": ("armv8.2-a+dotprod", "max"),
    "matrices told": ("armv8.2-a+dotprod+i8mm", "max"),
}
MOST = {  # instructions a multiplication, with dot products
    "conv_3x3": 0.11,
    "conv_1x1": 0.12,
    "depthwise": 0.6,
    "depthwise_5_columns": 0.6,
    "dense": 0.12,
    "float": 0.33,
}
MOST_OF_MATRICES = {"conv_3x3": 0.092, "conv_1x1": 0.109}


def target(variant: str) -> Target:
    """The target with another architecture's flag, on another processor."""
    base, (architecture, cpu) = load_target("aarch64"), VARIANTS[variant]
    assert base.qemu is not None
    flags = tuple(f"-march={architecture}" if f.startswith("-march") else f for f in base.flags)
    return replace(base, flags=flags, qemu=replace(base.qemu, cpu=cpu))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted({each for each, _ in VARIANTS.values()}))
@pytest.mark.parametrize("family", ["pointwise", "conv", "depthwise", "wide"])
def test_kernels_equal_the_reference(family, architecture):
    """One firmware for each, on all its processors."""
    first, *others = (target(name) for name, (each, _) in VARIANTS.items() if each == architecture)
    QemuBench(CASES[family](), first).check_all(*others)


def test_functions_that_sign_their_returns():
    """RETAA, of Armv8.3, ends those that have dot products of their own, too."""
    flags = (*target("neon").flags, "-march=armv8.3-a", "-mbranch-protection=standard")
    cases = [conv("conv", (3, 6, 32), 20, SAME), conv("depthwise", (3, 6, 32), 32, SAME, groups=32)]
    QemuBench(cases, replace(target("matrices found"), flags=flags)).check_all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["elementwise", "float"])
def test_kernels_that_ask_for_nothing_equal_the_reference(family):
    QemuBench(CASES[family](), target("neon")).check_all()


def measured() -> list[OpCase]:
    rng = rng_of("float")
    w, b = exact(rng, 32, 3, 3, 32), exact(rng, 32)
    return [
        conv("conv_3x3", (16, 16, 32), 32, SAME),
        conv("conv_1x1", (12, 12, 64), 64, Window((1, 1))),
        conv("depthwise", (12, 12, 64), 64, SAME, groups=64),
        conv("depthwise_5_columns", (25, 5, 64), 64, SAME, groups=64),
        dense("dense", (256,), 128),
        OpCase("float", Conv(SAME), (exact(rng, 16, 16, 32), w, b), LAYER),
    ]


def counted(variant: str) -> dict[str, float]:
    """Instructions a multiplication."""
    bench = QemuBench(measured(), target(variant))
    bench.check_all()
    return {name: bench.instructions(name) / (case.nest.macs or 1) for name, case in bench.cases.items()}


@pytest.mark.parametrize("variant", ["dot products found", "dot products told"])
def test_instructions_a_multiplication(variant):
    each = counted(variant)
    assert {name for name, count in each.items() if count > MOST[name]} == set(), each


def test_comparisons_of_floats_become_vectors():
    """Instructions an element, which are 3.7 to 7.7 where each is compared with a jump."""
    x, u = (exact(rng_of("compared"), 16, 16, 32) for _ in range(2))
    cases = [
        OpCase("clamp", Unary("clamp", (0.0, 6.0)), (x,), ()),
        OpCase("thresholded_relu", Unary("thresholded_relu", (1.0,)), (x,), ()),
        OpCase("min", Binary("min"), (x, u), ()),
        OpCase("max", Binary("max"), (x, u), ()),
    ]
    bench = QemuBench(cases, target("dot products found"))
    bench.check_all()
    each = {case.name: bench.instructions(case.name) / x.size for case in cases}
    assert {name for name, count in each.items() if count > 3.4} == set(), each


def test_products_of_matrices_are_used_where_the_processor_has_them():
    told, found = counted("matrices told"), counted("matrices found")
    assert {name for name, most in MOST_OF_MATRICES.items() if max(told[name], found[name]) > most} == set()


def test_no_upper_limit_is_minus_zero():
    """FMIN takes the lesser of two zeros, and x86 the second: the limit that kernels get is 0."""
    _, fields = activation_fields(Clamp(-1.0, -0.0))
    assert math.copysign(1.0, dict(fields)["high"]) == 1.0


def test_least_values_everywhere():
    """-128 times -128 all over: what a processor might saturate."""
    case = conv("least", (3, 6, 32), 20, SAME)
    x, w, *scales = case.inputs
    low = (np.full_like(x, -128), np.full_like(w, -128), *scales)
    for variant in ("neon", "dot products found", "matrices told"):
        QemuBench([OpCase("least", case.op, low, case.constant)], target(variant)).check_all()
