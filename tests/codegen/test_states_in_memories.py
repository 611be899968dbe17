# SPDX-License-Identifier: Apache-2.0
"""States in two memories: the C keeps in each what is there, on this machine and in windows of a board."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmcc.driver.compile import CompileResult
from mmcc.ir.element_type import ElementType
from mmcc.ir.module import Module
from mmcc.ops.elementwise import Binary, Unary
from mmcc.package.host import package_sources
from mmcc.package.record import bench_files, load_package
from mmcc.target import load_target
from mmcc.toolchain.elf import arenas
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import RESET
from mmcc.verification.linked import sanitized_program
from stateful import SHAPE, StatefulBuild, learner
from test_states_c import called, compiled, run_on_this_machine
from toolchains import FIRMWARE, ready

TWO = """
same_as = "host"
description = "two memories"

[[memory]]
name = "fast"

[[memory]]
name = "slow"
section = ".bss.slow"
read_cost = 2.0
write_cost = 2.5
"""
BESIDE = 1200  # bytes of fast memory beside the stack: the larger state does not fit
STATES = {"fast": 480, "slow": 1920}


def in_both(folder: Path) -> tuple[Module, CompileResult]:
    """Two states, one in fast and one in slow memory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "two.toml").write_text(TWO)
    b = StatefulBuild("sizes")
    x, small, large = b.input(*SHAPE, dtype=ElementType.F32), b.state(*SHAPE), b.state(24, 5, 4, value=0.5)
    y, z = b.add(Binary("add"), x, small), b.add(Unary("tanh"), large)
    b.becomes(small, y)
    b.becomes(large, z)
    module = Module.of(b.graph(y, z))
    sizes = {"fast": 1024 + BESIDE, "slow": 8192}
    result = compiled(module, folder, target=str(folder / "two.toml"), regions=sizes, stack=1024)
    memories = [state["memory"] for state in result.report["ram"]["states"]]
    assert memories == ["fast", "slow"]
    return module, result


def test_each_memory_has_arguments_of_its_own(tmp_path: Path) -> None:
    module, result = in_both(tmp_path)
    header = (result.folder / "net.h").read_text()
    for name, size in STATES.items():
        assert f"void *{name}_states, size_t {name}_states_size" in header
        assert f"#define NET_{name.upper()}_STATES_SIZE {size}u" in header
    assert '#define NET_SLOW_STATES_ATTRIBUTE __attribute__((section(".bss.slow")))' in header
    regions = {region["name"]: region for region in result.report["ram"]["regions"]}
    assert {name: region["states"] for name, region in regions.items()} == STATES
    assert regions["fast"]["bytes"] + regions["fast"]["besides"] <= 1024 + BESIDE
    text = (result.folder / "report.txt").read_text()
    assert "fast+0" in text
    assert "slow+0" in text
    run_on_this_machine(module, result, [0] * 4)


def test_sanitizers_see_no_fault(tmp_path: Path) -> None:
    """Both memories for states are blocks of their own, of exactly their bytes."""
    module, result = in_both(tmp_path)
    elf = sanitized_program(result.folder, load_package(result.folder))
    called(module, [0, 0, RESET, 0], elf, "host", tmp_path / "run")


@pytest.mark.parametrize("name", ["two_regions_m4"])
def test_states_lie_in_the_window_of_their_memory(name: str, tmp_path: Path) -> None:
    """Both entries have one state in `psram`, whose window has exactly the arena and the states there."""
    ready("cortex-m4")
    board = str(FIRMWARE / f"{name}.toml")
    module = learner()
    result = compiled(module, tmp_path, target=board, regions={"psram": 8192}, stack=1024)
    assert {state["memory"] for state in result.report["ram"]["states"]} == {"psram"}
    sources = [*package_sources(result.folder), bench_files(result.folder) / "adapter_firmware.c"]
    elf = build_firmware(
        *(load_target(board), sources, [result.folder], tmp_path / "firmware"), ram_limit=0x10000
    )
    low, high = arenas(elf)["parameters"]
    window = load_target(board).qemu.memory["psram"]
    assert window.origin <= low < high <= window.origin + window.length
    called(module, [0, 1, 1, 0, RESET, 1, 0], elf, board, tmp_path / "run")
