# SPDX-License-Identifier: Apache-2.0
"""Quantization as tf2onnx writes it: what ONNX Runtime refuses, and dynamic ranges."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.expose import with_outputs
from mmcc.ir.interpret import evaluate, evaluate_tensors
from mmcc.passes import optimize
from mmcc.verification.oracle import Oracle
from onnx import TensorProto, helper

ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.quick
RNG = np.random.default_rng(5)


def a16w8(tmp_path, bias: np.ndarray, zero: int = 0):
    """A convolution of int16 by int8, its bias int64 with a scale for each channel, in operator set 17."""
    constants = {
        "w": RNG.integers(-127, 128, (4, 3, 3, 3), np.int8),
        "ws": RNG.uniform(0.001, 0.01, 4).astype(np.float32),
        "wz": np.zeros(4, np.int8),
        "b": bias,
        "bz": np.full(4, zero, np.int64),
        "xs": np.float32(3e-5),
        "ys": np.float32(2e-4),
        "z": np.int16(0),
    }
    constants["bs"] = constants["ws"] * constants["xs"]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "z"], ["f"]),
        helper.make_node("Conv", ["f", "wf", "bf"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "ys", "z"], ["y"]),
    ]
    x = {"x": RNG.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)}
    model = model_of(nodes, x, ["y"], {name: np.asarray(a) for name, a in constants.items()}, opset=17)
    return save(model, tmp_path), x


@pytest.mark.parametrize("zero", [0, 3])
def test_biases_of_int64_stay_integers(tmp_path, zero):
    path, x = a16w8(tmp_path, RNG.integers(-(2**20), 2**20, 4, np.int64), zero)
    with pytest.raises(Exception, match="int64"):
        ort.InferenceSession(path)
    imported = import_model(path)
    assert any("int64" in str(warning) for warning in imported.warnings)
    graph = optimize(imported)
    assert [type(n.op).__name__ for n in graph.nodes] == ["Quantize", "ConvInt16", "Dequantize"]
    values = evaluate_tensors(graph, {graph.inputs[0].tensor: x["x"][0].transpose(1, 2, 0).copy()})
    got = values[graph.outputs[0].tensor].reshape(6, 6, 4).transpose(2, 0, 1)
    (want,) = Oracle(path, ["y"]).run(x)
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got, want[0], atol=2.1e-4)  # a step
    assert (got != want[0]).mean() < 0.02


def test_a_bias_beyond_int32_means_what_it_says(tmp_path):
    bias = np.array([2**33, -(2**34), 5, 2**31], np.int64)
    path, x = a16w8(tmp_path, bias)
    (got,), (want,) = evaluate(import_model(path), x).values(), Oracle(path, ["y"]).run(x)
    np.testing.assert_allclose(got, want, atol=2.1e-4)
    source = with_outputs(path, ["y"]).model
    assert isinstance(source, bytes)
    given = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(source).graph.initializer}
    np.testing.assert_array_equal(given["bf"], bias.astype(np.float32) * given["bs"])


@pytest.mark.parametrize("opset", [13, 21])
def test_dequantize_with_the_scale_of_a_dynamic_range(tmp_path, opset):
    x = {"x": RNG.normal(size=(3, 8)).astype(np.float32)}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = model_of(nodes, x, ["y"], {}, opset=opset)
    (want,) = onnx_runtime(model, x).values()
    (got,) = evaluate(import_model(save(model, tmp_path)), x).values()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("operation", "zeros", "to", "told"),
    [
        ("QuantizeLinear", 3, TensorProto.INT8, "1 scale and 3 zero points"),
        ("DequantizeLinear", 3, TensorProto.INT8, "1 scale and 3 zero points"),
        ("DequantizeLinear", 1, TensorProto.INT16, "the zero point is i16, and the integers are i8"),
    ],
)
def test_a_zero_point_that_is_computed_fits_its_integers(tmp_path, operation, zeros, to, told):
    x = {
        "x": np.zeros((2, 3), np.float32 if operation == "QuantizeLinear" else np.int8),
        "z": np.zeros(zeros, np.int8),
        "s": np.ones((), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["z"], ["zero"], to=to),
        helper.make_node(operation, ["x", "s", "zero"], ["y"]),
    ]
    model = model_of(nodes, x, ["y"], {}, opset=21, ir=10)
    with pytest.raises(CompileError, match=told):
        import_model(save(model, tmp_path))
