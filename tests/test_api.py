"""The Python API: the same as the command line, with arrays."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


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


def test_verify_and_check(result):
    assert mmcc.verify(result.folder, samples=3)["ok"]
    assert mmcc.check(DIGITS / "digits_fp32.onnx")["params"] == 16_602


def test_errors_carry_their_exit_code(tmp_path):
    with pytest.raises(mmcc.CompileError) as caught:
        mmcc.compile_model(DIGITS / "digits_int8.onnx", tmp_path / "x", ram="1K")
    assert int(caught.value.exit) == 5
    with pytest.raises(mmcc.CompileError, match="is not a size"):
        mmcc.compile_model(DIGITS / "digits_int8.onnx", tmp_path / "x", ram="lots")
