# SPDX-License-Identifier: Apache-2.0
"""A whole compile with a plan in two regions: report, limits, self-check, and the package on host and board.

The planner chooses one region; its plan is changed by hand before anybody sees it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_format import would_change
from cmake_projects import DIGITS as EXAMPLE
from mmcc.driver import build
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.driver.rows import Planned
from mmcc.errors import CompileError, Exit
from mmcc.ir.plan import Plan
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.verification.compare import run_host, run_qemu
from moved_plans import idle, spilled
from toolchains import FIRMWARE, ready

BOARD = FIRMWARE / "two_regions_m4.toml"
DIGITS = EXAMPLE / "digits_int8.onnx"


def moved(plan: Plan) -> Plan:
    """One buffer goes out as soon as it is made, in the background, and is back for its last step."""
    _, psram = load_target(str(BOARD)).memory
    b = max(idle(plan), key=lambda b: len(b.live))
    first, last = b.live.lo + 1, b.live.hi - 1
    return spilled(plan, b.name, (first, first + 1), (last - 1, last), psram)


@pytest.fixture
def with_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    plan_rows = build.plan_rows

    def planned(*asked: Any) -> Planned:
        found = plan_rows(*asked)
        entries = {name: moved(plan) for name, plan in found.memory.entries.items()}
        return replace(found, memory=replace(found.memory, entries=entries))

    monkeypatch.setattr(build, "plan_rows", planned)


def test_a_package_with_moves(with_moves: None, tmp_path: Path) -> None:
    ready("cortex-m4")
    folder = tmp_path / "digits"
    report = compile_model(DIGITS, folder, CompileOptions(target=str(BOARD))).report
    sram, psram = report["ram"]["regions"]
    assert (sram["name"], sram["size"], psram["name"], psram["size"]) == ("sram", 0x10000, "psram", None)
    assert report["ram"]["arena"] == sram["bytes"] + psram["bytes"]
    assert [(m["from"], m["to"], m["asynchronous"]) for m in report["moves"]] == [
        ("sram", "psram", True),
        ("psram", "sram", True),
    ]
    name = report["moves"][0]["buffer"]
    assert [b["region"] for b in report["plan"]["buffers"] if b["name"] == name] == ["sram", "psram", "sram"]
    assert report["self_check"]["done"]
    text = (folder / "report.txt").read_text()
    assert f"psram {psram['bytes']:,}; 2 moves between them" in text
    assert " psram        64 +" in text
    assert json.loads((folder / "report.json").read_text())["ram"] == report["ram"]
    assert would_change([*folder.rglob("*.[ch]")]) == ""
    package = load_package(folder)
    rng = np.random.default_rng(0)
    samples = [[rng.random((1, 1, 8, 8), np.float32)] for _ in range(3)]
    host, (board, ran) = run_host(folder, package, samples), run_qemu(folder, package, samples)
    assert all(
        np.array_equal(a, b) for x, y in zip(host, board, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert ran.stack_bytes <= report["ram"]["stack"]


def test_an_arena_is_held_against_the_size_of_its_region(tmp_path: Path) -> None:
    ready("cortex-m4")
    free = compile_model(DIGITS, tmp_path / "free", CompileOptions(target="cortex-m4")).report
    least = compile_model(
        DIGITS, tmp_path / "least", CompileOptions(target="cortex-m4", least_ram=True)
    ).report
    assert least["ram"]["arena"] < free["ram"]["arena"]

    def within(size: int) -> dict[str, Any]:
        board = tmp_path / "small.toml"
        board.write_text(f'same_as = "cortex-m4"\n[[memory]]\nname = "sram"\nsize = {size}\n')
        return compile_model(DIGITS, tmp_path / "out", CompileOptions(target=str(board))).report

    assert within(free["ram"]["arena"])["ram"]["arena"] == free["ram"]["arena"]
    assert within(free["ram"]["arena"] - 1)["ram"]["arena"] < free["ram"]["arena"]
    with pytest.raises(CompileError, match=r"does not fit in .* bytes of sram") as caught:
        within(least["ram"]["arena"] - 1)
    assert caught.value.exit in (Exit.DOES_NOT_FIT, Exit.NO_PLAN)
    assert f"size = {least['ram']['arena']} " in caught.value.hint
