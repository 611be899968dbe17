# SPDX-License-Identifier: Apache-2.0
"""Chips with several memories: packages for them, and their emulated boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cmake_projects import DIGITS
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.package.record import load_package
from mmcc.target import list_chips, load_target
from mmcc.toolchain.elf import symbols
from mmcc.verification.compare import run_host, run_qemu
from mmcc.verification.linked import firmware_of
from mmcc.verification.samples import made_up
from toolchains import ready

MODEL = DIGITS / "digits_int8.onnx"
ON_BOARDS = [name for name in list_chips() if load_target(name).qemu]


@pytest.mark.quick
@pytest.mark.parametrize("name", list_chips())
def test_every_chip_has_several_memories(name: str) -> None:
    chip = load_target(name)
    assert chip.name == name
    assert len(chip.memory) > 1
    assert all(region.size for region in chip.memory)
    costs = [region.read_cost for region in chip.memory]
    assert costs == sorted(costs), "the fastest first"
    assert [region for region in chip.memory if not region.section], "variables are in one of them"


@pytest.mark.quick
def test_a_misspelt_chip_is_guessed() -> None:
    with pytest.raises(CompileError, match="MM001") as caught:
        load_target("stm32h734")
    assert "did you mean stm32h743?" in caught.value.hint


@pytest.mark.parametrize("name", ON_BOARDS)
def test_a_network_in_two_memories_of_a_chip(name: str, tmp_path: Path) -> None:
    ready("cortex-m33" if name == "rp2350" else "cortex-m7")
    fast, slow = load_target(name).memory[:2]
    regions = {fast.name: 3072, slow.name: 16 * 1024}
    compile_model(MODEL, tmp_path / "net", CompileOptions(target=name, regions=regions, name="net"))
    package = load_package(tmp_path / "net")
    samples = made_up(package.inputs, 2)
    host, (board, run) = (
        run_host(tmp_path / "net", package, samples),
        run_qemu(tmp_path / "net", package, samples),
    )
    assert all(
        np.array_equal(a, b) for x, y in zip(host, board, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert run.instructions
    elf = firmware_of(tmp_path / "net", package)
    for region, window in load_target(name).qemu.memory.items():  # pyright: ignore[reportOptionalMemberAccess]
        found = symbols(elf, (f"__{region}_lo", f"__{region}_hi"))
        taken = found[f"__{region}_hi"] - found[f"__{region}_lo"]
        assert found[f"__{region}_lo"] == window.origin
        assert taken <= regions.get(region, 0)


def test_a_package_for_a_chip_without_tools(tmp_path: Path) -> None:
    options = CompileOptions(target="esp32s3", stack=2048, regions={"sram": 4 * 1024, "psram": 2**20})
    report = compile_model(MODEL, tmp_path / "net", options).report
    sram, psram = report["ram"]["regions"]
    assert sram["bytes"] + sram["besides"] <= 4 * 1024
    assert psram["bytes"] > 0
    assert ".ext_ram.bss" in (tmp_path / "net" / "digits_int8.h").read_text()
