# SPDX-License-Identifier: Apache-2.0
"""Predicted work of a plan beside what is counted, also of kernels with small frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doc_pages import DIGITS
from mmcc.boards import board_of
from mmcc.driver.compile import compile_model
from mmcc.driver.cost import cost_of
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.planner.cost import plan_cost
from mmcc.target import list_targets, load_target
from mmcc.verification.cycles import bench_cycles
from toolchains import ready


@pytest.mark.parametrize(
    ("core", "least"),
    [
        ("cortex-m0plus", False),
        ("cortex-m0plus", True),
        ("cortex-m4", False),
        ("cortex-m7", False),
        ("cortex-m33", True),
    ],
)
def test_what_is_predicted_is_what_is_counted(core: str, least: bool, tmp_path: Path) -> None:
    """With the least RAM convolutions of a Cortex-M0+ have kernels with less stack, which take more."""
    ready(core)
    target = load_target(core)
    options = CompileOptions(target=core, name="net", least_ram=least, self_check=False)
    made = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "c", options)
    found = bench_cycles(made.folder, load_package(made.folder), board_of(target))
    counted = found["core" if target.cost_unit == "cycles" else "instructions"]
    figures = cost_of(replace(target, small_frames=least))
    assert made.report["plan"]["cost_unit"] == target.cost_unit
    assert plan_cost(made.graph, made.plan, figures) == pytest.approx(counted, rel=0.2)


@pytest.mark.quick
def test_which_figures_are_cycles() -> None:
    """Those of this machine, whose layers are timed, and of cores whose cycles are modelled; others count
    instructions."""
    cycles = {target.name for target in map(load_target, list_targets()) if target.cost_unit == "cycles"}
    assert cycles == {"host", "cortex-m", "cortex-m4", "cortex-m7", "cortex-m33"}


@pytest.mark.quick
def test_a_target_with_small_frames_has_their_figures(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('same_as = "cortex-m0plus"\nsmall_frames = true\n[cost_of_small_frames]\ncall = 50\n')
    usual = load_target("cortex-m0plus")
    found, small = cost_of(load_target(str(mine))), cost_of(replace(usual, small_frames=True))
    assert found == {**small, "call": 50.0}
    assert found["conv_mac"] > 1.5 * usual.cost["conv_mac"]
    assert found["dense_mac"] == usual.cost["dense_mac"], "whose kernels are the same"
    assert cost_of(usual) == usual.cost
