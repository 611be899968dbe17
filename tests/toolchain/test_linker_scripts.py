# SPDX-License-Identifier: Apache-2.0
"""A package under linker scripts laid out as ST's, Zephyr's and the Pico SDK's: its self-test says ok."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from cmake_projects import DIGITS, build_project
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from toolchains import FIRMWARE, ready

LINKER = FIRMWARE / "linker"
# what each script calls its parts, its section for code in RAM, and flags its SDK links with
SCRIPTS = {
    "st": (
        'VECTORS=".isr_vector";STACK_TOP=_estack;DATA_LOAD=_sidata;DATA_START=_sdata;DATA_END=_edata;'
        "BSS_START=_sbss;BSS_END=_ebss",
        ".RamFunc",
        "",
    ),
    "zephyr": (
        'VECTORS=".exc_vector_table";STACK_TOP=_estack;DATA_LOAD=__data_region_load_start;'
        "DATA_START=__data_region_start;DATA_END=__data_region_end;BSS_START=__bss_start;BSS_END=__bss_end;"
        "CODE_LOAD=__ramfunc_load_start;CODE_START=__ramfunc_start;CODE_END=__ramfunc_end",
        ".ramfunc",
        "-Wl,--orphan-handling=error",
    ),
    "pico": (
        'VECTORS=".vectors";STACK_TOP=_estack;DATA_LOAD=__data_load__;DATA_START=__data_start__;'
        "DATA_END=__data_end__;BSS_START=__bss_start__;BSS_END=__bss_end__",
        ".time_critical.net",
        "",
    ),
}
PROJECT = """project(board C)
add_subdirectory("{package}" net)
add_executable(app {linker}/start.c {linker}/main.c {package}/net_selftest.c)
target_compile_definitions(app PRIVATE {names})
target_compile_options(app PRIVATE -ffreestanding)
target_link_options(app PRIVATE -nostartfiles --specs=nosys.specs -Wl,--gc-sections {more})
target_link_options(app PRIVATE -T {linker}/{script}.ld)
target_link_libraries(app PRIVATE mmcc::net m)
"""
IN_RAM = """target_compile_definitions(mmcc_net PRIVATE
  "NET_CODE_ATTRIBUTE=__attribute__((section(\\"{section}\\")))")
"""
PACKAGES = {
    "int8": ("digits_int8", CompileOptions(name="net", target="cortex-m4")),
    "float": ("digits_fp32", CompileOptions(name="net", target="cortex-m4")),
    "bin": ("digits_int8", CompileOptions(name="net", target="cortex-m4", weights="bin")),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """By name, each compiled when it is first asked for."""
    folder = tmp_path_factory.mktemp("packages")

    def of(name):
        model, options = PACKAGES[name]
        if not (folder / name).is_dir():
            compile_model(DIGITS / f"{model}.onnx", folder / name, options)
        return folder / name

    return of


def run(app):
    """The exit code of firmware on the emulated board; 124 if it hangs."""
    board = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    command = [*board, "-semihosting-config", "enable=on,target=native", "-kernel", app]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=60).returncode
    except subprocess.TimeoutExpired:
        return 124


def firmware(script, package, folder, *definitions, in_ram=False):
    ready("cortex-m4")
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    names, section, more = SCRIPTS[script]
    quoted = " ".join(f"[[{name}]]" for name in names.split(";"))
    text = PROJECT.format(package=package, linker=LINKER, script=script, names=quoted, more=more)
    text += IN_RAM.format(section=section) if in_ram else ""
    build = build_project(folder, text, "cortex-m4", *definitions)
    return build / "app"


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_self_test_passes_under_a_vendors_linker_script(script, name, packages, tmp_path):
    assert run(firmware(script, packages(name), tmp_path, "-DCMAKE_BUILD_TYPE=Release")) == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_passes_with_its_code_in_ram(script, packages, tmp_path):
    app = firmware(script, packages("int8"), tmp_path, "-DCMAKE_BUILD_TYPE=Debug", in_ram=True)
    listing = subprocess.run(["arm-none-eabi-nm", app], capture_output=True, text=True, check=True).stdout
    places = {line.split()[-1]: int(line.split()[0], 16) for line in listing.splitlines() if " T " in line}
    assert places["net_run"] >= 0x20000000
    assert places["net_init"] < 0x20000000
    assert run(app) == 0


def test_the_boards_see_a_table_that_nothing_fills(packages, tmp_path):
    """The test can fail: position-independent code under ST's script computes with garbage."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_POSITION_INDEPENDENT_CODE=ON"]
    assert run(firmware("st", packages("int8"), tmp_path, *options)) != 0
