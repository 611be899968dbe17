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
from kernel_bench import Bench
from mmcc.target import load_target
from op_case import OpCase
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import conv, dense
from random_float import convolutions as float_convolutions
from random_int8 import convolutions
from vector_cases import SAME, float_cases, wide_cases

PROCESSORS = {
    "own": "-march=native",
    "avx512": "-march=x86-64-v4",
    "avx2": "-march=x86-64-v3",
    "any": "",
}
NEEDS = {"avx512": "avx512bw", "avx2": "avx2"}  # of this machine, to run what was compiled


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
    # Where a processor has AVX-512, its own code is the same and is looked at for undefined behaviour.
    bench = Bench(cases, load_target("host"), sanitize=processor != "avx512")
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
