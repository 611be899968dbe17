# SPDX-License-Identifier: Apache-2.0
"""The headers of runtime_c compile, alone and together, for every processor that they have a path for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cmake_projects import DIGITS
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.resources import data_dir
from mmcc.target import load_target
from mmcc.toolchain import CODE_FLAGS, STRICT_FLAGS
from shared_models import SHARED
from toolchains import ready

RUNTIME = data_dir("runtime_c")
COMMON = ["mmcc_runtime.h", "mmcc_requantize.h", "mmcc_math.h", "mmcc_floats.h", "mmcc_simd.h"]
COMMON += [
    "mmcc_winograd.h",
    "mmcc_words.h",
    "mmcc_loops.h",
    "mmcc_narrow.h",
    "mmcc_halves.h",
    "mmcc_products.h",
]
X86 = {
    "x86-64": [],
    "x86-64-v2": ["-march=x86-64-v2"],
    "x86-64-v3": ["-march=x86-64-v3"],
    "x86-64-v4": ["-march=x86-64-v4"],
    "AVX-VNNI": ["-march=alderlake"],
    "AVX-512 VNNI": ["-march=icelake-server"],
    "AVX-512 without FMA": ["-mavx512f", "-mno-fma"],
    "AVX without FMA": ["-mavx2", "-mno-fma"],
}
ARM = {
    "cortex-m0plus": ["mmcc_armv6m.h"],
    "cortex-m4": [
        "mmcc_arm_dsp.h",
        "mmcc_arm_dsp_four.h",
        "mmcc_arm_dsp_chunks.h",
        "mmcc_arm_dsp_winograd.h",
        "mmcc_arm_dsp_lines.h",
        "mmcc_arm_dsp_tiles.h",
        "mmcc_arm_dsp_taps.h",
        "mmcc_arm_dsp_sums.h",
    ],
    "cortex-m55": [
        "mmcc_arm_dsp.h",
        "mmcc_arm_dsp_four.h",
        "mmcc_arm_dsp_chunks.h",
        "mmcc_arm_dsp_lines.h",
        "mmcc_arm_dsp_tiles.h",
        "mmcc_arm_dsp_taps.h",
        "mmcc_arm_dsp_sums.h",
        "mmcc_mve.h",
        "mmcc_mve_assembly.h",
    ],
    "aarch64": [],
    "rv32imac": [],
    "rv64gcv": [],
    "wasm32": [],
}
MORE = {
    "aarch64": [
        ["-march=armv8-a"],
        ["-march=armv8.2-a+dotprod"],
        ["-march=armv8.2-a+dotprod", "-DMMCC_SIMD_FIXED"],
        ["-march=armv8.2-a+dotprod+i8mm"],
    ],
    "rv64gcv": [[], ["-march=rv64gc"]],
    "wasm32": [[], ["-mno-simd128"]],
}


def compile_together(command, headers, folder):
    """Each header alone, and all of them in one file, in either order: so each pair is in one file."""
    files = [[header] for header in headers] + [headers, headers[::-1]]
    for k, names in enumerate(files):
        text = "".join(f'#include "{header}"\n' for header in names)
        (folder / f"headers_{k}.c").write_text(text + "typedef int translation_unit;\n")
    sources = [f"headers_{k}.c" for k in range(len(files))]
    flags = ["-O1", f"-I{RUNTIME}", "-fsyntax-only"]
    done = subprocess.run(
        [*command, *STRICT_FLAGS, *flags, *sources], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("machine", X86)
def test_all_headers_go_together_on_x86(machine, compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if "x86_64" not in subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True).stdout:
        pytest.skip("not an x86 machine")
    compile_together([compiler, *X86[machine]], COMMON, tmp_path)


@pytest.mark.parametrize("name", ARM)
def test_all_headers_go_together_on_boards(name, tmp_path):
    target = ready(name)
    for more in MORE.get(name, [[]]):
        compile_together([target.compiler, *target.flags, *more], [*COMMON, *ARM[name]], tmp_path)


@pytest.mark.quick
def test_no_name_is_defined_in_two_headers():
    """Whatever a processor's paths are: one header owns a name."""
    owners: Counter[str] = Counter()
    for path in RUNTIME.glob("mmcc_*.h"):
        text = path.read_text()
        functions = re.findall(r"^[A-Za-z_][^;={}#/]*?\b(mmcc_\w+)\([^;{}]*\)\n\{", text, re.MULTILINE)
        types = re.findall(r"^\} (\w+);|^typedef [^;({]*?(\w+);", text, re.MULTILINE)
        macros = re.findall(r"^#\s*define (MMCC_\w+)", text, re.MULTILINE)
        names = {*functions, *(name for pair in types for name in pair if name), *macros}
        small = (
            "mve",
            "mve_assembly",
            "moves",
            "products",
            "normalize",
            "recurrent_dsp",
            "narrow",
            "pages",
            "handoff",
            "threads",
            "words",
            "loops",
        )
        few = path.name in [f"mmcc_{name}.h" for name in ("armv6m", "arm_dsp_sums", *small)]
        assert few or len(names) > 5, path
        owners.update(names)
    assert {name for name, count in owners.items() if count > 1} == set()


MODELS = {
    "int8": DIGITS / "digits_int8.onnx",
    "float": DIGITS / "digits_fp32.onnx",
    "mixed": SHARED / "cases" / "trust" / "repro" / "load8_mixed.onnx",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Packages of this machine's kernels, by model."""
    folder, made = tmp_path_factory.mktemp("x86"), {}

    def of(model):
        if not MODELS[model].is_file():
            pytest.skip(f"there is no {MODELS[model]} (set MMCC_SHARED)")
        if model not in made:
            made[model] = folder / model
            options = CompileOptions(name="net", stack=65536)
            compile_model(MODELS[model], made[model], options)
        return made[model]

    return of


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("model", MODELS)
def test_packages_build_for_every_x86(model, compiler, packages, tmp_path):
    if shutil.which(compiler) is None or load_target("host").compiler != "cc":
        pytest.skip(f"{compiler} is not installed")
    package: Path = packages(model)
    sources = [p for p in sorted(package.glob("*.c")) if "weights" not in p.name]
    for machine, flags in X86.items():
        command = [compiler, *flags, *STRICT_FLAGS, "-O1", *CODE_FLAGS, "-fsyntax-only", *sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (machine, done.stderr[:3000])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("compiler", "other", "told"),
    [
        ("gcc", [], True),
        ("gcc", ["-U__GNUC__", "-D__GNUC__=7"], False),
        ("gcc", ["-D__INTEL_COMPILER=2021"], False),
        ("clang", [], False),
    ],
)
def test_pragmas_are_for_compilers_that_know_them(compiler: str, other: list[str], told: bool) -> None:
    """Others warn of them, which is an error in many projects."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    text = '#include "mmcc_loops.h"\nMMCC_KEEP_LOOP\n'
    command = [compiler, *other, "-E", f"-I{RUNTIME}", "-x", "c", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert ("#pragma" in done.stdout) == told


@pytest.mark.quick
@pytest.mark.parametrize(
    "command",
    [["gcc", "-U__BYTE_ORDER__", "-D__BYTE_ORDER__=4321"], ["s390x-linux-gnu-gcc"]],
    ids=lambda c: c[0],
)
def test_big_endian_cores_are_refused(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    text = '#include "mmcc_runtime.h"\n'
    flags = ["-fsyntax-only", f"-I{RUNTIME}", "-x", "c", "-"]
    done = subprocess.run([*command, *flags], input=text, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "little-endian" in done.stderr


FAST = ["-ffast-math", "-Ofast", "-ffinite-math-only", "-funsafe-math-optimizations", "-freciprocal-math"]


@pytest.mark.quick
@pytest.mark.parametrize("flag", FAST)
@pytest.mark.parametrize("compiler", ["gcc", "arm-none-eabi-gcc"])
def test_floats_are_not_compiled_with_other_rules(compiler: str, flag: str) -> None:
    """What the message says to add makes the file compile."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    flags = [compiler, "-O2", flag, "-fsyntax-only", f"-I{RUNTIME}", "-x", "c", "-"]

    def compiled(more: list[str]) -> subprocess.CompletedProcess[str]:
        text = '#include "mmcc_math.h"\n'
        return subprocess.run([*flags, *more], input=text, capture_output=True, text=True, check=False)

    said = compiled([])
    assert said.returncode != 0
    advice = re.findall(r"(-fno-[a-z-]+)", said.stderr.split("mmcc:")[1])
    assert advice
    assert compiled(advice).returncode == 0
