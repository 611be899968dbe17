# SPDX-License-Identifier: Apache-2.0
"""`--stream` along an axis that layers have as their columns: they are made with these as their rows."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph, load_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.interpret import evaluate
from onnx import helper

node = helper.make_node


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def spectrogram(bins: int, frames: int):
    """As PyTorch has them, [batch, channel, frequency, time]: causal along time, a mean over frequencies."""
    nodes = [
        node("Conv", ["x", "v"], ["a"], pads=[1, 2, 1, 0]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w"], ["c"], strides=[2, 1], pads=[0, 1, 0, 0]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[2, 1]),
        node("ReduceMean", ["d"], ["y"], axes=[2], keepdims=0),
    ]
    fixed = {"v": weights(6, 2, 3, 3), "w": weights(5, 6, 3, 2)}
    return model_of(nodes, {"x": np.zeros((1, 2, bins, frames), np.float32)}, ["y"], fixed, opset=13)


def keras(steps: int):
    """As tf2onnx writes Conv1D: an image of one row, its causal padding before it is made one."""
    nodes = []
    for k, dilation in enumerate((1, 2)):
        nodes += [
            node("Pad", [f"x{k}", f"pads{k}"], [f"p{k}"]),
            node("Unsqueeze", [f"p{k}", "one"], [f"u{k}"]),
            node("Transpose", [f"u{k}"], [f"t{k}"], perm=[0, 3, 1, 2]),
            node("Conv", [f"t{k}", f"w{k}"], [f"c{k}"], dilations=[1, dilation]),
            node("Transpose", [f"c{k}"], [f"n{k}"], perm=[0, 2, 3, 1]),
            node("Squeeze", [f"n{k}", "one"], [f"x{k + 1}"]),
        ]
    fixed = {f"pads{k}": np.array([0, 2 * (k + 1), 0, 0, 0, 0]) for k in range(2)}
    fixed |= {"w0": weights(8, 4, 1, 3), "w1": weights(8, 8, 1, 3), "one": np.array([1])}
    return model_of(nodes, {"x0": np.zeros((1, steps, 4), np.float32)}, ["x2"], fixed)


def signal(samples: int):
    """A row of samples that becomes an image of one row: a filter bank."""
    nodes = [node("Unsqueeze", ["x", "axes"], ["u"]), node("Conv", ["u", "w"], ["y"], strides=[1, 4])]
    fixed = {"w": weights(6, 1, 1, 8), "axes": np.array([1, 2])}
    return model_of(nodes, {"x": np.zeros((1, samples), np.float32)}, ["y"], fixed)


MODELS = {  # and how many rows late the first output is, as few as can be
    "spectrogram": (spectrogram(40, 30), "x:3", 0),
    "square": (spectrogram(16, 16), "x:3", 0),
    "keras": (keras(24), "x0:1", 0),
    "signal": (signal(64), "x:1", 1),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", MODELS)
def test_columns_become_the_rows_of_a_stream(name: str, tmp_path: Path) -> None:
    """That hops give that model's rows is proved when it is loaded; here it is the model that was given."""
    model, asked, late = MODELS[name]
    path = Path(save(model, tmp_path))
    loaded = load_model(path, CompileOptions(stream=asked))
    plain = load_graph(path, CompileOptions())
    x = weights(*plain.inputs[0].onnx_shape)
    (given,), (made,) = plain.inputs, plain.outputs
    found, want = (evaluate(g, {given.onnx_name: x})[made.onnx_name] for g in (loaded.whole, plain))
    np.testing.assert_allclose(found, want, 1e-4, 1e-4)  # numpy adds up in other orders
    assert loaded.streaming is not None
    (output,) = loaded.streaming.outputs
    assert output.lag == late


def test_a_stream_along_columns_is_verified(tmp_path: Path) -> None:
    model, asked, _ = MODELS["square"]
    mmcc.compile_model(save(model, tmp_path), tmp_path / "c", stream=asked)
    assert mmcc.verify(tmp_path / "c", per_node=True)["ok"]


@pytest.mark.quick
def test_a_window_is_left_to_what_needs_the_whole_sequence(tmp_path: Path) -> None:
    """Not to all layers, since time runs along the columns of the first."""
    nodes = [
        node("Conv", ["x", "v"], ["a"], pads=[1, 2, 1, 0]),
        node("GlobalAveragePool", ["a"], ["b"]),
        node("Flatten", ["b"], ["y"]),
    ]
    model = model_of(nodes, {"x": np.zeros((1, 1, 9, 12), np.float32)}, ["y"], {"v": weights(4, 1, 3, 3)})
    loaded = load_model(Path(save(model, tmp_path)), CompileOptions(stream="x:3", window=12))
    convolution = next(n for n in loaded.graph.nodes if n.op.kernel.startswith("conv"))
    assert loaded.graph.tensors[convolution.output].shape[0] == 1


@pytest.mark.quick
def test_what_cannot_be_streamed_either_way_is_told_of_the_model_as_it_is(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[3]), node("Sub", ["x", "m"], ["y"])]
    model = model_of(nodes, {"x": np.zeros((1, 1, 9, 12), np.float32)}, ["y"], opset=13)
    with pytest.raises(CompileError) as caught:
        load_model(Path(save(model, tmp_path)), CompileOptions(stream="x:3"))
    assert caught.value.code == "MM205"


@pytest.mark.quick
@pytest.mark.parametrize(("layer", "stream"), [("Relu", "x:3:3"), ("Softmax", "x:3")])
def test_what_stops_a_stream_behind_its_first_layer_is_told(layer: str, stream: str, tmp_path: Path) -> None:
    """Not that the first one has time as its columns: with these as its rows it is no obstacle."""
    axis = {"axis": 3} if layer == "Softmax" else {}
    nodes = [node("Conv", ["x", "v"], ["a"], strides=[1, 2]), node(layer, ["a"], ["y"], **axis)]
    model = model_of(nodes, {"x": np.zeros((1, 1, 9, 12), np.float32)}, ["y"], {"v": weights(4, 1, 3, 2)})
    with pytest.raises(CompileError) as caught:
        load_model(Path(save(model, tmp_path)), CompileOptions(stream=stream))
    if layer == "Relu":
        assert caught.value.code == "MM114"
        assert "a multiple of 2" in caught.value.hint
    else:
        assert [place.op for place in caught.value.at] == ["Softmax"]
