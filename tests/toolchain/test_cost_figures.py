# SPDX-License-Identifier: Apache-2.0
"""Predicted instructions of a plan beside those that are counted, also of kernels with small frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doc_pages import DIGITS
from mmcc.driver.compile import compile_model
from mmcc.driver.cost import cost_of
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.planner.cost import plan_cost
from mmcc.target import load_target
from mmcc.verification.bench import bench_qemu
from toolchains import ready


@pytest.mark.parametrize("least", [False, True], ids=["no-limit", "least-ram"])
def test_what_is_predicted_is_what_is_counted(least: bool, tmp_path: Path) -> None:
    """With the least RAM convolutions of a Cortex-M0+ have kernels with less stack, which take more."""
    ready("cortex-m0plus")
    options = CompileOptions(target="cortex-m0plus", name="net", least_ram=least, self_check=False)
    made = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "c", options)
    counted = bench_qemu(made.folder, load_package(made.folder))["instructions"]
    figures = cost_of(replace(load_target("cortex-m0plus"), small_frames=least))
    assert plan_cost(made.graph, made.plan, figures) == pytest.approx(counted, rel=0.2)


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
