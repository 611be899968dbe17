# SPDX-License-Identifier: Apache-2.0
"""Vector kernels as modules of WebAssembly: cases of the host, with 128-bit vectors and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.ops.window import Window
from mmcc.target import Target
from op_case import OpCase
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import conv
from qemu_bench import QemuBench
from toolchains import ready
from vector_cases import float_cases, wide_cases

SAME = Window((3, 3), pads=(1, 1, 1, 1))
CASES = {**FAMILIES, "wide": wide_cases, "float": float_cases}


def target(vectors: bool = True) -> Target:
    base = ready("wasm32")
    return base if vectors else replace(base, flags=tuple(f for f in base.flags if f != "-msimd128"))


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [True, False], ids=["simd128", "plain"])
@pytest.mark.parametrize("family", ["pointwise", "conv", "depthwise", "elementwise", "wide", "float"])
def test_kernels_equal_the_reference(family, vectors):
    QemuBench(CASES[family](), target(vectors)).check_all()


def test_least_values_everywhere():
    """-128 times -128 all over: what a multiplication of two halfwords could lose."""
    case = conv("least", (3, 6, 32), 20, SAME)
    x, w, *scales = case.inputs
    low = (np.full_like(x, -128), np.full_like(w, -128), *scales)
    QemuBench([OpCase("least", case.op, low, case.constant)], target()).check_all()


def test_every_shift_to_the_right():
    """A lane has its own shift by a product with a power of two: all shifts there are, side by side."""
    case = conv("shifts", (4, 4, 16), 36, Window((1, 1)))
    x, w, bias, *_ = case.inputs
    multiplier, shift = multipliers_and_shifts(np.exp2(-np.arange(36.0)) * 0.9)
    assert set(range(34, 63)) <= set(shift.tolist())
    w[:6], w[:6, ..., 0], bias[:6] = 0, 1, 0  # few are clamped where the shift is small
    bias[6:] *= 1000
    inputs = (x, w, bias, multiplier, shift)
    QemuBench([OpCase("shifts", case.op, inputs, case.constant)], target()).check_all()
