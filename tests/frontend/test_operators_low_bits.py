# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits, against ONNX Runtime where it has the operator; they stay small in flash."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.errors import CompileError
from mmcc.frontend.importer import import_model
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ops.dense_blocked import DenseBlocked
from mmcc.passes import optimize
from mmcc.verification.oracle import Oracle
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


def in_any_order(groups: np.ndarray, **more: np.ndarray) -> tuple[list, dict[str, np.ndarray]]:
    """A MatMulNBits of 40 inputs, of which each says its block of scales, as GPTQ's activation order does."""
    constants = {
        "w": RNG.integers(0, 256, (9, 3, 8), np.uint8),
        "s": RNG.uniform(-0.1, 0.1, 27).astype(np.float32),
        "g": groups.astype(np.int32),
        **more,
    }
    names = ["x", "w", "s", "z" if "z" in more else "", "g"]
    attributes = {"K": 40, "N": 9, "bits": 4, "block_size": 16}
    return [helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **attributes)], constants


@pytest.mark.parametrize("even", [True, False])
def test_blocks_of_inputs_in_any_order(tmp_path, even: bool) -> None:
    """Whole blocks stay packed, behind a Gather of the inputs; others become float32."""
    groups = RNG.permutation(np.arange(40) // 16) if even else RNG.integers(0, 3, 40)
    path = tmp_path / "model.onnx"
    graph = write(path, *in_any_order(groups), "com.microsoft")
    assert any(isinstance(node.op, DenseBlocked) for node in graph.nodes) == even
    (want,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    np.testing.assert_allclose(evaluate(graph), want, rtol=1e-4, atol=1e-4)


def test_blocks_in_any_order_of_which_onnx_runtime_gives_something_else(tmp_path) -> None:
    node, constants = in_any_order(np.arange(40) % 3, z=RNG.integers(0, 256, 18, np.uint8))
    with pytest.raises(CompileError, match="packed zero points"):
        write(tmp_path / "model.onnx", node, constants, "com.microsoft")
    node, constants = in_any_order(np.arange(40) % 4)
    with pytest.raises(CompileError, match="blocks 0 to 3, of 3"):
        write(tmp_path / "model.onnx", node, constants, "com.microsoft")


def test_the_oracle_does_not_round_inputs_beside_few_bits(tmp_path) -> None:
    """accuracy_level lets ONNX Runtime round them to 8 bits, which the C does not."""
    node, constants = in_any_order(np.arange(40) // 16)
    node[0].attribute.append(helper.make_attribute("accuracy_level", 4))
    path = tmp_path / "model.onnx"
    graph = write(path, node, constants, "com.microsoft")
    (want,) = Oracle(path, ["y"]).run({"x": X})
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
