# SPDX-License-Identifier: Apache-2.0
"""Two regions on emulated boards: moves keep the bits, and an access outside of an arena is caught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fused_c import NAME, filled
from mmcc.codegen.emit import EmitOptions, Package, emit
from mmcc.codegen.lower import lower
from mmcc.codegen.render import render
from mmcc.driver.promised import request_from
from mmcc.errors import CompileError
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.regions import Region
from mmcc.kernels.contract import contracts
from mmcc.planner.api import best_plan
from mmcc.target import Target, load_target
from mmcc.toolchain.elf import symbols
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from moved_plans import idle, in_second_region, skipping, spilled
from toolchains import FIRMWARE, ready

GRAPH = filled(skipping(), 1)
BOARDS = {
    "two_regions_m4": "cortex-m4",
    "two_regions_m33": "cortex-m33",
    "two_regions_riscv": "rv32imac",
}


def board(name: str) -> Target:
    ready(BOARDS[name])  # skips without its tools
    return load_target(str(FIRMWARE / f"{name}.toml"))


def layers(target: Target) -> Plan:
    return best_plan(GRAPH, replace(request_from(contracts(GRAPH, target)), fuse=False))


def made(plan: Plan, target: Target, folder: Path) -> Package:
    folder.mkdir(parents=True)
    module = Module.of(GRAPH)
    package = emit(module, lower(module, MemoryPlan.of(plan), NAME, target), EmitOptions(NAME), target)
    for name, text in package.files.items():
        (folder / name).write_text(text)
    (folder / "adapter.c").write_text(render("adapter.c.j2", on_heap=False, **package.values))
    return package


def linked(folder: Path, target: Target) -> Path:
    return build_firmware(target, sorted(folder.glob("*.c")), [folder], folder / "build", ram_limit=0x10000)


@pytest.mark.parametrize("name", BOARDS)
def test_moves_keep_the_bits_on_a_board(name: str, tmp_path: Path) -> None:
    target = board(name)
    plan = layers(target)
    rng = np.random.default_rng(1)
    shape = GRAPH.tensors[GRAPH.inputs[0].tensor].shape
    samples = rng.integers(-128, 128, (3, *shape)).astype(np.int8)
    (output,) = (port.tensor for port in GRAPH.outputs)
    want = b"".join(
        evaluate_tensors(GRAPH, {GRAPH.inputs[0].tensor: sample})[output].tobytes() for sample in samples
    )
    b = max(idle(plan), key=lambda b: len(b.live))
    first, last = b.live.lo + 1, b.live.hi - 1
    middle = (first + last) // 2
    plans = {
        "one": plan,
        "second": in_second_region(plan, b.name),
        "blocking": spilled(plan, b.name, (first, first), (last, last)),
        "background": spilled(plan, b.name, (first, middle), (middle, last)),
    }
    for kind, moved in plans.items():
        made(moved, target, tmp_path / kind)
        elf = linked(tmp_path / kind, target)
        ran = run_firmware(
            elf, target, samples.tobytes(), samples[0].nbytes, tmp_path / kind / "run", watch_memory=True
        )
        assert ran.outputs == want, kind
        arena = symbols(elf, ("__psram_lo", "__psram_hi"))
        used = arena["__psram_hi"] - arena["__psram_lo"]
        assert used == sum(size for region, size in moved.regions().items() if region.name == "psram"), kind
        assert arena["__psram_lo"] == target.qemu.memory["psram"].origin  # pyright: ignore


@pytest.mark.parametrize("where", ["behind", "before"])
@pytest.mark.parametrize("name", BOARDS)
def test_an_access_outside_of_an_arena_is_caught(name: str, where: str, tmp_path: Path) -> None:
    """A layer that goes to the byte behind the arena, by as much as the unit rounds up, or before it."""
    target = board(name)
    plan = layers(target)
    moved = in_second_region(plan, next(b for b in plan.buffers if b.size).name)
    made(moved, target, tmp_path / "net")
    source = tmp_path / "net" / f"{NAME}.c"
    text = source.read_text()
    stray = "NET_PSRAM_ARENA_SIZE + 128" if where == "behind" else "-8"
    call = "    context->memory[NET_MEMORY_PSRAM] = (uint8_t *)psram_arena;\n"
    assert call in text
    source.write_text(text.replace(call, f"{call}    ((volatile uint8_t *)psram_arena)[{stray}] = 1;\n"))
    elf = linked(tmp_path / "net", target)
    with pytest.raises(CompileError, match=f"FAULT.*in {NAME}_init"):
        run_firmware(elf, target, bytes(360), 360, tmp_path / "run")


@pytest.mark.parametrize("name", BOARDS)
def test_an_arena_larger_than_its_region_does_not_link(name: str, tmp_path: Path) -> None:
    target = board(name)
    sram, psram = target.memory
    small = replace(target, memory=(sram, Region("psram", size=256, align=64)))
    plan = layers(target)
    made(in_second_region(plan, max(plan.buffers, key=lambda b: b.size).name), small, tmp_path / "net")
    with pytest.raises(CompileError, match="the arena in psram is larger than its window"):
        linked(tmp_path / "net", small)
    assert psram.size is None
