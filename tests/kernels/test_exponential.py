# SPDX-License-Identifier: Apache-2.0
"""mmcc_expf of runtime_c/mmcc_math.h: its error over all exponents, and the same bits on all cores."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import numpy as np
import pytest
from mmcc.resources import data_dir
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from toolchains import ALL, FIRMWARE, ready

BLOCK = 4096  # floats, as tests/firmware/exponentials.c takes them
BOUND = 0.75  # units in the last place, as the header promises


def samples(mantissas: int) -> np.ndarray:
    """Floats of every exponent and both signs, those near where results overflow or vanish; whole blocks."""
    rng = np.random.default_rng(7)
    drawn = rng.integers(0, 1 << 23, (512, mantissas - 2))
    ends = np.tile([0, (1 << 23) - 1], (512, 1))
    bits = (np.arange(512)[:, None] << 23 | np.concatenate([ends, drawn], 1)).reshape(-1)
    edges = np.array([88.72284, -87.33655, -103.27893, -103.97208, 128, -128], np.float32).view(np.uint32)
    near = (edges[:, None].astype(np.int64) + np.arange(-64, 64)).reshape(-1)
    bits = np.concatenate([bits, near])
    return np.resize(bits, -(-len(bits) // BLOCK) * BLOCK).astype(np.uint32).view(np.float32)


def computed(name: str, values: np.ndarray, folder) -> np.ndarray:
    target = ready(name)
    elf = build_firmware(target, [FIRMWARE / "exponentials.c"], [data_dir("runtime_c")], folder)
    run = run_firmware(elf, target, values.tobytes(), 4 * BLOCK, folder / "run")
    return np.frombuffer(run.outputs, np.float32)


@cache
def few() -> np.ndarray:
    return samples(48)


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> np.ndarray:
    return computed("host", few(), tmp_path_factory.mktemp("host"))


def test_the_error_is_within_the_bound(tmp_path):
    values = samples(4096)
    got = computed("host", values, tmp_path)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.exp(values.astype(np.float64))
    assert np.array_equal(np.isnan(got), np.isnan(values))
    over = exact >= np.float64(np.finfo(np.float32).max) * (1 + 2.0**-25)
    assert np.array_equal(np.isposinf(got), over)
    checked = ~over & ~np.isnan(values)
    step = np.ldexp(1.0, np.maximum(np.frexp(exact[checked])[1] - 24, -149))
    assert np.max(np.abs(got[checked] - exact[checked]) / step) < BOUND


def test_results_are_what_they_must_be(host):
    by_value = dict(zip(few().tolist(), host.tolist(), strict=True))
    assert by_value[0.0] == by_value[-0.0] == 1.0
    assert by_value[float("inf")] == float("inf")
    assert by_value[float("-inf")] == 0.0
    assert by_value[128.0] == float("inf")
    assert by_value[-128.0] == 0.0


@pytest.mark.parametrize("name", [name for name in ALL if name != "host"])
def test_bits_are_the_same_on_every_core(name, host, tmp_path):
    got = computed(name, few(), tmp_path)
    same = (got.view(np.uint32) == host.view(np.uint32)) | (np.isnan(got) & np.isnan(few()))
    assert same.all(), few()[~same][:5]


@pytest.mark.parametrize(("name", "alone"), [("cortex-m3", True), ("rv32imac", True), ("cortex-m4", False)])
def test_floats_are_compared_without_a_call(name, alone, tmp_path):
    """Else a Softmax is slower where there is no unit for floats: it looks for neighbours that are alike."""
    target, source = ready(name), tmp_path / "alike.c"
    body = "int alike(float a, float b) { return mmcc_alike(a, b); }\n"
    source.write_text('#include "mmcc_math.h"\n' + body)
    command = [target.compiler, *target.flags, "-I", data_dir("runtime_c"), "-S", "-o", "-", source]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not re.search("__(aeabi|eqsf|nesf)", made)
    assert ("vcmp" in made) != alone


@pytest.mark.quick
def test_kernels_have_no_other_exponential():
    templates = data_dir("templates") / "kernels"
    calls = [
        path.name for path in templates.rglob("*.j2") if re.search(r"(?<!mmcc_)\bexpf\(", path.read_text())
    ]
    assert not calls
