# SPDX-License-Identifier: Apache-2.0
"""Models that need less stack than the test bench's own functions, which must take none of theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.stack.walk import read_listing, stack_bounds
from mmcc.verification.bench import bench_qemu
from mmcc.verification.linked import CALLBACKS_STACK, firmware_of
from onnx import helper
from toolchains import ready

SCALE = {"s": np.float32(0.1), "z": np.int8(3)}


@pytest.mark.parametrize("target", ["rv32imac", "cortex-m0plus", "cortex-m4"])
def test_a_model_of_one_copy_runs(target: str, tmp_path: Path) -> None:
    """main and what starts it are not on the model's stack, which is 16 bytes on RV32."""
    ready(target)
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    inputs = {"x": np.zeros((2, 3, 4), np.float32)}
    path = save(model_of([node], inputs, ["y"], {"shape": np.array([4, 6])}), tmp_path)
    compile_model(path, tmp_path / "c", CompileOptions(target=target, ram=4096, self_check=False))
    package = load_package(tmp_path / "c")
    assert package.stack <= 64
    assert bench_qemu(tmp_path / "c", package)["stack"] <= package.stack


@pytest.mark.parametrize("target", ["rv32imac", "cortex-m0plus", "cortex-m4"])
def test_callbacks_of_the_bench_have_room_besides(target: str, tmp_path: Path) -> None:
    """No figure of stack has what callbacks take; within a limit of RAM they come on top of that, too."""
    ready(target)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"]),
        helper.make_node("Ceil", ["real"], ["up"]),
        helper.make_node("QuantizeLinear", ["up", "s", "z"], ["y"]),
    ]
    path = save(model_of(nodes, {"x": np.zeros((1, 2, 5, 3), np.int8)}, ["y"], SCALE), tmp_path)
    options = CompileOptions(target=target, io="rows-again", least_ram=True, self_check=False)
    least = compile_model(path, tmp_path / "least", options).report["ram"]["total"]
    options = CompileOptions(target=target, io="rows-again", ram=least, self_check=False)
    compile_model(path, tmp_path / "c", options)
    package = load_package(tmp_path / "c")
    assert package.calls_back
    assert package.ram == least
    bench_qemu(tmp_path / "c", package)
    board, elf = load_target(target), firmware_of(tmp_path / "c", package)
    names = [name for name in read_listing(elf, board).starts if name.startswith("stream_")]
    assert len(names) == 2
    bounds = stack_bounds(elf, [], names, board).values()
    assert 0 < max(bound.bytes for bound in bounds) <= CALLBACKS_STACK


@pytest.mark.parametrize(
    ("target", "io", "weights"), [("rv32imac", "rows", "staged"), ("aarch64", "external", "")]
)
def test_the_bench_takes_none_of_the_limit(
    target: str, io: Literal["rows", "external"], weights: Literal["staged", ""], tmp_path: Path
) -> None:
    """Its own variables (a copy that was begun, the caller's inputs) lie apart: a package that needs all of
    its limit runs."""
    ready(target)
    nodes = [helper.make_node("MatMul", ["x", "v"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    constants = {"v": np.ones((9, 40), np.float32), "w": np.ones((40, 3), np.float32)}
    path = save(model_of(nodes, {"x": np.zeros((1, 9), np.float32)}, ["y"], constants), tmp_path)
    options = CompileOptions(target=target, io=io, weights=weights, least_ram=True, self_check=False)
    least = compile_model(path, tmp_path / "c", options).report["ram"]["total"]
    compile_model(path, tmp_path / "c", replace(options, least_ram=False, ram=least))
    package = load_package(tmp_path / "c")
    assert package.ram == least
    bench_qemu(tmp_path / "c", package)


@pytest.mark.parametrize("target", ["cortex-m4", "aarch64"])
def test_an_arena_with_nothing_in_it_is_counted_as_c_has_it(target: str, tmp_path: Path) -> None:
    """Inputs and outputs are the caller's, and nothing is between: still an array is given to `init`."""
    ready(target)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    constants = {"w": np.ones((8, 4), np.float32)}
    path = save(model_of(nodes, {"x": np.zeros((1, 8), np.float32)}, ["y"], constants), tmp_path)
    options = CompileOptions(target=target, io="external", least_ram=True, self_check=False)
    least = compile_model(path, tmp_path / "c", options).report["ram"]
    assert least["arena"] == 4
    compile_model(path, tmp_path / "c", replace(options, least_ram=False, ram=least["total"]))
    bench_qemu(tmp_path / "c", load_package(tmp_path / "c"))
