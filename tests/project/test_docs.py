# SPDX-License-Identifier: Apache-2.0
"""The pages agree with the code: error codes, links, commands, figures; C that is shown builds and runs."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from doc_pages import DIGITS, DOCS, ROOT, blocks
from mmcc.cli import main
from mmcc.errors import Exit
from mmcc.ir.regions import SRAM

PACKAGE = ROOT / "compiler" / "mmcc"


PAGES = sorted(
    p
    for p in (
        ROOT / "README.md",
        ROOT / "DESIGN.md",
        ROOT / "CONTRIBUTING.md",
        *DOCS.rglob("*.md"),
        DIGITS / "README.md",
    )
    if p.is_file()
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


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


@pytest.mark.quick
def test_files_that_templates_name_exist() -> None:
    texts = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.j2"))
    named = set(re.findall(r"(?:\w+/)+\w+\.py\b", texts))
    assert named
    assert [name for name in named if not any((place / name).exists() for place in (ROOT, PACKAGE))] == []


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


@pytest.mark.quick
def test_the_example_of_the_row_argument() -> None:
    """DESIGN.md shows these numbers."""
    from mmcc.planner.memory.overlap import SafeOffset, safe_offsets
    from mmcc.planner.request import PlanRequest
    from planned_alone import planned_alone
    from planner_graphs import Build

    b = Build("example")
    graph = b.graph(b.conv(b.input(6, 8, 4), 8, 3))
    assert safe_offsets(graph, graph.nodes[0]) == {"x0": SafeOffset(forward=256, backward=64)}
    assert [planned_alone(graph, PlanRequest(backward=b)).peak(SRAM) for b in (True, False)] == [448, 448]
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

    from mmcc.ir.regions import Region
    from mmcc.target import Qemu, Target, list_targets

    text = (DOCS / "targets.md").read_text()
    assert set(
        re.findall(r"^\| `([\w-]+)` \| (?:Arm|RISC|WebAssembly|taken|this)", text, re.MULTILINE)
    ) == set(list_targets())
    for kind in (Target, Qemu, Region):
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
    found = check_model(tmp_path / "model_int8.onnx", {}, {}, lambda *_: None)
    assert found["warnings"] == []
    assert {"ConvInt8", "AddInt8", "DenseInt8"} <= set(found["operators"])


@pytest.mark.quick
def test_entries_of_the_changelog_are_whole_and_there_once() -> None:
    """Two changes of one entry that are put together leave half of it, or both."""
    text = (ROOT / "CHANGELOG.md").read_text()
    entries = [" ".join(each.split()) for each in re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE)]
    assert len(entries) > 100
    assert [each for each in entries if each[-1] not in ".)"] == []
    beginnings = [each[:80] for each in entries]
    assert {each for each in beginnings if beginnings.count(each) > 1} == set()
