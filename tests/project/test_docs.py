# SPDX-License-Identifier: Apache-2.0
"""The pages agree with the code: error codes, links, commands, figures; C that is shown builds and runs."""

from __future__ import annotations

import ast
import mmap
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from mmcc.cli import main
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import Exit
from mmcc.toolchain import STRICT_FLAGS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DIGITS = ROOT / "examples" / "digits"
PACKAGE = ROOT / "compiler" / "mmcc"
PAGES = sorted(
    p
    for p in (
        ROOT / "README.md",
        ROOT / "DESIGN.md",
        ROOT / "CONTRIBUTING.md",
        *DOCS.glob("*.md"),
        DIGITS / "README.md",
    )
    if p.is_file()
)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ---- error codes


def documented() -> dict[str, set[Exit]]:
    """Code -> exit codes, from the tables of errors.md."""
    rows = re.findall(r"^\| (MM\d{3}) \|[^|]*\|([^|]*)\|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert len(rows) == len({code for code, _ in rows}), "a code is listed twice"
    return {code: {Exit[name] for name in re.findall(r"[A-Z_]{5,}", exits)} for code, exits in rows}


def sources() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if "_data" not in p.parts]


def raised() -> Iterator[tuple[str, Exit, str]]:
    """Code, exit code and place of every error that the compiler makes with both in plain sight."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            given = {k.arg: k.value for k in node.keywords}
            place = f"{path.name}:{node.lineno}"
            if node.func.id == "bad_model":
                yield from ((code, Exit.BAD_MODEL, place) for code in literals(node.args[0]))
            elif node.func.id == "unsupported":
                code = given.get("code") or (node.args[2] if len(node.args) > 2 else None)
                yield from ((c, Exit.UNSUPPORTED, place) for c in (literals(code) if code else ["MM202"]))
            elif node.func.id == "CompileError" and "exit" in given:
                exits = [n.attr for n in branches(given["exit"]) if isinstance(n, ast.Attribute)]
                codes = [c for n in branches(node.args[0]) for c in literals(n)]
                pairs = zip(codes, exits, strict=True) if len(codes) == len(exits) else ()
                yield from ((code, Exit[name], place) for code, name in pairs if name in Exit.__members__)


def branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def literals(node: ast.expr) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and str(n.value).startswith("MM")]


@pytest.mark.quick
def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    used = {code for path in sources() for code in re.findall(r"\bMM\d{3}\b", path.read_text())}
    assert used == set(documented())


@pytest.mark.quick
def test_exit_codes_of_errors_are_as_documented() -> None:
    table, found = documented(), list(raised())
    assert len({code for code, _, _ in found}) > 20, "the search for raised errors finds too few"
    assert [row for row in found if row[1] not in table[row[0]]] == []
    for code in {code for code, _, _ in found}:
        assert table[code] == {exit for c, exit, _ in found if c == code}, code


@pytest.mark.quick
def test_exit_codes_are_listed() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert {int(n): name for n, name in rows} == {int(e): e.name for e in Exit}


# ---- links


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Fenced blocks of a page: language and text."""
    for found in re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    wrong: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """In code spans: files from the project, compiler/mmcc or the page on; folders end with a slash."""
    folders = "compiler|templates|targets|runtime_c|tests|bench|examples|docs|scripts"
    spans = re.findall(
        rf"`((?:{folders})/[\w./-]+|[\w./-]+\.(?:py|j2)|(?!build/|model_c/)[a-z_]+(?:/[a-z_]+)*/)`",
        page.read_text(),
    )
    places = (ROOT, PACKAGE, page.parent)
    there = [any((place / span).exists() for place in places) for span in spans]
    assert [span for span, found in zip(spans, there, strict=True) if not found] == []


def section(name: str) -> str:
    """A section of DESIGN.md."""
    found = re.search(rf"^## {name}\n(.*?)^## ", (ROOT / "DESIGN.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.mark.quick
def test_the_rooms_are_listed_in_the_order_of_imports() -> None:
    from test_layers import LAYERS

    cells = re.findall(r"^\| (`.*?) \|", section("Rooms"), re.MULTILINE)
    rooms = [name for cell in cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
    assert rooms == [layer for layer in LAYERS if layer != "__main__"]


@pytest.mark.quick
def test_the_files_of_the_planner_are_listed() -> None:
    indented = "\n".join(re.findall(r"^ {4}.*$", section("The planner").partition("### ")[0], re.MULTILINE))
    listed = set(re.findall(r"\w+\.py", indented))
    assert listed == {path.name for path in (PACKAGE / "planner").rglob("*.py")} - {"__init__.py"}


# ---- commands


def commands(page: Path) -> Iterator[str]:
    """Lines of shell blocks that run mmcc, continued lines joined."""
    shell = [text for language, text in blocks(page) if language in ("sh", "bash", "shell", "console", "")]
    shell += re.findall(r"(?:^    .*\n)+", page.read_text(), re.MULTILINE)  # indented blocks
    for text in shell:
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            line = line.strip().removeprefix("$ ")
            if re.match(r"mmcc [a-z-]", line):
                yield line


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_shown_are_commands_and_options_there_are(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(re.split(r"\s[|>&;]|&&", line)[0], comments=True)[1:]
        if "--help" in words or words == ["--version"]:
            continue
        name, *arguments = words
        assert name in main.commands, line
        try:
            main.commands[name].make_context(name, list(arguments))
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.quick
def test_options_named_in_the_text_exist() -> None:
    known = {o for c in main.commands.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "--version"}
    for page in [p for p in PAGES if p.parent == DOCS]:
        spans = re.findall(r"`(?:mmcc [a-z]+ )?(--[a-z][a-z-]+)(?: [^`]*)?`", page.read_text())
        assert [span for span in spans if span not in known] == [], page.name


# ---- C


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


# ---- figures


@pytest.mark.quick
def test_the_example_of_the_row_argument() -> None:
    """DESIGN.md shows these numbers."""
    from mmcc.planner.layer_by_layer import plan
    from mmcc.planner.memory.overlap import Distance, distances
    from mmcc.planner.request import PlanRequest
    from planner_graphs import Build

    b = Build("example")
    graph = b.graph(b.conv(b.input(6, 8, 4), 8, 3))
    assert distances(graph, graph.nodes[0]) == {"x0": Distance(forward=256, backward=64)}
    assert [plan(graph, PlanRequest(backward=b)).peak("sram") for b in (True, False)] == [448, 448]
    text = (ROOT / "DESIGN.md").read_text()
    assert "d = 256" in text
    assert "peak: 448 bytes instead of 576" in text


@pytest.mark.quick
def test_the_table_of_known_optima() -> None:
    """DESIGN.md repeats the numbers that tests/planner/test_planner_known.py proves."""
    from planner_graphs import FORWARD, KNOWN

    rows = re.findall(r"^\| [^|]*\| ([\d,]+) \| ([\d,]+) \|$", (ROOT / "DESIGN.md").read_text(), re.MULTILINE)
    shown = {(int(a.replace(",", "")), int(b.replace(",", ""))) for a, b in rows}
    known = {(FORWARD.get(name, best), best) for name, (_, best) in KNOWN.items() if name != "ad"}
    assert shown == known


@pytest.mark.quick
def test_every_target_and_every_key_is_in_the_targets_page() -> None:
    from dataclasses import fields

    from mmcc.target import Qemu, Target, list_targets

    text = (DOCS / "targets.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)` \| (?:Arm|RISC|taken|this)", text, re.MULTILINE)) == set(
        list_targets()
    )
    for kind in (Target, Qemu):
        assert [
            f.name for f in fields(kind) if f"`{f.name}`" not in text and f"`[{f.name}]`" not in text
        ] == []
    own = re.search(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert own


@pytest.mark.quick
def test_the_target_file_that_is_shown_is_one(tmp_path: Path) -> None:
    from mmcc.target import load_target

    own = re.search(r"^```toml\n(.*?)^```", (DOCS / "targets.md").read_text(), re.MULTILINE | re.DOTALL)
    assert own
    (tmp_path / "board.toml").write_text(own[1])
    target = load_target(str(tmp_path / "board.toml"))
    assert "-Os" in target.flags
    assert target.qemu
    assert target.cost["conv_mac"] == 2.2


def test_the_script_of_the_int8_page_leaves_nothing_in_float(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from mmcc.driver.check import check_model

    text = next(text for language, text in blocks(DOCS / "int8.md") if language == "python")
    (tmp_path / "quantize.py").write_text(text)
    shutil.copy(DIGITS / "digits_fp32.onnx", tmp_path / "model.onnx")
    shutil.copy(DIGITS / "test_data.npz", tmp_path / "calibration.npz")
    done = subprocess.run(
        [sys.executable, "quantize.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = check_model(tmp_path / "model_int8.onnx", {}, {}, lambda _: None)
    assert found["warnings"] == []
    assert {"ConvInt8", "AddInt8", "DenseInt8"} <= set(found["operators"])
