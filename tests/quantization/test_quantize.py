# SPDX-License-Identifier: Apache-2.0
"""mmcc quantize: the int8 model is as good as it says, all of it runs in integers, and costs are told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from cli_runs import run
from doc_pages import DIGITS
from frontend_models import model_of, save
from mmcc.driver.check import check_model
from mmcc.driver.estimate import estimate
from mmcc.driver.options import silent
from mmcc.quantization.corrections import corrected, equalized
from mmcc.quantization.runs import decibels, outputs_of, quality
from onnx import helper, numpy_helper

MODEL, DATA = DIGITS / "digits_fp32.onnx", DIGITS / "test_data.npz"
node = helper.make_node


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Some of the digits: in the file's order every class comes early."""
    path, arrays = tmp_path_factory.mktemp("data") / "some.npz", np.load(DATA)
    np.savez(path, **{name: arrays[name][:80] for name in ("input_0", "labels")})
    return path


def quantized(out, data, *args):
    result = run("quantize", MODEL, "--data", data, "-o", out, "--samples", 40, "--json", *args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.quick
def test_the_int8_model_is_as_it_says(data, tmp_path):
    found = quantized(tmp_path / "q.onnx", data)
    assert found["samples"] == {"calibration": 40, "judged": 80}
    assert found["quantized"]["accuracy"] >= found["float"]["accuracy"] - 0.03
    assert found["quantized"]["ram"] < 0.5 * found["float"]["ram"]
    checked = check_model(tmp_path / "q.onnx", {}, {}, silent)
    assert checked["warnings"] == []
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    arrays = np.load(data)
    feeds = [{"input": image[None]} for image in arrays["input_0"]]
    outputs = outputs_of(onnx.load(tmp_path / "q.onnx"), feeds)
    right = [
        int(sample[0].argmax()) == label for sample, label in zip(outputs, arrays["labels"], strict=True)
    ]
    assert np.mean(right) == pytest.approx(found["quantized"]["accuracy"])
    noise = [row["snr_db"] for row in found["worst_layers"]]
    assert noise == sorted(noise)
    assert noise[0] >= found["quantized"]["snr_db"] - 15
    assert run("quantize", tmp_path / "q.onnx", "--data", data).exit_code == 2


def test_worst_layers_stay_float_until_the_loss_is_small_enough(data, tmp_path):
    unlabelled = tmp_path / "x.npz"
    np.savez(unlabelled, input_0=np.load(data)["input_0"][:40])
    plain = quantized(tmp_path / "p.onnx", unlabelled, "--no-corrections")
    assert plain["kept_in_float"] == []
    wanted = plain["quantized"]["snr_db"] + 1
    found = quantized(tmp_path / "q.onnx", unlabelled, "--no-corrections", "--mixed", wanted)
    assert found["quantized"]["snr_db"] >= wanted
    kept = found["kept_in_float"]
    assert 1 <= len(kept) < 7
    assert kept[0] == plain["worst_layers"][0]["node"]
    assert len(check_model(tmp_path / "q.onnx", {}, {}, silent)["warnings"]) >= 1


def uneven(rng):
    """Two Convs whose channels in between have weights of very different size."""
    spread = np.float32(10.0 ** np.linspace(-2, 2, 8)).reshape(-1, 1, 1, 1)
    weights = {
        "a": np.float32(rng.standard_normal((8, 3, 3, 3))) * spread,
        "b": np.float32(rng.standard_normal((4, 8, 1, 1))) / spread.reshape(1, -1, 1, 1),
        "c": np.float32(rng.standard_normal(8)) * spread.ravel(),
        "d": np.float32(rng.standard_normal(4)),
    }
    nodes = [
        node("Conv", ["x", "a", "c"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Conv", ["r", "b", "d"], ["y"]),
    ]
    return model_of(nodes, {"x": np.float32(rng.standard_normal((1, 3, 6, 6)))}, ["y"], weights)


@pytest.mark.quick
def test_equalized_channels_give_the_same_function_with_like_ranges():
    rng = np.random.default_rng(3)
    model = uneven(rng)
    other = equalized(model)
    feeds = [{"x": np.float32(rng.standard_normal((1, 3, 6, 6)))}]
    np.testing.assert_allclose(
        outputs_of(other, feeds)[0][0], outputs_of(model, feeds)[0][0], rtol=1e-4, atol=1e-4
    )

    def spread(m):
        weights = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
        ranges = np.abs(weights["a"]).reshape(8, -1).max(axis=1)
        return ranges.max() / ranges.min()

    assert spread(other) < spread(model) / 20


@pytest.mark.quick
def test_corrected_biases_take_away_the_mean_error():
    rng = np.random.default_rng(4)
    model = uneven(rng)
    worse = onnx.ModelProto()
    worse.CopyFrom(model)
    for tensor in worse.graph.initializer:
        if tensor.name == "d":
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32([1, 2, 3, 4]), "d")
            )
    feeds = [{"x": np.float32(rng.standard_normal((1, 3, 6, 6)))} for _ in range(3)]
    moved = corrected(model, worse, feeds)
    bias = {t.name: numpy_helper.to_array(t) for t in moved.graph.initializer}["d"]
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}["d"]
    np.testing.assert_allclose(bias - before, [-1, -2, -3, -4], atol=1e-3)


@pytest.mark.quick
def test_quality():
    true = [[np.float32([1, 0])], [np.float32([0, 1])]]
    assert quality(true, true, None).decibels == float("inf")
    assert decibels([np.float32([10])], [np.float32([9])]) == pytest.approx(20)
    wrong = [[np.float32([1, 0])], [np.float32([1, 0])]]
    assert quality(true, wrong, np.array([0, 1])).accuracy == 0.5
    assert quality(true, wrong, np.array([0, -1])).accuracy == 1.0


@pytest.mark.quick
def test_an_estimate_is_what_a_compile_plans(tmp_path):
    found = estimate(DIGITS / "digits_int8.onnx", "cortex-m4")
    for options, arena in (((), found.arena), (("--ram", "min"), found.least_arena)):
        args = ("-t", "cortex-m4", "--no-self-check", "--json", "-o", tmp_path / "c")
        report = json.loads(run("compile", DIGITS / "digits_int8.onnx", *args, *options).stdout)
        assert report["ram"]["arena"] == arena
    assert report["flash"]["code"] == pytest.approx(found.code, rel=0.35)
    assert report["flash"]["weights"] == found.weights
    assert estimate(onnx.load(DIGITS / "digits_int8.onnx")).arena == found.arena
    assert estimate(DIGITS / "digits_int8.onnx", least=False).least_arena == found.arena


@pytest.mark.quick
def test_16x8_is_called_so_and_its_flash_is_that_of_a_compile(data, tmp_path):
    """DSP cores have the weights of 16x8 layers as 16 bits, which the file does not say."""
    out = tmp_path / "wide.onnx"
    args = ("--activations", "int16", "--no-corrections", "--samples", 40)
    result = run("quantize", MODEL, "--data", data, "-o", out, *args)
    assert "16x8" in result.stdout
    assert "int8 " not in result.stdout
    report = json.loads(
        run("compile", out, "-t", "cortex-m4", "--no-self-check", "--json", "-o", tmp_path / "c").stdout
    )
    assert report["flash"]["weights"] == estimate(out, "cortex-m4", least=False).weights


@pytest.mark.quick
def test_a_float_compile_says_what_int8_would_save_and_what_was_assumed(tmp_path):
    spaced = shutil.copy(MODEL, tmp_path / "my digits.onnx")
    result = run("compile", spaced, "--no-self-check", "-o", tmp_path / "c")
    assert f"mmcc quantize '{spaced}' --data" in result.output
    assert "no --target" in result.output
    result = run(
        "compile", DIGITS / "digits_int8.onnx", "-t", "host", "--no-self-check", "-o", tmp_path / "d"
    )
    assert "mmcc quantize" not in result.output
    assert "no --target" not in result.output


@pytest.mark.quick
def test_what_int8_would_save_is_said_only_where_it_can_be_had(tmp_path):
    """A recurrent layer alone is none that the quantizer takes: advice to quantize would lead nowhere."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((1, 16, 3)), "r": rng.standard_normal((1, 16, 4))}
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    path = save(model_of([lstm], {"x": np.zeros((5, 1, 3), np.float32)}, ["y"], weights), tmp_path)
    args = ("--stack", "1K", "--no-self-check", "-t", "cortex-m4", "-o", tmp_path / "c")
    assert "mmcc quantize" not in run("compile", path, *args).output
    np.savez(tmp_path / "x.npz", input_0=np.zeros((2, 5, 1, 3), np.float32))
    assert "MM115" in run("quantize", path, "--data", tmp_path / "x.npz", "-o", tmp_path / "q.onnx").output
    assert "mmcc quantize" in run("compile", MODEL, *args).output


@pytest.mark.quick
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"labels": np.zeros(39, int)}, "labels are int64[39] for 40 samples"),
        ({"labels": np.zeros(40)}, "labels are float64[40] for 40 samples"),
        ({"at": (3, np.nan)}, 'sample 3 of x.npz has 1 of 64 values of "input" that are NaN or infinite'),
        ({"at": (7, -np.inf)}, "sample 7 of x.npz"),
        ({"at": (7, 1e38)}, "more than a scale in float32 can cover"),
    ],
)
def test_data_that_nothing_can_be_learned_from_is_refused(wrong, says, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = dict(np.load(data))
    found = {"input_0": arrays["input_0"][:40], "labels": arrays["labels"][:40]} | wrong
    if at := found.pop("at", None):
        found["input_0"][at[0]].flat[5] = at[1]
    np.savez("x.npz", **found)
    result = run("quantize", MODEL, "--data", "x.npz", "-o", "q.onnx")
    assert result.exit_code == 2
    assert "error[MM007]" in result.output
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.quick
def test_a_model_that_the_quantizer_does_not_take_is_the_users_to_change(tmp_path, monkeypatch):
    model = uneven(np.random.default_rng(1))
    path = save(model, tmp_path)
    np.savez(tmp_path / "x.npz", input_0=np.zeros((2, 1, 3, 6, 6), np.float32))
    monkeypatch.setattr("mmcc.quantization.quantize._prepared", lambda *_: 1 / 0)
    result = run("quantize", path, "--data", tmp_path / "x.npz", "-o", tmp_path / "q.onnx")
    assert result.exit_code == 2
    assert "error[MM115]" in result.output
    assert not (tmp_path / "q.onnx").exists()
