# SPDX-License-Identifier: Apache-2.0
"""Bytes read and written in each memory: what the planner derives from loops is what the boards do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cmake_projects import DIGITS
from mmcc.driver.ask import plan_request
from mmcc.driver.compile import compile_model
from mmcc.driver.memories import Ram, parse_ram
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.planner.regions.traffic import region_traffic
from mmcc.target import load_target
from mmcc.verification.compare import run_qemu
from mmcc.verification.samples import made_up
from toolchains import FIRMWARE, ready

TWO = str(FIRMWARE / "two_regions_m4.toml")
FACTOR = 1.1  # at most between what is predicted and what is counted


@pytest.mark.parametrize("model", ["digits_int8.onnx", "digits_fp32.onnx"])
@pytest.mark.parametrize(
    ("target", "ram"),
    [
        ("cortex-m0plus", ""),
        ("cortex-m4", ""),
        ("cortex-m4", "min"),
        ("cortex-m55", ""),
        ("rv32imac", ""),
        (TWO, "sram=3K,psram=16K"),
    ],
    ids=lambda value: Path(value).stem if value else "layers",
)
def test_bytes_are_counted_as_predicted(
    model: str, target: str, ram: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is lent to kernels: in several memories, which predictions are for, nothing is."""
    ready("cortex-m4" if target == TWO else target)
    monkeypatch.setattr("mmcc.kernels.contract.LESS_STACK", ())
    asked = parse_ram(ram) if ram else Ram()
    options = CompileOptions(
        target=target, least_ram=asked.least, regions=asked.regions, self_check=False, name="net"
    )
    made = compile_model(DIGITS / model, tmp_path / "net", options)
    request = plan_request(options, made.graph, load_target(target), lambda *_: None)
    package = load_package(tmp_path / "net")
    _, run = run_qemu(tmp_path / "net", package, made_up(package.inputs, 1), profile=True)
    predicted = region_traffic(made.graph, made.plan, request)
    assert len(predicted) == len(run.accesses) == (2 if asked.regions else 1)
    for region, count in predicted.items():
        read, written = run.accesses[region.name if asked.regions else "arena"]
        assert count.read == pytest.approx(read, rel=FACTOR - 1), region
        assert count.written == pytest.approx(written, rel=FACTOR - 1), region


def test_reads_of_copied_constants_are_counted_as_predicted(tmp_path: Path) -> None:
    """Arenas hold constants of all kinds of kernels, which read most of what is read there."""
    ready("cortex-m4")
    board = tmp_path / "board.toml"
    board.write_text("weights_cost = 2.0\n" + Path(TWO).read_text())
    regions = parse_ram("sram=24K,psram=32K").regions
    options = CompileOptions(target=str(board), regions=regions, name="net")
    made = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options)
    assert len(made.plan.fetched) >= 5
    request = plan_request(options, made.graph, load_target(str(board)), lambda *_: None)
    package = load_package(tmp_path / "net")
    _, run = run_qemu(tmp_path / "net", package, made_up(package.inputs, 1), profile=True)
    predicted = region_traffic(made.graph, made.plan, request)
    alone = region_traffic(made.graph, made.plan, replace(request, fetchable={}))
    read = sum(predicted[region].read for region in made.plan.regions())
    assert read > 1.5 * sum(alone[region].read for region in made.plan.regions())
    assert read == pytest.approx(sum(read for read, _ in run.accesses.values()), rel=FACTOR - 1)


def test_what_a_kernel_holds_in_registers_is_told_by_its_contract(tmp_path: Path) -> None:
    """Without the contracts the prediction is far off, so the comparison above could fail."""
    ready("cortex-m4")
    options = CompileOptions(target="cortex-m4", self_check=False, name="net")
    made = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options)
    request = plan_request(options, made.graph, load_target("cortex-m4"), lambda *_: None)
    (known,) = region_traffic(made.graph, made.plan, request).values()
    (unknown,) = region_traffic(made.graph, made.plan, replace(request, loads={})).values()
    assert unknown.read > 2 * known.read
    assert unknown.written == known.written
