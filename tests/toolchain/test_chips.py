# SPDX-License-Identifier: Apache-2.0
"""Chips with several memories: packages for them, and their emulated boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cmake_projects import DIGITS
from frontend_models import model_of, save
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.package.record import load_package
from mmcc.target import list_chips, load_target
from mmcc.toolchain.elf import symbols
from mmcc.verification.compare import run_host, run_qemu
from mmcc.verification.linked import firmware_of
from mmcc.verification.samples import made_up
from onnx import NodeProto, helper
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


def layers(folder: Path) -> Path:
    """A float network as VGG: convolutions, pools, and a dense layer that has most weights."""
    draw = np.random.default_rng(3)
    nodes, weights, x, before = list[NodeProto](), dict[str, np.ndarray](), "x", 3
    for k, channels in enumerate((16, 16, 0, 32, 32, 0)):
        if channels:
            weights[f"w{k}"] = draw.normal(0, 0.1, (channels, before, 3, 3)).astype(np.float32)
            nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [f"c{k}"], [f"y{k}"]))
        else:
            nodes.append(helper.make_node("MaxPool", [x], [f"y{k}"], kernel_shape=[2, 2], strides=[2, 2]))
        x, before = f"y{k}", channels or before
    weights["dense"] = draw.normal(0, 0.1, (32 * 6 * 6, 10)).astype(np.float32)
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "dense"], ["y"]))
    model = model_of(nodes, {"x": np.ones((1, 3, 24, 24), np.float32)}, ["y"], weights)
    return save(model, folder)


def test_staged_weights_and_activations_in_slow_memory(tmp_path: Path) -> None:
    """Arenas in windows of their own, blocks of weights in one; an access behind either is a fault."""
    ready("cortex-m7")
    regions = {"dtcm": 12 * 1024, "sdram": 2**20}
    options = CompileOptions(target="imxrt1062", regions=regions, weights="staged", name="net")
    report = compile_model(layers(tmp_path), tmp_path / "net", options).report
    package = load_package(tmp_path / "net")
    taken = {region["name"]: region["bytes"] for region in report["ram"]["regions"]}
    assert 0 < taken["dtcm"] <= 12 * 1024 < taken["sdram"]
    assert package.staged
    samples = made_up(package.inputs, 1)
    host, (board, _) = (
        run_host(tmp_path / "net", package, samples),
        run_qemu(tmp_path / "net", package, samples),
    )
    assert np.allclose(host[0][0], board[0][0], rtol=1e-4, atol=1e-4)
    source = tmp_path / "net" / "net.c"
    text = source.read_text()
    for name in ("dtcm", "sdram"):
        line = f"    context->memory[NET_MEMORY_{name.upper()}] = (uint8_t *){name}_arena;\n"
        assert line in text
        stray = f"((volatile uint8_t *){name}_arena)[NET_{name.upper()}_ARENA_SIZE + 32768]"
        source.write_text(text.replace(line, f"{line}    {stray} = 1;\n"))
        with pytest.raises(CompileError, match=r"FAULT.*in net_init"):
            run_qemu(tmp_path / "net", package, samples)


def test_a_package_for_a_chip_without_tools(tmp_path: Path) -> None:
    options = CompileOptions(target="esp32s3", stack=2048, regions={"sram": 4 * 1024, "psram": 2**20})
    report = compile_model(MODEL, tmp_path / "net", options).report
    sram, psram = report["ram"]["regions"]
    assert sram["bytes"] + sram["besides"] <= 4 * 1024
    assert psram["bytes"] > 0
    assert ".ext_ram.bss" in (tmp_path / "net" / "digits_int8.h").read_text()
