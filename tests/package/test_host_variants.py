# SPDX-License-Identifier: Apache-2.0
"""Whole packages built for other x86-64 processors: the bits of this machine's own, within the stack found.

A user compiles for the processor at hand, which chooses the vectors and with them the code of every kernel.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import package_sources
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain import compile_objects, measure
from mmcc.toolchain.qemu import run_firmware
from mmcc.verification.compare import run_host
from mmcc.verification.linked import firmware_of
from mmcc.verification.samples import made_up, to_c

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CALLER_BYTES = 16  # what a call of the entry takes
SAMPLES = 4
NEEDS = {  # what /proc/cpuinfo must list to run what is compiled for it
    "x86-64": {"sse2"},
    "x86-64-v2": {"ssse3", "sse4_1", "sse4_2", "popcnt"},
    "x86-64-v3": {"avx2", "fma", "bmi2", "f16c", "movbe"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
FUSED = ("x86-64-v3", "x86-64-v4")  # with a fused multiply-add, which rounds once where others round twice
PACKAGES = {
    "float": ("digits_fp32.onnx", CompileOptions()),
    "int8": ("digits_int8.onnx", CompileOptions()),
}

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86-64"),
    pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"),
]


@pytest.fixture(scope="module", params=PACKAGES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, options = PACKAGES[request.param]
    folder = tmp_path_factory.mktemp("packages") / request.param
    compile_model(DIGITS / model, folder, replace(options, name="net", self_check=False))
    return folder


def variant(march: str, folder: Path) -> Path:
    """A target file for this machine as a processor of that generation."""
    missing = NEEDS[march] - set(Path("/proc/cpuinfo").read_text().split())
    if missing:
        pytest.skip(f"this machine's processor has no {', '.join(sorted(missing))}")
    flags = [f"-march={march}", *(flag for flag in load_target("host").flags if "-march" not in flag)]
    path = folder / f"{march}.toml"
    path.write_text(f'same_as = "host"\nflags = {flags}\n')
    return path


@pytest.mark.parametrize("march", NEEDS)
def test_other_processors_give_the_same_bits_within_their_stack(
    march: str, package: Path, tmp_path: Path
) -> None:
    """The stack of the run ends at a closed page where the bound ends."""
    file = variant(march, tmp_path)
    target = load_target(str(file))
    objects = compile_objects(target, package_sources(package), tmp_path / "o", include_dirs=[package])
    bounds = measure(target, objects, ["net_init", "net_run"], tmp_path / "o").stack.values()
    assert not any(bound.assumed for bound in bounds)
    stack = -(-(max(bound.bytes for bound in bounds) + CALLER_BYTES) // 16) * 16
    made = replace(load_package(package), target=str(file), stack=stack)
    samples = made_up(made.inputs, SAMPLES)
    raw = [b"".join(a.tobytes() for a in to_c(made.inputs, made.tensors, sample)) for sample in samples]
    run = run_firmware(firmware_of(package, made), target, b"".join(raw), len(raw[0]), tmp_path / "run")
    assert 0 < run.stack_bytes <= stack
    here = [to_c(made.outputs, made.tensors, outputs) for outputs in run_host(package, made, samples)]
    want = np.concatenate([array.reshape(-1) for outputs in here for array in outputs])
    got = np.frombuffer(run.outputs, want.dtype)
    if want.dtype.kind == "f" and march not in FUSED:
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()
    else:
        assert got.tobytes() == want.tobytes()
