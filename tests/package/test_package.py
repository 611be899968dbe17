# SPDX-License-Identifier: Apache-2.0
"""What a firmware engineer gets: files that build with every compiler, link together, and can be read."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.toolchain import STRICT_FLAGS
from onnx import TensorProto, helper
from toolchains import ready

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
MAIN = """
#include "one.h"
#include "two.h"
#include <stdio.h>
#include <string.h>
static ONE_ARENA(arena_one);
static TWO_ARENA(arena_two);
static one_context first, second;
static two_context other;
static ONE_ARENA(arena_again);
int main(void)
{
    if (one_run(&first) != MMCC_ERROR_NOT_INITIALIZED) return 1;
    if (one_init(&first, arena_one, sizeof arena_one - 1) != MMCC_ERROR_ARENA_SIZE) return 2;
    if (one_init(&first, arena_one + 1, sizeof arena_one) != MMCC_ERROR_ARENA_ALIGNMENT) return 3;
    if (one_init(NULL, arena_one, sizeof arena_one) != MMCC_ERROR_NULL) return 4;
    if (one_init(&first, arena_one, sizeof arena_one) != MMCC_OK) return 5;
    if (one_init(&second, arena_again, sizeof arena_again) != MMCC_OK) return 6;
    if (two_init(&other, arena_two, sizeof arena_two) != MMCC_OK) return 7;
    int8_t expected[ONE_OUTPUT_0_ELEMENTS];
    for (int round = 0; round < 2; ++round) {
        for (uint32_t k = 0; k < ONE_INPUT_0_ELEMENTS; ++k) one_input_0(&first)[k] = (int8_t)(k * 7 - 100);
        for (uint32_t k = 0; k < TWO_INPUT_0_ELEMENTS; ++k) two_input_0(&other)[k] = 0.25f;
        if (one_run(&first) != MMCC_OK || two_run(&other) != MMCC_OK) return 8;
        if (round == 0) memcpy(expected, one_output_0(&first), sizeof expected);
    }
    for (uint32_t k = 0; k < ONE_INPUT_0_ELEMENTS; ++k) one_input_0(&second)[k] = (int8_t)(k * 7 - 100);
    if (one_run(&second) != MMCC_OK) return 9;
    if (memcmp(expected, one_output_0(&first), sizeof expected) != 0) return 10;
    if (memcmp(expected, one_output_0(&second), sizeof expected) != 0) return 11;
    if (one_quantize_input_0(0.0f) != ONE_INPUT_0_ZERO_POINT) return 12;
    puts(mmcc_status_text(MMCC_OK));
    return 0;
}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two models, the first int8 and the second float, compiled for the host."""
    folder = tmp_path_factory.mktemp("packages")
    compile_model(DIGITS / "digits_int8.onnx", folder / "one", CompileOptions(name="one"))
    compile_model(DIGITS / "digits_fp32.onnx", folder / "two", CompileOptions(name="two"))
    return folder


def sources(folder):
    return sorted(p for p in folder.iterdir() if p.suffix == ".c" and "selftest" not in p.name)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_no_compiler_warns(compiler, name, packages, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for source in (packages / name).glob("*.c"):
        command = [
            compiler,
            *STRICT_FLAGS,
            "-Wstrict-prototypes",
            "-O2",
            "-c",
            source,
            "-o",
            tmp_path / "x.o",
        ]
        subprocess.run(command, check=True)


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_headers_are_headers_of_cpp_too(standard, packages, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    text = "".join(f'#include "{name}.h"\n' for name in ("one", "two", "one_selftest"))
    text += "int main() { return ONE_INPUTS - 1; }\n"
    (tmp_path / "main.cpp").write_text(text)
    includes = [f"-I{packages / name}" for name in ("one", "two")]
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wold-style-cast", "-Wno-old-style-cast"]
    subprocess.run(
        ["g++", *flags, "-Werror", *includes, tmp_path / "main.cpp", "-o", tmp_path / "x"], check=True
    )


def test_two_models_link_and_contexts_are_independent(packages, tmp_path):
    (tmp_path / "main.c").write_text(MAIN)
    parts = [*sources(packages / "one"), *sources(packages / "two")]
    includes = [f"-I{packages / name}" for name in ("one", "two")]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-std=c99", "-O1", *sanitize, *includes, tmp_path / "main.c", *parts, "-lm", "-o"]
    subprocess.run([*command, tmp_path / "both"], check=True)
    done = subprocess.run([tmp_path / "both"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_every_external_symbol_has_the_prefix(packages, tmp_path):
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    for source in sources(packages / "one"):
        made = tmp_path / f"{source.stem}.o"
        subprocess.run(["gcc", "-std=c99", "-c", source, "-o", made], check=True)
        listing = subprocess.run(
            ["nm", "-g", "--defined-only", made], capture_output=True, text=True, check=True
        )
        names = [line.split()[-1] for line in listing.stdout.splitlines()]
        assert names
        assert [name for name in names if not name.startswith("one_")] == []


def test_nothing_is_written_at_run_time(packages, tmp_path):
    """All data is constant: no .data, no .bss."""
    for source in sources(packages / "one"):
        made = tmp_path / f"{source.stem}.o"
        subprocess.run(["gcc", "-std=c99", "-O2", "-c", source, "-o", made], check=True)
        listing = subprocess.run(["size", "-A", made], capture_output=True, text=True, check=True).stdout
        sizes = dict(re.findall(r"^(\.\S+)\s+(\d+)", listing, re.MULTILINE))
        writable = {k: v for k, v in sizes.items() if k.startswith((".data", ".bss")) and int(v)}
        assert {k for k in writable if "rel.ro" not in k} == set()


def test_it_is_a_cmake_package(packages, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\n"
        f'add_subdirectory("{packages / "one"}" one)\nadd_subdirectory("{packages / "two"}" two)\n'
        "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE mmcc::one mmcc::two m)\n"
    )
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", tmp_path, "-B", build], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    assert subprocess.run([build / "app"], capture_output=True, check=False).returncode == 0


def test_a_package_brings_the_math_library_where_it_calls_it(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "tanh.onnx")
    how = CompileOptions(name="one", stack=1000, self_check=False)
    compile_model(tmp_path / "tanh.onnx", tmp_path / "one", how)
    (tmp_path / "main.c").write_text(
        '#include "one.h"\nstatic ONE_ARENA(arena);\nstatic one_context one;\n'
        "int main(void) { return one_init(&one, arena, sizeof arena) || one_run(&one); }\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\nadd_subdirectory(one)\n"
        "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE mmcc::one)\n"
    )
    build = tmp_path / "build"
    for command in (["cmake", "-S", tmp_path, "-B", build], ["cmake", "--build", build], [build / "app"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    compile_model(DIGITS / "digits_int8.onnx", tmp_path / "two", replace(how, name="two"))
    assert "PUBLIC m)" not in (tmp_path / "two" / "CMakeLists.txt").read_text()


@pytest.mark.parametrize("weights", ["c", "bin"])
def test_a_project_that_is_all_cpp_builds_it(weights, tmp_path):
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    compile_model(DIGITS / "digits_int8.onnx", tmp_path / "one", CompileOptions(name="one", weights=weights))
    (tmp_path / "main.cpp").write_text(
        '#include "one.h"\nstatic ONE_ARENA(arena);\nstatic one_context one;\n'
        "int main() { return one_init(&one, arena, sizeof arena) || one_run(&one); }\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app CXX)\nadd_subdirectory(one)\n"
        "add_executable(app main.cpp)\ntarget_link_libraries(app PRIVATE mmcc::one)\n"
    )
    build = tmp_path / "build"
    for command in (["cmake", "-S", tmp_path, "-B", build], ["cmake", "--build", build], [build / "app"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_self_test_passes_and_can_fail(name, packages, tmp_path):
    parts = sources(packages / name)
    test = packages / name / f"{name}_selftest.c"
    command = ["gcc", "-std=c99", "-O1", f"-D{name.upper()}_SELFTEST_MAIN=1", f"-I{packages / name}"]
    subprocess.run([*command, test, *parts, "-lm", "-o", tmp_path / "good"], check=True)
    assert subprocess.run([tmp_path / "good"], check=False, capture_output=True).returncode == 0
    text = (packages / name / f"{name}_weights.c").read_text()
    changed = re.sub(r"(?<=[ ,])7(?=,)", "-90", text) if name == "one" else text.replace("0.0", "0.5")
    assert changed != text
    (tmp_path / "w.c").write_text(changed)
    spoiled = [p for p in parts if "weights" not in p.name] + [tmp_path / "w.c"]
    subprocess.run([*command, test, *spoiled, "-lm", "-o", tmp_path / "bad"], check=True)
    assert subprocess.run([tmp_path / "bad"], check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", ["one", "two"])
def test_files_hold_no_paths_and_no_dates(name, packages):
    for path in (packages / name).iterdir():
        if path.is_file() and path.suffix in (".c", ".h", ".txt", ".json"):
            text = path.read_text()
            assert str(ROOT) not in text, path
            assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text), path


def test_a_cross_toolchain_file_builds_packages(tmp_path):
    ready("cortex-m4")
    package = tmp_path / "m4"
    compile_model(DIGITS / "digits_int8.onnx", package, CompileOptions(name="m4", target="cortex-m4"))
    flags = "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard"
    (tmp_path / "arm.cmake").write_text(
        "set(CMAKE_SYSTEM_NAME Generic)\nset(CMAKE_SYSTEM_PROCESSOR arm)\n"
        "set(CMAKE_C_COMPILER arm-none-eabi-gcc)\nset(CMAKE_ASM_COMPILER arm-none-eabi-gcc)\n"
        f'set(CMAKE_C_FLAGS_INIT "{flags}")\nset(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)\n'
    )
    build = tmp_path / "build"
    options = [f"-DMMCC_PACKAGES={package}", f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'arm.cmake'}"]
    subprocess.run(["cmake", "-S", ROOT, "-B", build, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    assert list(build.rglob("libmmcc_m4.a"))
