# SPDX-License-Identifier: Apache-2.0
"""Hints about targets and their tools, followed: see test_hints.py."""

from __future__ import annotations

import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runs import MODEL
from hint_cases_tools import package_in
from hint_runs import mmcc
from hints import follows
from mmcc.driver.compile import compile_model
from mmcc.driver.memories import parse_ram, regions_of
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.target import load_target
from mmcc.toolchain.build import WINDOW, RegionOverflow, find_tool, firmware_sources
from mmcc.toolchain.build import _raise_if_library_missing as raise_if_library_missing
from mmcc.toolchain.firmware import does_not_fit
from toolchains import ready


def _target(folder, text):
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


@follows("target.py: f\"{guess}one of: {', '.join(list_targets())}\"")
def misspelt_target(_, __):
    with pytest.raises(CompileError) as caught:
        load_target("cortex-m44")
    load_target(re.search(r"did you mean (\S+)\?", caught.value.hint)[1])


@follows("target.py: f\"{did_you_mean(str(base), known)}one of: {', '.join(known)}\"")
def misspelt_base(folder, _):
    with pytest.raises(CompileError) as caught:
        load_target(str(_target(folder, 'same_as = "cortex-m44"')))
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    load_target(str(_target(folder, f'same_as = "{meant}"')))


@follows("target.py: f\"{did_you_mean(key, known)}known: {', '.join(known)}\"")
def misspelt_key(folder, _):
    with pytest.raises(CompileError) as caught:
        load_target(str(_target(folder, 'same_as = "cortex-m4"\nnoet = "x"')))
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    load_target(str(_target(folder, f'same_as = "cortex-m4"\n{meant} = "x"')))


@follows("target.py: did_you_mean(key, COST_KEYS) + 'docs/targets.md lists the figures'")
def misspelt_cost(folder, _):
    with pytest.raises(CompileError) as caught:
        load_target(str(_target(folder, 'same_as = "cortex-m4"\n[cost]\nconv_mca = 1.0')))
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    load_target(str(_target(folder, f'same_as = "cortex-m4"\n[cost]\n{meant} = 1.0')))
    assert meant in (Path(__file__).resolve().parents[2] / "docs" / "targets.md").read_text()


@follows("target.py: did_you_mean(target.cost_unit, COST_UNITS)")
def misspelt_unit(folder, _):
    with pytest.raises(CompileError) as caught:
        load_target(str(_target(folder, 'same_as = "cortex-m4"\ncost_unit = "cycle"')))
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    load_target(str(_target(folder, f'same_as = "cortex-m4"\ncost_unit = "{meant}"')))


@follows("target.py: 'a lower-case letter, then letters, digits and _; no name that generated C has already'")
def name_of_a_region(folder, _):
    for name, taken in (("Fast", True), ("weights", True), ("fast_1", False)):
        path = _target(folder, f'same_as = "cortex-m4"\n[[memory]]\nname = "{name}"')
        if taken:
            with pytest.raises(CompileError, match="cannot be the name of a region"):
                load_target(str(path))
        else:
            assert load_target(str(path)).memory[0].name == name


@follows("target.py: did_you_mean(name, names)")
def misspelt_window(folder, _):
    board = (Path(__file__).resolve().parents[1] / "firmware" / "two_regions_m4.toml").read_text()
    with pytest.raises(CompileError) as caught:
        load_target(str(_target(folder, board.replace("memory = { psram", "memory = { psran"))))
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    load_target(str(_target(folder, board.replace("memory = { psram", f"memory = {{ {meant}"))))


@follows('toolchain/firmware.py: f"length = {length} for {region} in [qemu.memory] of the target\'s file"')
def window_of_a_region(folder, _):
    board = (Path(__file__).resolve().parents[1] / "firmware" / "two_regions_m4.toml").read_text()
    for length in (0x100, 0x1000):
        whole = "origin = 0x20200000, length = 0x200000"
        small = board.replace(whole, f"origin = 0x20200000, length = {length}")
        target = load_target(str(_target(folder, small)))
        excess = 3000 - length
        if excess > 0:
            hint = does_not_fit(RegionOverflow(f"{WINDOW}psram", excess), target, 0, 0).hint
            assert hint == "length = 4096 for psram in [qemu.memory] of the target's file"
    assert target.qemu.memory["psram"].length == 4096


@follows("toolchain/build.py: f'one of: {known}'")
def start_up_code(_, __):
    target = load_target("cortex-m4")
    with pytest.raises(CompileError) as caught:
        firmware_sources(replace(target, firmware="mine"))
    for name in caught.value.hint.removeprefix("one of: ").split(", "):
        assert all(path.is_file() for path in firmware_sources(replace(target, firmware=name)))


@follows(
    "toolchain/build.py: f'apt-get install {package}' if package else 'adding the folder that has it to PATH'"
)
def a_tool_that_is_missing(folder, monkeypatch):
    """A package is named only by targets that know it; else it is the PATH that helps."""
    mine = load_target(str(_target(folder, 'same_as = "cortex-m4"\ncompiler = "my-gcc"')))
    with pytest.raises(CompileError) as caught:
        find_tool(mine.compiler, mine)
    assert "apt" not in caught.value.hint
    tool = folder / "bin" / "my-gcc"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}")
    assert find_tool("my-gcc", mine) == tool
    with pytest.raises(CompileError, match="apt-get install gcc-arm-none-eabi"):
        find_tool("arm-none-eabi-gcc", mine)


@follows(
    "toolchain/build.py: f\"apt-get install {target.packages['libc']}\" if 'libc' in target.packages else ''"
)
def a_library_that_is_missing(folder, _):
    message = "fatal error: string.h: No such file or directory"
    target = load_target("cortex-m4")
    with pytest.raises(CompileError, match="apt-get install libnewlib-arm-none-eabi"):
        raise_if_library_missing(message, target)
    with pytest.raises(CompileError) as caught:
        raise_if_library_missing(message, replace(target, packages={}))
    assert caught.value.hint == ""


@follows("toolchain/host.py: f'apt-get install {debian}'")
def a_tool_of_this_machine(folder, monkeypatch):
    out, _ = package_in(folder)
    found = shutil.which
    for tool, package in (("cmake", "cmake"), ("cc", "gcc")):
        monkeypatch.setattr(
            "mmcc.toolchain.host.shutil.which", lambda name, tool=tool: None if name == tool else found(name)
        )
        assert f"apt-get install {package}" in mmcc("verify", out, exit=8)
    monkeypatch.undo()
    mmcc("verify", out)


@follows(
    "verification/compare.py: '--on wasm' if target.engine else '--on host, or compile for another target'"
)
def a_target_without_emulation(folder, _):
    out, _ = package_in(folder)
    assert "--on host" in mmcc("verify", out, "--on", "qemu", exit=2)
    mmcc("verify", out, "--on", "host")


@follows("verification/compare.py: '--on host, or compile with -t wasm32'")
def a_place_for_modules(folder, _):
    ready("wasm32")
    out, model = package_in(folder)
    assert "-t wasm32" in mmcc("verify", out, "--on", "wasm", exit=2)
    mmcc("compile", model, "-t", "wasm32", "-o", out)
    assert "--on wasm" in mmcc("verify", out, "--on", "qemu", exit=2)
    mmcc("verify", out, "--on", "wasm")


def _two_memories(folder):
    board = (Path(__file__).resolve().parents[1] / "firmware" / "two_regions_m4.toml").read_text()
    return _target(folder, board)


@follows(
    "driver/memories.py: f\"{did_you_mean(name, known)}one of: {', '.join(known)}\"",
    "driver/memories.py: 'NAME=SIZE for each (mmcc targets show), with commas: --ram dtcm=128K,axi=512K'",
)
def memories_by_name(folder, _):
    target = load_target(str(_two_memories(folder)))
    with pytest.raises(CompileError) as caught:
        regions_of(CompileOptions(regions={"psran": 1024}), target)
    meant = re.search(r"did you mean (\S+)\?", caught.value.hint)[1]
    known = caught.value.hint.partition("one of: ")[2].split(", ")
    found = regions_of(CompileOptions(regions=dict.fromkeys([meant, *known], 1024)), target)
    assert [(region.name, region.size) for region in found] == [("sram", 1024), ("psram", 1024)]
    for wrong in ("dtcm=128K,sram", "dtcm=1K,dtcm=2K", "=1K"):
        with pytest.raises(CompileError) as caught:
            parse_ram(wrong)
    like = caught.value.hint.partition("--ram ")[2]
    assert parse_ram(like).regions == {"dtcm": 128 * 1024, "axi": 512 * 1024}


@follows("planner/regions/explain.py: '\\n'.join(hints)")
def memories_too_small(folder, _):
    target, model = _two_memories(folder), MODEL
    given = {"target": str(target), "stack": 1024, "self_check": False}
    with pytest.raises(CompileError) as caught:
        compile_model(model, folder / "c", CompileOptions(regions={"sram": 2048, "psram": 256}, **given))
    assert caught.value.code == "MM040"
    lines = [line.split("  ")[0].split("=") for line in caught.value.hint.splitlines()]
    assert {name for name, _ in lines} == {"sram", "psram"}
    for name, size in lines:
        regions = {"sram": 2048, "psram": 256} | {name: int(size) + (1040 if name == "sram" else 0)}
        compile_model(model, folder / "c", CompileOptions(regions=regions, **given))
