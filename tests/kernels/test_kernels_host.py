# SPDX-License-Identifier: Apache-2.0
"""Kernels on this machine's vectors, and on those of lesser x86-64 processors: the same cases, ways and bits.

What the compiler is told of the processor decides which instructions a kernel is made of. The portable
kernels run here too, for users whose targets name no others.
"""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import Bench, OpCase
from mmcc.ops.activation import Leaky
from mmcc.ops.window import Window
from mmcc.target import load_target
from op_cases_float import RELU
from op_cases_float import conv as float_conv
from op_cases_int8 import FAMILIES, conv, dense
from test_kernels_float import convolutions as float_convolutions
from test_kernels_int8 import convolutions

PROCESSORS = {
    "own": "-march=native",
    "avx512": "-march=x86-64-v4",
    "avx2": "-march=x86-64-v3",
    "any": "",
}
NEEDS = {"avx512": "avx512bw", "avx2": "avx2"}  # of this machine, to run what was compiled
SAME = Window((3, 3), pads=(1, 1, 1, 1))
DOWN = Window((3, 3), (2, 2), (1, 1), (0, 0, 1, 1))


def wide_cases() -> list[OpCase]:
    """Every size of tile: rows of 1 to 11 pixels, and filters of one to several blocks."""
    rows = [
        conv(f"row_{w}", (2, w, 20 + 4 * (w % 4)), 16 * (w % 4) + 3 * w, Window((1, 1))) for w in range(1, 12)
    ]
    return [
        *rows,
        conv("same_40_70", (4, 9, 40), 70, SAME, "left"),
        conv("same_16_48", (5, 6, 16), 48, SAME, zeros=(-128, 127)),
        conv("down_32_33", (7, 9, 32), 33, DOWN, low=0),
        conv("first_40", (6, 9, 3), 40, DOWN),
        conv("kws_64", (12, 9, 1), 64, Window((10, 4), (2, 2), (1, 1), (4, 1, 5, 1)), zeros=(83, -128)),
        conv("depthwise_40", (5, 9, 40), 40, SAME, groups=40),
        conv("depthwise_down_32", (7, 9, 32), 32, DOWN, "left", groups=32),
        conv("depthwise_5_17", (6, 8, 17), 17, Window((5, 5), pads=(2, 2, 2, 2)), groups=17),
        conv("depthwise_8x2_24", (9, 7, 24), 24, Window((8, 2), pads=(4, 0, 3, 1)), groups=24),
        conv("depthwise_dilated_16", (8, 9, 16), 16, Window((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)), groups=16),
        dense("dense_132_150", (132,), 150),
        dense("dense_rows_64", (3, 64), 16),
        *(conv(f"far_{form}", (3, 5, 64), 32, Window((1, 1)), form) for form in ("left", "wide", "tiny")),
    ]


def float_cases() -> list[OpCase]:
    """Every size of tile in float, windows that are gathered, and depthwise windows."""
    shapes = [(w, 5 + w % 4, 16 * (w % 5) + 2 * w) for w in range(4, 14)]
    return [
        *(float_conv(f"row_{w}", (2, w, c), f, Window((1, 1))) for w, c, f in shapes),
        *(float_conv(f"window_{f}", (4, 7, 6), f, SAME, activation=RELU) for f in (8, 16, 40, 48, 64, 70)),
        float_conv("window_strided", (7, 9, 3), 33, DOWN),
        float_conv("window_gathered", (12, 9, 1), 50, Window((10, 4), (2, 2), (1, 1), (4, 1, 5, 1))),
        float_conv("channels_40", (5, 13, 40), 40, SAME, 40, activation=Leaky(0.125)),
        float_conv("channels_16", (9, 10, 16), 16, Window((5, 3), (2, 2), (1, 2), (2, 2, 1, 3)), 16),
        float_conv("channels_23", (3, 3, 23), 23, SAME, 23, activation=RELU),
    ]


FAMILY_CASES = {**FAMILIES, "wide": wide_cases, "float": float_cases}


def skip_if_this_machine_cannot_run(processor: str) -> None:
    feature = NEEDS.get(processor)
    if feature and feature not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this machine's processor has no {feature}")


needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86-64")


@needs_x86
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("family", ["pointwise", "conv", "depthwise", "elementwise", "pool", "wide", "float"])
def test_vector_kernels_equal_the_reference(family, processor, monkeypatch):
    skip_if_this_machine_cannot_run(processor)
    monkeypatch.setenv("MMCC_BENCH_FLAGS", f"{PROCESSORS[processor]} -ffp-contract=off")
    cases = FAMILY_CASES[family]()
    bench = Bench(cases, load_target("host"))
    for case in cases:
        bench.check(case.name)


@pytest.mark.parametrize("family", ["wide", "float"])
def test_portable_kernels_equal_the_reference(family):
    """All other families: test_kernels_int8, test_kernels_float."""
    cases = FAMILY_CASES[family]()
    bench = Bench(cases, replace(load_target("host"), kernels=("portable",)))
    for case in cases:
        bench.check(case.name)


@needs_x86
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(convolutions(), float_convolutions()), min_size=16, max_size=16))
def test_generated_shapes(cases):
    """Several a time: compiling costs more than running."""
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMCC_BENCH_FLAGS", f"{PROCESSORS['own']} -ffp-contract=off")
        bench = Bench(named, load_target("host"))
    for case in named:
        bench.check(case.name)


@needs_x86
def test_extremes_of_products(monkeypatch):
    """-128 times -128 all over: what a processor might saturate."""
    monkeypatch.setenv("MMCC_BENCH_FLAGS", "-march=native")
    cases: list[OpCase] = []
    for name, made in (("least", conv("least", (2, 5, 64), 32, SAME)), ("dense", dense("most", (512,), 20))):
        x, w, *scales = made.inputs
        low = (np.full_like(x, -128), np.full_like(w, -128), *scales)
        cases.append(OpCase(name, made.op, low, made.constant))
    bench = Bench(cases, load_target("host"))
    for case in cases:
        bench.check(case.name)
