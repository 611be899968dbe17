# SPDX-License-Identifier: Apache-2.0
"""Vector kernels on emulated RISC-V, whose registers may have any length: one program, several processors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mmcc.ops.conv import Conv
from mmcc.ops.window import Window
from mmcc.target import Target
from op_case import OpCase, rng_of
from op_case_values import LAYER, exact
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import conv, dense
from qemu_bench import QemuBench
from toolchains import ready
from vector_cases import float_cases, wide_cases

SAME = Window((3, 3), pads=(1, 1, 1, 1))
CASES = {**FAMILIES, "wide": wide_cases, "float": float_cases}
# instructions a multiplication; four multiply-adds of 16 lanes alone are 0.0625
MOST = {"conv_3x3": 0.32, "conv_1x1": 0.32, "depthwise": 1.2, "dense": 0.45, "float": 0.6}


def target(bits: int = 128) -> Target:
    """The target on a processor with registers of so many bits."""
    base = ready("rv64gcv")
    assert base.qemu is not None
    return replace(base, qemu=replace(base.qemu, cpu=base.qemu.cpu.replace("vlen=128", f"vlen={bits}")))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [128, 512])
@pytest.mark.parametrize("family", ["pointwise", "conv", "depthwise", "elementwise", "wide", "float"])
def test_kernels_equal_the_reference(family: str, bits: int) -> None:
    QemuBench(CASES[family](), target(bits)).check_all()


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_least_values_everywhere(bits: int) -> None:
    """-128 times -128 all over."""
    case = conv("least", (3, 6, 32), 20, SAME)
    x, w, *scales = case.inputs
    low = (np.full_like(x, -128), np.full_like(w, -128), *scales)
    QemuBench([OpCase("least", case.op, low, case.constant)], target(bits)).check_all()


def test_instructions_a_multiplication() -> None:
    rng = rng_of("float")
    w, b = exact(rng, 32, 3, 3, 32), exact(rng, 32)
    cases = [
        conv("conv_3x3", (16, 16, 32), 32, SAME),
        conv("conv_1x1", (12, 12, 64), 64, Window((1, 1))),
        conv("depthwise", (12, 12, 64), 64, SAME, groups=64),
        dense("dense", (256,), 128),
        OpCase("float", Conv(SAME), (exact(rng, 16, 16, 32), w, b), LAYER),
    ]
    bench = QemuBench(cases, target())
    bench.check_all()
    each = {case.name: bench.instructions(case.name) / (case.nest.macs or 1) for case in cases}
    assert {name for name, count in each.items() if count > MOST[name]} == set(), each
