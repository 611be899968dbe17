# SPDX-License-Identifier: Apache-2.0
"""The Python API: the same as the command line, with arrays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from mmcc.driver.options import CompileOptions
from mmcc.verification.verify import VerifyOptions
from onnx import TensorProto, helper

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "digits"
    return mmcc.compile_model(DIGITS / "digits_int8.onnx", out, ram="16K", name="digits")


def test_a_result_has_a_report_files_and_runs(result):
    assert result.report["ram"]["limit"] == 16384
    assert result.report["ram"]["total"] <= 16384
    assert {"digits.h", "digits.c", "report.json"} <= set(result.files)
    data = np.load(DIGITS / "test_data.npz")
    outputs = result.run([data["input_0"][:1]])
    assert outputs[0].shape == (1, 10)
    assert outputs[0].dtype == np.float32
    by_name = result.run({"input": data["input_0"][:1]})
    np.testing.assert_array_equal(outputs[0], by_name[0])


def test_verify_and_check(result, tmp_path):
    assert mmcc.verify(result.folder, samples=3)["ok"]
    data, outputs = str(DIGITS / "test_data.npz"), str(tmp_path / "y.npz")
    assert mmcc.verify(str(result.folder), data=data, limit=2, save_outputs=outputs)["ok"]
    assert mmcc.verify(result.folder, data=data, limit=2, expected=outputs)["ok"]
    assert mmcc.check(DIGITS / "digits_fp32.onnx")["params"] == 16_602


def test_errors_carry_their_exit_code(tmp_path):
    with pytest.raises(mmcc.CompileError) as caught:
        mmcc.compile_model(DIGITS / "digits_int8.onnx", tmp_path / "x", ram="1K")
    assert int(caught.value.exit) == 5
    with pytest.raises(mmcc.CompileError, match="is not a size"):
        mmcc.compile_model(DIGITS / "digits_int8.onnx", tmp_path / "x", ram="lots")


def test_options_are_checked_as_on_the_command_line(tmp_path):
    model = DIGITS / "digits_int8.onnx"
    for options in ({"io": "nope"}, {"weights": "x"}, {"ram": -1}, {"flash": -5}):
        with pytest.raises(mmcc.CompileError) as caught:
            mmcc.compile_model(model, tmp_path / "x", **options)
        assert int(caught.value.exit) == 2
    least = mmcc.compile_model(model, tmp_path / "min", ram="min")
    assert len(least.plan.groups) < len(least.graph.nodes) - len(least.plan.aliases)


def moved_bytes(path: Path, op: str, shape: tuple[int, ...], **attributes: object) -> None:
    """A model of one operator that moves uint8, which nothing in it dequantizes."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3, 8, 8))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "g", inputs, outputs)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_a_package_compiled_again_is_loaded_anew(tmp_path):
    """The second library has the path of the first, which this process still has; and uint8 means itself."""
    model, x = tmp_path / "m.onnx", np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8)
    moved_bytes(model, "MaxPool", (1, 3, 4, 4), kernel_shape=[2, 2], strides=[2, 2])
    (y,) = mmcc.compile_model(model, tmp_path / "out").run([x])
    np.testing.assert_array_equal(y, x.reshape(1, 3, 4, 2, 4, 2).max((3, 5)))
    moved_bytes(model, "Transpose", (1, 8, 8, 3), perm=[0, 2, 3, 1])
    (y,) = mmcc.compile_model(model, tmp_path / "out").run([x])
    np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1))


def test_a_model_that_the_oracle_cannot_load(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Unsupported model IR version: 14,\n max supported IR version: 13")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    moved_bytes(tmp_path / "m.onnx", "Transpose", (1, 8, 8, 3), perm=[0, 2, 3, 1])
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "out")
    with pytest.raises(mmcc.CompileError, match="cannot load the model: Unsupported model IR version: 14"):
        mmcc.verify(tmp_path / "out")


def test_the_typed_options_are_those_of_the_compiler():
    resolved = {field.name for field in fields(CompileOptions)}
    assert set(mmcc.CompileOptions.__annotations__) == resolved - {
        "least_ram",
        "regions",
    }  # that is ram="min", "a=1K"
    assert set(mmcc.VerifyOptions.__annotations__) == {f.name for f in fields(VerifyOptions)}


def test_an_unknown_option_is_named(tmp_path):
    with pytest.raises(TypeError, match="rom"):
        mmcc.compile_model(DIGITS / "digits_int8.onnx", tmp_path / "x", rom=1)


def test_one_version_everywhere():
    for command in (
        [sys.executable, "-m", "mmcc", "--version"],
        [sys.executable, "-m", "mmcc", "--version"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"mmcc {mmcc.__version__}\n"
    assert metadata.version("mmcc") == mmcc.__version__
