# SPDX-License-Identifier: Apache-2.0
"""Faults planted in a package's C, one step or few outputs off, are found by plain `mmcc verify`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mmcc
import numpy as np
import pytest
from cli_runs import run
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.verification import verify
from onnx import TensorProto, helper, numpy_helper, save
from toolchains import ready

ONE_STEP = r"\.y_zero = (-?\d+),", lambda found: f".y_zero = {int(found[1]) + 1},"
ONE_BYTE = (
    r" *M_AFTER\(1\);",
    lambda found: f"    *(uint8_t *)(void *)(uintptr_t)m_output_0(context) ^= 0x80;\n{found[0]}",
)


def two_convolutions(path: Path) -> Path:
    """int8, 4x12x12 to 8x12x12."""
    rng = np.random.default_rng(5)
    nodes, constants, x, channels = [], {}, "x", 4
    scales = {"x": 0.05, "y0": 0.06, "y1": 0.07}
    for k in range(2):
        weights = rng.integers(-127, 128, (8, channels, 3, 3)).astype(np.int8)
        constants |= {f"w{k}": weights, f"ws{k}": np.float32(0.004), f"wz{k}": np.int8(0)}
        constants |= {f"b{k}": rng.integers(-999, 999, 8).astype(np.int32), f"bz{k}": np.int32(0)}
        constants[f"bs{k}"] = np.float32(scales[x] * np.float32(0.004))
        for name, scale, zero in ((f"x{k}", scales[x], 3), (f"y{k}", scales[f"y{k}"], -10)):
            constants |= {f"{name}s": np.float32(scale), f"{name}z": np.int8(zero)}
        ends = [f"x{k}s", f"x{k}z"] if k == 0 else ["y0s", "y0z"]
        nodes += [
            helper.make_node("DequantizeLinear", [x, *ends], [f"x{k}d"]),
            helper.make_node("DequantizeLinear", [f"w{k}", f"ws{k}", f"wz{k}"], [f"w{k}d"]),
            helper.make_node("DequantizeLinear", [f"b{k}", f"bs{k}", f"bz{k}"], [f"b{k}d"]),
            helper.make_node("Conv", [f"x{k}d", f"w{k}d", f"b{k}d"], [f"c{k}"], pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", [f"c{k}", f"y{k}s", f"y{k}z"], [f"y{k}"]),
        ]
        x, channels = f"y{k}", 8
    ports = [
        helper.make_tensor_value_info(name, TensorProto.INT8, [1, count, 12, 12])
        for name, count in (("x", 4), ("y1", 8))
    ]
    known = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:], known)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def planted(folder: Path, fault: tuple[str, Any]) -> None:
    """Change the last place in the package's C that a fault fits."""
    path = folder / "m.c"
    text = path.read_text()
    *_, last = re.finditer(fault[0], text)
    path.write_text(text[: last.start()] + fault[1](last) + text[last.end() :])


@pytest.mark.parametrize(
    ("fault", "target", "on"),
    [(ONE_STEP, "host", "host"), (ONE_BYTE, "host", "host"), (ONE_BYTE, "cortex-m4", "qemu")],
    ids=["one step", "one byte", "one byte on a board"],
)
def test_a_fault_that_is_small_at_the_output(
    fault: tuple[str, Any], target: str, on: str, tmp_path: Path
) -> None:
    if on == "qemu":
        ready(target)
    model = two_convolutions(tmp_path / "m.onnx")
    compile_model(model, tmp_path / "out", CompileOptions(target=target, name="m"))
    assert mmcc.verify(tmp_path / "out", on=on)["ok"]
    planted(tmp_path / "out", fault)
    found = mmcc.verify(tmp_path / "out", on=on)
    assert not found["ok"]
    assert found["as_here"] == (on == "host")


def test_without_a_compiler_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of a board are compared with ONNX Runtime's only, and that is said."""
    compile_model(two_convolutions(tmp_path / "m.onnx"), tmp_path / "out", CompileOptions(name="m"))
    made = verify.run_host

    def missing(*_: object) -> None:
        raise CompileError("MM801", "cc is not installed", exit=Exit.TOOL_MISSING)

    monkeypatch.setattr(verify, "run_qemu", lambda *given: (made(*given), None))
    monkeypatch.setattr(verify, "run_host", missing)
    result = run("verify", tmp_path / "out", "--on", "qemu")
    assert result.exit_code == 0, result.output
    assert "which has no C compiler" in result.stdout


def test_without_the_model_it_is_said_that_nodes_are_not_compared(tmp_path: Path) -> None:
    model, out = two_convolutions(tmp_path / "m.onnx"), tmp_path / "out"
    compile_model(model, out, CompileOptions(name="m"))
    data, expected = tmp_path / "data.npz", tmp_path / "expected.npz"
    np.savez(data, input_0=np.random.default_rng(1).integers(-128, 128, (1, 4, 12, 12)).astype(np.int8))
    assert run("verify", out, "--data", data, "--save-outputs", expected).exit_code == 0
    planted(out, ONE_STEP)
    model.unlink()
    result = run("verify", out, "--data", data, "--expected", expected)
    assert "not looked at node by node, without the model's file" in result.stdout
