# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs as the caller sees them: dense, wherever the planner put them; and row by row."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from onnx import helper

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
N = helper.make_node
X = np.arange(1 * 3 * 6 * 5, dtype=np.float32).reshape(1, 3, 6, 5) - 40


def run(model, folder, arrays, **options):
    """Outputs of the C for one sample, and of ONNX Runtime."""
    import onnxruntime as ort

    path = save(model, folder)
    result = mmcc.compile_model(path, folder / "net", name="net", stack=1024, **options)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return result.run(arrays), session.run(None, arrays)


SLICE = [N("Slice", ["x", "starts", "ends", "axes"], ["y"])]
CONSTANTS = {"starts": np.array([1, 2]), "ends": np.array([3, 5]), "axes": np.array([1, 2])}


@pytest.mark.parametrize("io", ["arena", "external", "rows"])
def test_an_output_that_is_a_part_of_the_input_is_dense(io, tmp_path):
    got, want = run(model_of(SLICE, {"x": X}, ["y"], CONSTANTS), tmp_path, {"x": X}, io=io)
    np.testing.assert_array_equal(got[0], want[0])


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_inputs_and_outputs_that_are_parts_of_a_concat(axis, tmp_path):
    nodes = [N("Relu", ["a"], ["r"]), N("Concat", ["x", "r"], ["c"], axis=axis), N("Neg", ["c"], ["y"])]
    arrays = {"x": X, "a": X[..., ::-1].copy()}
    got, want = run(model_of(nodes, arrays, ["y", "r"]), tmp_path, arrays)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("io", ["arena", "external", "rows"])
def test_an_output_that_is_listed_twice_is_there_twice(io, tmp_path):
    """ONNX and ONNX Runtime take it: each has a buffer of its own, and `verify` compares all."""
    nodes = [N("Neg", ["x"], ["a"]), N("Relu", ["a"], ["y"])]
    got, want = run(model_of(nodes, {"x": X}, ["y", "a", "y"]), tmp_path, {"x": X}, io=io)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert mmcc.verify(tmp_path / "net")["ok"]


def test_arrays_that_do_not_fit_the_inputs_are_told(tmp_path):
    """An input without elements is a constant: the package takes no array for it."""
    nothing = np.zeros((0, 3), np.float32)
    nodes = [N("Relu", ["x"], ["r"]), N("Concat", ["r", "e"], ["c"], axis=0), N("Neg", ["c"], ["y"])]
    x = np.ones((2, 3), np.float32)
    path = save(model_of(nodes, {"x": x, "e": nothing}, ["y"]), tmp_path)
    result = mmcc.compile_model(path, tmp_path / "net", name="net", stack=1024)
    np.testing.assert_array_equal(result.run([x])[0], -x)
    for arrays in ([x, nothing], [], {"e": nothing}):
        with pytest.raises(ValueError, match="arrays for the inputs of the package: x"):
            result.run(arrays)


def test_an_input_that_is_an_output(tmp_path):
    model = model_of([N("Identity", ["x"], ["y"]), N("Neg", ["x"], ["z"])], {"x": X}, ["y", "z"])
    got, want = run(model, tmp_path, {"x": X})
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("io", ["external", "rows", "rows-again"])
@pytest.mark.parametrize("name", ["digits_int8", "digits_fp32"])
def test_the_way_in_and_out_changes_no_bit(io, name, tmp_path):
    images = np.load(DIGITS / "test_data.npz")["input_0"][:4]
    plain = mmcc.compile_model(DIGITS / f"{name}.onnx", tmp_path / "a", name="a", stack=1024)
    other = mmcc.compile_model(DIGITS / f"{name}.onnx", tmp_path / "b", name="b", stack=1024, io=io)
    for image in images:
        np.testing.assert_array_equal(plain.run([image[None]])[0], other.run([image[None]])[0])


FAILING = """
#include "net.h"
static NET_ARENA(arena);
static int calls;
static int32_t give(void *user, int8_t *to, int32_t row, int32_t rows, int32_t col, int32_t cols)
{
    const int limit = *(const int *)user;
    for (int32_t k = 0; k < rows * cols; ++k) to[k] = (int8_t)(row + col + k);
    return ++calls > limit ? 42 : 0;
}
static int32_t take(void *user, const int8_t *from, int32_t row, int32_t rows, int32_t col, int32_t cols)
{
    (void)user; (void)from; (void)row; (void)rows; (void)col; (void)cols;
    return 0;
}
int main(void)
{
    net_context model;
    int limit = 1000;
    if (net_init(&model, arena, sizeof arena) != MMCC_OK) return 1;
    if (net_run(&model) != MMCC_ERROR_STREAM) return 2; /* no callbacks yet */
    if (net_stream_input_0(&model, give, &limit) != MMCC_OK) return 3;
    if (net_stream_output_0(&model, take, 0) != MMCC_OK) return 4;
    if (net_stream_input_0(&model, 0, 0) != MMCC_ERROR_NULL) return 5;
    if (net_run(&model) != MMCC_OK) return 6;
    calls = 0;
    limit = 0;
    if (net_run(&model) != MMCC_ERROR_STREAM || calls != 1) return 7; /* a failure ends the asking */
    limit = 1000;
    return net_run(&model) == MMCC_OK ? 0 : 8;
}
"""


def test_a_callback_that_fails_ends_the_run(tmp_path):
    folder = tmp_path / "net"
    mmcc.compile_model(DIGITS / "digits_int8.onnx", folder, name="net", io="rows")
    (tmp_path / "main.c").write_text(FAILING)
    sources = [p for p in folder.glob("*.c") if "selftest" not in p.name]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-std=c99", *sanitize, f"-I{folder}", tmp_path / "main.c", *sources, "-lm", "-o"]
    subprocess.run([*command, tmp_path / "x"], check=True)
    assert subprocess.run([tmp_path / "x"], check=False).returncode == 0
