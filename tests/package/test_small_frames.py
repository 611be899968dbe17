# SPDX-License-Identifier: Apache-2.0
"""Where RAM is asked to be least, stack counts: kernels with smaller frames, and the same arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_models import FloatModel
from mmcc import kernels
from mmcc.driver import ram_fit
from mmcc.driver.build import Built, Job
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError
from mmcc.kernels.contract import SMALL_FRAMES
from mmcc.planner.request import PlanRequest
from mmcc.verification.verify import VerifyOptions, verify_package
from toolchains import ready

DEPTH = 8
MORE = 6000  # bytes of flash


@pytest.mark.parametrize("window", [3, 5, 7])
def test_stack_falls_with_the_least_ram(window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A depthwise layer of each window, rows longer than what is widened at a time."""
    ready("cortex-m4")
    m = FloatModel(np.random.default_rng(window))
    q, scale = m.float_input(1, DEPTH, 6, 40)
    pads = [window // 2] * 4
    y = m.conv(m.real(q, float(scale)), scale, (DEPTH, 1, window, window), pads=pads, group=DEPTH)
    m.save(m.requantized(y, 0.1), tmp_path / "depthwise.onnx")
    options = CompileOptions(name="n", target="cortex-m4", least_ram=True)
    least = compile_model(tmp_path / "depthwise.onnx", tmp_path / "least", options).report["ram"]
    rows = verify_package(tmp_path / "least", VerifyOptions(on="qemu", per_node=True), silent)["per_node"]
    assert [row for row in rows if not row["ok"]] == []
    enough = replace(options, least_ram=False, ram=least["total"], self_check=False, recompute=1.0)
    assert (
        compile_model(tmp_path / "depthwise.onnx", tmp_path / "same", enough).report["ram"]["total"]
        <= enough.ram
    )
    monkeypatch.setattr("mmcc.kernels.arm_dsp.conv.LEAST", 16 - window)  # as many columns as without
    before = compile_model(tmp_path / "depthwise.onnx", tmp_path / "before", options).report["ram"]
    column = 8 * window  # bytes of four channels, widened
    assert least["arena"] == before["arena"]
    assert least["stack"] <= before["stack"] - 0.9 * (12 - window) * column
    assert least["total"] < before["total"]


def test_a_limit_below_the_stack_of_pairs_of_pixels_is_kept(tmp_path: Path) -> None:
    """On Armv6-M values of two windows lie on the stack, unless a limit leaves no room for them."""
    ready("cortex-m0plus")
    m = FloatModel(np.random.default_rng(3))
    q, scale = m.float_input(1, DEPTH, 6, 12)
    y = m.conv(m.real(q, float(scale)), scale, (DEPTH, DEPTH, 3, 3), pads=[1, 1, 1, 1])
    m.save(m.requantized(y, 0.1), tmp_path / "conv.onnx")
    options = CompileOptions(name="n", target="cortex-m0plus")
    free = compile_model(tmp_path / "conv.onnx", tmp_path / "free", options).report["ram"]
    least = compile_model(tmp_path / "conv.onnx", tmp_path / "least", replace(options, least_ram=True))
    limit = least.report["ram"]["total"]
    kept = compile_model(tmp_path / "conv.onnx", tmp_path / "kept", replace(options, ram=limit)).report["ram"]
    assert kept["total"] <= limit < free["total"]
    assert kept["stack"] <= free["stack"] - 4 * 9 * DEPTH


def test_what_the_least_ram_takes_is_enough_where_it_lends(tmp_path: Path) -> None:
    """A depthwise layer behind the step that needs most widens in memory that is free there: also within a
    limit, and if init copies weights to what that leaves."""
    ready("cortex-m4")
    m = FloatModel(np.random.default_rng(8))
    q, scale = m.float_input(1, 3, 32, 32)
    strided = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    depthwise = {"pads": [2, 2, 2, 2], "group": 2 * DEPTH}
    for shape, attributes in (
        ((DEPTH, 3, 3, 3), strided),
        ((2 * DEPTH, DEPTH, 3, 3), strided),
        ((2 * DEPTH, 1, 5, 5), depthwise),
    ):
        y = m.conv(m.real(q, float(scale)), scale, shape, **attributes)
        q, scale = m.quantized(y, 0.1), np.float32(0.1)
    m.save(m.real(q, float(scale)), tmp_path / "net.onnx")
    options = CompileOptions(name="n", target="stm32l4r5xi", least_ram=True, self_check=False, recompute=1.0)
    made = compile_model(tmp_path / "net.onnx", tmp_path / "least", options)
    least = made.report["ram"]
    assert 2 in (made.plan.scratch or {}), "the depthwise layer is lent memory"
    enough = replace(options, least_ram=False, ram=least["total"])
    same = compile_model(tmp_path / "net.onnx", tmp_path / "same", enough).report["ram"]
    assert same["total"] <= enough.ram
    more = replace(enough, ram=least["total"] + 320)
    copied = compile_model(tmp_path / "net.onnx", tmp_path / "copied", more).report["ram"]
    assert copied["weights"] > 0
    assert copied["total"] <= more.ram
    assert copied["stack"] <= same["stack"] + 16
    rows = verify_package(tmp_path / "copied", VerifyOptions(on="qemu", per_node=True), silent)["per_node"]
    assert [row for row in rows if not row["ok"]] == []


def depthwise_net(folder: Path) -> Path:
    """A net of two 5x5 depthwise layers, whose kernels widen columns on the stack."""
    m = FloatModel(np.random.default_rng(8))
    q, scale = m.float_input(1, 3, 20, 32)
    windows = {"pads": [2] * 4, "group": 24}
    for shape, attributes in (
        ((24, 3, 3, 3), {"pads": [1] * 4}),
        ((24, 1, 5, 5), windows),
        ((8, 24, 1, 1), {}),
        ((24, 8, 1, 1), {}),
        ((24, 1, 5, 5), windows | {"strides": [2, 2]}),
        ((8, 24, 1, 1), {}),
    ):
        y = m.conv(m.real(q, float(scale)), scale, shape, **attributes)
        q, scale = m.quantized(y, 0.1), np.float32(0.1)
    m.save(m.real(q, float(scale)), folder / "net.onnx")
    return folder / "net.onnx"


def test_nothing_is_computed_again_where_small_frames_leave_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within what the least RAM takes there are column strips for kernels with large frames, and whole rows
    for those with small ones; below that there are strips for both, and large frames are faster."""
    ready("cortex-m4")
    net = depthwise_net(tmp_path)
    options = CompileOptions(name="n", target="cortex-m4", least_ram=True, self_check=False)
    least = compile_model(net, tmp_path / "least", options).report["ram"]
    within = replace(options, least_ram=False, ram=least["total"])
    small = compile_model(net, tmp_path / "small", within).report
    assert small["ram"]["total"] <= least["total"]
    assert small["plan"]["macs_recomputed"] == 0
    tight = replace(within, ram=least["total"] - 600, dump=tmp_path / "dump")
    made = compile_model(net, tmp_path / "large", tight)
    large = made.report
    assert (tmp_path / "dump/4-plan.txt").read_text().endswith(f"{made.plan}\n")
    assert large["ram"]["total"] <= tight.ram
    assert large["plan"]["macs_recomputed"] > 0
    assert large["ram"]["stack"] > small["ram"]["stack"]  # and kernels that are faster
    # of files that were written once more
    rows = verify_package(tmp_path / "large", VerifyOptions(on="qemu", per_node=True), silent)["per_node"]
    assert [row for row in rows if not row["ok"]] == []
    # where only those with large frames keep a limit of flash
    monkeypatch.setattr(ram_fit, "_lent_or_not", partial(more_flash, ram_fit._lent_or_not))
    flash = replace(within, flash=small["flash"]["total"] + MORE // 2)
    kept = compile_model(net, tmp_path / "flash", flash).report
    assert kept["flash"]["total"] <= flash.flash
    assert kept["plan"]["macs_recomputed"] > 0


def more_flash(made: Callable[[Job, Mapping[str, PlanRequest]], Built], job: Job, requests: Any) -> Built:
    """A package that takes more flash with small frames, as those of portable kernels may."""
    built = made(job, requests)
    if job.target.small_frames:
        built.report["flash"]["total"] += MORE
    return built


def test_only_kernels_of_some_variants_have_small_frames() -> None:
    folder = Path(kernels.__file__).parent
    asking = [path.relative_to(folder) for path in folder.rglob("*.py") if "small_frames" in path.read_text()]
    assert {path.parts[0] for path in asking} == {"contract.py", *SMALL_FRAMES}


def test_a_target_without_such_kernels_is_planned_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def again(job: Job, requests: Mapping[str, PlanRequest]) -> Mapping[str, PlanRequest]:
        asked.append(job.target.name)
        return requests

    monkeypatch.setattr(ram_fit, "_asked_again", again)
    net = depthwise_net(tmp_path)
    for target in ("rv32imac", "cortex-m4"):
        options = CompileOptions(target=target, ram=2000, stack=1000, recompute=1.0)
        with pytest.raises(CompileError, match="bytes of RAM are needed"):
            compile_model(net, tmp_path / target, options)
    assert asked == ["cortex-m4"]
