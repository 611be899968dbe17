# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits, against ONNX Runtime where it has the operator; they stay small in flash."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.frontend.importer import import_model
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ops.dense_blocked import DenseBlocked
from mmcc.passes import optimize
from onnx import TensorProto, helper, numpy_helper, save

ort = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(11)
X = RNG.normal(size=(3, 40)).astype(np.float32)


def write(path, nodes, constants, domain):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, 9))]
    given = [numpy_helper.from_array(data, name) for name, data in constants.items()]
    graph = helper.make_graph(nodes, "low", inputs, outputs, given)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return optimize(import_model(path))


def evaluate(graph) -> np.ndarray:
    values = evaluate_tensors(graph, {graph.inputs[0].tensor: X})
    return values[graph.outputs[0].tensor].reshape(3, 9)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_mat_mul_n_bits(tmp_path, bits: int, zeros: bool, biased: bool) -> None:
    constants = {
        "w": RNG.integers(0, 256, (9, 3, 16 * bits // 8), np.uint8),
        "s": RNG.uniform(-0.1, 0.1, 27).astype(np.float32),
    }
    if zeros:
        constants["z"] = RNG.integers(0, 256, 9 * -(-3 * bits // 8), np.uint8)
    if biased:
        constants["b"] = RNG.normal(size=9).astype(np.float32)
    names = ["x", "w", "s", "z" if zeros else "", "", "b" if biased else ""]
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft", K=40, N=9, bits=bits, block_size=16
    )
    path = tmp_path / "model.onnx"
    graph = write(path, [node], constants, "com.microsoft")
    assert [type(n.op) for n in graph.nodes] == [DenseBlocked]
    assert sum(a.nbytes for a in graph.constants.values()) <= 9 * (40 * bits // 8 + (2 * 3 + 1) * 4)
    (want,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    np.testing.assert_allclose(evaluate(graph), want, rtol=1e-4, atol=1e-4)


def test_negative_scales_in_blocks(tmp_path) -> None:
    """ONNX Runtime's symmetric quantizer writes them, so that the value furthest from 0 is the least."""
    values = RNG.integers(-8, 8, (40, 9))
    w = helper.make_tensor("w", TensorProto.INT4, (40, 9), values.reshape(-1).tolist())
    scale = -RNG.uniform(0.01, 0.1, (5, 9)).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=8),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, 9))]
    graph = helper.make_graph(nodes, "low", inputs, outputs, [w, numpy_helper.from_array(scale, "s")])
    opset = [helper.make_opsetid("", 21)]
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    done = optimize(import_model(path))
    assert [type(n.op) for n in done.nodes] == [DenseBlocked]
    want = X @ (values * scale.repeat(8, 0))
    np.testing.assert_allclose(evaluate(done), want, rtol=1e-4, atol=1e-4)
