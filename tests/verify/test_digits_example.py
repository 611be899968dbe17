# SPDX-License-Identifier: Apache-2.0
"""The digits example: the committed models are what its README says, and their making is deterministic."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

pytestmark = pytest.mark.quick

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
FLOAT, INT8 = DIGITS / "digits_fp32.onnx", DIGITS / "digits_int8.onnx"


@pytest.fixture(scope="module")
def training():
    """`train.py` as a module; importing it trains nothing."""
    spec = importlib.util.spec_from_file_location("digits_train", DIGITS / "train.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def test_data():
    with np.load(DIGITS / "test_data.npz") as data:
        return data["input_0"], data["labels"]


@pytest.mark.parametrize("path", [FLOAT, INT8], ids=["float", "int8"])
def test_accuracy_on_held_out_digits(training, test_data, path):
    images, labels = test_data
    assert (training.classify(onnx.load(path), images) == labels).mean() >= 0.97


def test_test_digits_are_held_out(training, test_data):
    images, labels = test_data
    split = training.load_split()
    assert images.shape == (360, 1, 8, 8)
    np.testing.assert_array_equal(images, split.test_images)
    np.testing.assert_array_equal(labels, split.test_labels)
    assert len(split.train_images) == 1797 - 360
    trained_on = {image.tobytes() for image in split.train_images}
    assert not any(image.tobytes() in trained_on for image in images)


def test_float_model_has_the_layers_it_claims():
    model = onnx.load(FLOAT)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds == {
        "Conv": 6, "Relu": 6, "Add": 1, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1
    }  # fmt: skip
    groups = [a.i for n in model.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "group"]
    assert groups == [1, 16, 1, 32, 1, 1]
    assert sum(np.prod(w.dims) for w in model.graph.initializer) == 16_602


def test_int8_model_is_static_qdq():
    graph = onnx.load(INT8).graph
    constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    by_output = {node.output[0]: node for node in graph.node}
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert [n.op_type for n in graph.node if "input" in n.input] == ["QuantizeLinear"]
    assert by_output["logits"].op_type == "DequantizeLinear"
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert {by_output[name].op_type for name in node.input} == {"DequantizeLinear"}, node.name
        if node.op_type in ("Conv", "Gemm"):
            quantized, scale, zero_point = (constants[name] for name in by_output[node.input[1]].input)
            assert quantized.dtype == zero_point.dtype == np.int8
            assert len(scale) == output_channels(node, quantized)
            assert not zero_point.any()
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].dtype == np.int8


def output_channels(node, weight):
    return weight.shape[0] if node.op_type == "Conv" else weight.shape[1]


def test_models_carry_no_tool_versions():
    for path in (FLOAT, INT8):
        model = onnx.load(path)
        assert (model.producer_version, list(model.metadata_props)) == ("", [])


def test_export_of_the_committed_weights_is_the_committed_model(training):
    committed = onnx.load(FLOAT)
    assert training.export(weights_of(committed, training.NETWORK)) == committed


def weights_of(model, network):
    """The weights in the layout that train.py trains with: the inverse of its export."""
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    for node in network:
        name = f"{node.output}.weight"
        if node.op == "Conv":
            weights[name] = weights[name].transpose(2, 3, 1, 0)
        elif node.op == "Depthwise":
            weights[name] = weights[name][:, 0].transpose(1, 2, 0)
    return weights


def test_quantizing_twice_gives_the_same_bytes(training):
    images = training.load_split().train_images[:16]
    first, second = (training.quantize(onnx.load(FLOAT), images) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "name", ["stem.weight", "widen_dw.weight", "block_pw.bias", "head.weight", "logits.bias"]
)
def test_gradient_is_the_slope_of_the_loss(training, name):
    """Against central differences, in float64, where the biggest component of the gradient is."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((4, 8, 8, 1)), rng.integers(0, 10, 4)
    weights = {key: w.astype(np.float64) for key, w in training.initial_weights(rng).items()}
    gradient = training.gradients(weights, images, labels)[name]
    at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)

    def loss(step):
        moved = weights[name].copy()
        moved[at] += step
        values = {"input": images}
        for node in training.NETWORK:
            own = {**weights, name: moved}
            operands = [values[i] for i in node.inputs] + [own[n] for n in training._names(node)]
            values[node.output], _ = training.OPERATORS[node.op](*operands)
        return -np.log(training._softmax(values["logits"])[np.arange(4), labels]).mean()

    assert gradient[at] == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-4)
