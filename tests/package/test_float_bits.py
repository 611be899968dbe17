# SPDX-License-Identifier: Apache-2.0
"""Bits of floats depend on whether there is a fused multiply-add, and on nothing else a compiler is told."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from toolchains import ready

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from fuzz_graphs import float_model
from fuzz_programs import Built, Model, Trial, base, build, compile_trial, run

LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
FUSED = "-march=x86-64-v3"
UNFUSED = ("-march=x86-64-v2", "-march=x86-64-v3 -mno-fma")
# Convolutions, dense layers, softmax, softplus, means, gates: sums, and what calls the math library.
SEEDS = {"a10": [31, 3], "a11": [31, 13], "a12": [31, 25]}

needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86-64")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    ready("host")
    folder = tmp_path_factory.mktemp("packages")
    built: list[Built] = []
    for name, seed in SEEDS.items():
        onnx.save(float_model(seed, 5, usual=True), folder / f"{name}.onnx")
        built.append(compile_trial(Model(folder / f"{name}.onnx"), folder, Trial(name, base(name), "")))
    return built


def bits(packages: list[Built], flags: list[str], folder: Path) -> list[bytes]:
    """All outputs of all packages, as they are in memory."""
    program = build(packages, folder / "program", flags)
    made: list[bytes] = []
    for package in packages:
        rng = np.random.default_rng(7)
        sample = [rng.standard_normal(p.onnx_shape).astype(np.float32) for p in package.package.inputs]
        made += [array.tobytes() for array in run(program, package, [sample], folder)[0]]
    return made


def compilers() -> list[str]:
    """gcc and, where it is installed, clang."""
    return [name for name in ("gcc", "clang") if shutil.which(name)]


@needs_x86
@pytest.mark.parametrize("march", ["-march=x86-64", FUSED])
def test_levels_and_compilers_give_the_same_bits(packages: list[Built], march: str, tmp_path: Path) -> None:
    if march == FUSED and " fma " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no fused multiply-add")
    want = bits(packages, ["gcc", "-O2", march], tmp_path)
    for compiler in compilers():
        for level in LEVELS:
            assert bits(packages, [compiler, level, march], tmp_path) == want, (compiler, level)


@needs_x86
@pytest.mark.parametrize("march", UNFUSED)
def test_instruction_sets_without_fusing_give_the_same_bits(
    packages: list[Built], march: str, tmp_path: Path
) -> None:
    if "v3" in march and " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX2")
    want = bits(packages, ["gcc", "-O2", "-march=x86-64"], tmp_path)
    for compiler in compilers():
        assert bits(packages, [compiler, "-O2", *march.split()], tmp_path) == want, compiler
