# SPDX-License-Identifier: Apache-2.0
"""The C and CMake of the firmware page: built, and run."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from doc_pages import DIGITS, DOCS, blocks
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.toolchain import STRICT_FLAGS

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def c_files(page: Path) -> dict[str, str]:
    """Blocks of C that begin with a comment that names a file: its name -> its text."""
    named = ((re.match(r"/\* (\w+\.c):", text), text) for language, text in blocks(page) if language == "c")
    return {found[1]: text for found, text in named if found}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as the pages compile them: plain, by rows, weights in a file that is linked or read."""
    folder = tmp_path_factory.mktemp("docs")
    model = DIGITS / "digits_int8.onnx"
    compile_model(model, folder / "digits_c", CompileOptions(name="digits"))
    compile_model(model, folder / "digits_rows_c", CompileOptions(name="digits", io="rows"))
    compile_model(model, folder / "digits_bin_c", CompileOptions(name="digits", weights="bin"))
    compile_model(model, folder / "digits_staged_c", CompileOptions(name="digits", weights="staged"))
    return folder


def parts(package: Path) -> list[Path]:
    return sorted(p for p in package.iterdir() if p.suffix in (".c", ".S") and "selftest" not in p.name)


def build(folder: Path, package: Path, texts: dict[str, str], *flags: str) -> Path:
    """Compile text files and a package with every warning an error; the program."""
    for name, text in texts.items():
        (folder / name).write_text(text)
    own = [folder / name for name in texts]
    command = ["gcc", *STRICT_FLAGS, *flags, f"-I{package}", *own, *parts(package), "-lm", "-o"]
    made = folder / "program"
    done = subprocess.run([*command, made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


BOARD = """
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
bool camera_read(uint8_t *pixels, uint32_t count);
void show_digit(int32_t digit, float logit);
void show_error(const char *text);
bool camera_read(uint8_t *pixels, uint32_t count)
{
    return fread(pixels, 1, count, stdin) == count;
}
void show_digit(int32_t digit, float logit)
{
    printf("%d %.3f\\n", (int)digit, (double)logit);
}
void show_error(const char *text)
{
    printf("error: %s\\n", text);
}
"""


DEVICE = """
#include <string.h>
bool device_begin(void *to, uint32_t offset, uint32_t bytes);
bool device_finish(void);
static void *where;
static uint32_t from, size;
bool device_begin(void *to, uint32_t offset, uint32_t bytes)
{
    where = to;
    from = offset;
    size = bytes;
    memset(to, 0xA5, bytes);
    return where != NULL;
}
bool device_finish(void)
{
    FILE *file = fopen("PATH", "rb");
    const bool there = file != NULL && fseek(file, (long)from, SEEK_SET) == 0;
    const bool done = there && fread(where, 1, size, file) == size;
    if (file != NULL) {
        fclose(file);
    }
    return done;
}
"""


def run_on_digits(program: Path, count: int = 40) -> int:
    """How many of the first test digits a program reads rightly: images on stdin, one line each."""
    data = np.load(DIGITS / "test_data.npz")
    pixels = np.rint(data["input_0"][:count] * 255).astype(np.uint8)
    done = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    guesses = [int(line.split()[0]) for line in done.stdout.decode().splitlines()]
    assert len(guesses) == count
    return int((np.array(guesses) == data["labels"][:count]).sum())


@needs_gcc
def test_the_main_program_of_the_firmware_page_classifies_digits(packages: Path, tmp_path: Path) -> None:
    text = c_files(DOCS / "firmware.md")["main.c"]
    program = build(tmp_path, packages / "digits_c", {"main.c": text, "board.c": BOARD})
    assert run_on_digits(program) >= 38


@needs_gcc
def test_the_row_callbacks_of_the_firmware_page_classify_digits(packages: Path, tmp_path: Path) -> None:
    text = c_files(DOCS / "firmware.md")["main_rows.c"]
    program = build(tmp_path, packages / "digits_rows_c", {"main_rows.c": text, "board.c": BOARD})
    assert run_on_digits(program) >= 38


@needs_gcc
def test_the_staged_weights_of_the_firmware_page_classify_digits(packages: Path, tmp_path: Path) -> None:
    """The device is a file; what is begun is there only when it is waited for."""
    folder = packages / "digits_staged_c"
    board = BOARD + DEVICE.replace("PATH", str(folder / "digits_weights.bin"))
    text = c_files(DOCS / "firmware.md")["main_staged.c"]
    program = build(tmp_path, folder, {"main_staged.c": text, "board.c": board})
    assert run_on_digits(program) >= 38


@needs_gcc
def test_the_hooks_of_the_firmware_page_see_every_node(packages: Path, tmp_path: Path) -> None:
    page = c_files(DOCS / "firmware.md")
    board = (
        BOARD
        + """
uint32_t board_cycles(void);
uint32_t board_cycles(void) { static uint32_t now; return now += 7; }
"""
    )
    texts = {"main.c": page["main.c"], "hooks.c": page["hooks.c"], "board.c": board}
    program = build(tmp_path, packages / "digits_c", texts, "-DDIGITS_HOOKS=1")
    assert run_on_digits(program) >= 38


@needs_gcc
def test_attributes_of_the_firmware_page_place_arena_and_weights(packages: Path, tmp_path: Path) -> None:
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    flags = re.findall(r"'(-DDIGITS_\w+_ATTRIBUTE=[^']*)'", (DOCS / "firmware.md").read_text())
    assert len(flags) == 3
    (tmp_path / "main.c").write_text(c_files(DOCS / "firmware.md")["main.c"])
    package = packages / "digits_c"
    sections: dict[str, str] = {}
    for source in (tmp_path / "main.c", package / "digits_weights.c", package / "digits.c"):
        made = tmp_path / f"{source.stem}.o"
        subprocess.run(["gcc", *STRICT_FLAGS, *flags, f"-I{package}", "-c", source, "-o", made], check=True)
        listing = subprocess.run(["objdump", "-h", made], capture_output=True, text=True, check=True).stdout
        sections |= dict(re.findall(r"^\s*\d+ (\S+).*\n\s+(.*)$", listing, re.MULTILINE))
    assert "CONTENTS" not in sections[".bss.dtcm"]
    assert "READONLY" in sections[".ext_flash"]
    assert "CODE" in sections[".itcm"]


@needs_gcc
@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="needs a POSIX system")
def test_weights_may_lie_at_an_address(packages: Path, tmp_path: Path) -> None:
    """The weights file is mapped where DIGITS_WEIGHTS_ADDRESS says, as an external flash would be."""
    package, address = packages / "digits_bin_c", "0x200000000000"
    board = (
        "#define _GNU_SOURCE\n#include <sys/mman.h>\n#include <fcntl.h>\n#include <stdlib.h>\n"
        + BOARD
        + f"""
static __attribute__((constructor)) void load(void)
{{
    const int file = open(getenv("WEIGHTS"), O_RDONLY);
    if (mmap((void *){address}, {os.path.getsize(package / "digits_weights.bin")}, PROT_READ,
             MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED) abort();
}}
"""
    )
    (tmp_path / "board.c").write_text(board)
    (tmp_path / "main.c").write_text(c_files(DOCS / "firmware.md")["main.c"])
    names = [p for p in parts(package) if p.suffix == ".c"]  # and not the assembler file
    flags = ["-std=gnu99", f"-DDIGITS_WEIGHTS_ADDRESS={address}", f"-I{package}"]
    command = ["gcc", *flags, tmp_path / "board.c", tmp_path / "main.c", *names, "-o", tmp_path / "program"]
    subprocess.run(command, check=True)
    wrapper = tmp_path / "run.sh"
    wrapper.write_text(f"#!/bin/sh\nWEIGHTS='{package}/digits_weights.bin' exec '{tmp_path}/program'\n")
    wrapper.chmod(0o755)
    assert run_on_digits(wrapper) >= 38


@needs_gcc
def test_the_cmake_of_the_firmware_page_builds(packages: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    texts = [text for language, text in blocks(DOCS / "firmware.md") if language == "cmake"]
    whole = next(text for text in texts if "project(" in text)
    page = (DOCS / "firmware.md").read_text()
    more = re.findall(r"`(target_(?:link_libraries|compile_definitions)\(.*?\))`", page, re.DOTALL)
    assert len(more) >= 2
    board = "add_library(zephyr_interface INTERFACE)\n"  # stands for the SDK's
    (tmp_path / "CMakeLists.txt").write_text("\n".join([whole, board, *more]))
    (tmp_path / "main.c").write_text(c_files(DOCS / "firmware.md")["main.c"])
    (tmp_path / "board.c").write_text(BOARD)
    shutil.copytree(packages / "digits_c", tmp_path / "digits_c")
    made = tmp_path / "build"
    subprocess.run(["cmake", "-S", tmp_path, "-B", made], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", made], check=True, capture_output=True)
    assert run_on_digits(made / "app") >= 38
