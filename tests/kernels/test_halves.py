# SPDX-License-Identifier: Apache-2.0
"""Weights in float16: what widens them gives every value, in every kernel that reads them."""

from __future__ import annotations

import pytest
from kernel_bench import Bench
from mmcc.target import load_target
from op_cases_halves import layers_of_halves
from qemu_bench import QemuBench
from test_kernels_host import PROCESSORS, needs_x86
from toolchains import ready

TEMPLATES = {"dense", "conv", "conv_depthwise", "conv_transpose", "recurrent"}
VECTORS = {"host": {"simd_conv_float", "simd_depthwise_float"}, "cortex-m55": {"mve_depthwise"}}


@needs_x86
def test_on_this_machine(monkeypatch):
    """By F16C and AVX-512, if it has them."""
    monkeypatch.setenv("MMCC_BENCH_FLAGS", f"{PROCESSORS['own']} -ffp-contract=off")
    cases = layers_of_halves()
    bench = Bench(cases, load_target("host"), sanitize=False)
    found = {kernel.template for kernel in bench.package.kernels}
    assert found >= VECTORS["host"] | TEMPLATES - {"conv_depthwise"}
    for case in cases:
        bench.check(case.name)


@pytest.mark.parametrize("name", ["cortex-m3", "cortex-m4", "cortex-m55", "aarch64"])
def test_on_an_emulated_core(name):
    bench = QemuBench(layers_of_halves(), ready(name))
    wanted = VECTORS.get(name, set()) | {"dense", "conv", "conv_transpose", "recurrent"}
    assert {kernel.template for kernel in bench.package.kernels} >= wanted
    bench.check_all()
