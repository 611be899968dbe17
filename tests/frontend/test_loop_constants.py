# SPDX-License-Identifier: Apache-2.0
"""What is known of a loop's values before its first step: counts, and constants that steps hand on."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, kinds, model_of, save
from loop_models import counting, loops_of, one_loop
from mmcc.frontend import import_model
from mmcc.ops.repeat import Taken
from mmcc.passes import optimize
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick

node = helper.make_node


def test_a_count_that_is_carried_is_known(tmp_path):
    """So what it takes is a slice of a step, and its last value a constant."""
    graph = check(*counting(40), tmp_path)
    (op,) = loops_of(graph)
    assert (op.steps, op.carried, op.scanned, op.kept) == (40, 1, (Taken(),), (0,))
    assert "TakeLines" not in kinds(graph)


def test_a_count_by_twos_takes_every_other_row(tmp_path):
    model, inputs = counting(40, count="two")
    inputs["x"] = np.repeat(inputs["x"], 2, axis=0)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 80
    graph = check(model, inputs, tmp_path)
    (op,) = loops_of(graph)
    assert (op.steps, op.scanned) == (40, (Taken(stride=2),))


@pytest.mark.parametrize("nodes", [1, 20])
def test_a_loop_whose_steps_read_nothing_is_a_constant(nodes, tmp_path):
    """Its rows are of constants in the body, and what it takes of its input nobody reads."""
    inside = [node("Tanh", [f"r{k}"], [f"r{k + 1}"]) for k in range(nodes)]
    made = helper.make_tensor_value_info(f"r{nodes}", TensorProto.FLOAT, [2])
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, [2])
    body = helper.make_graph(
        inside, "body", [row], [made], [numpy_helper.from_array(np.array([1, -2], np.float32), "r0")]
    )
    whole = [
        node("Scan", ["x"], ["all"], body=body, num_scan_inputs=1),
        node("Add", ["all", "x"], ["y"]),
    ]
    inputs = {"x": np.ones((20, 2), np.float32)}
    graph = check(model_of(whole, inputs, ["y"], {}), inputs, tmp_path)
    assert kinds(graph) == ["Binary"]
    import_model(save(model_of(whole, inputs, ["y"], {}), tmp_path), stream="x:0")


def test_constants_that_steps_hand_on_as_they_are_stay_constants(tmp_path):
    """As TensorFlow loops have their weights: else they would be in RAM twice, and make no layers."""
    rng = np.random.default_rng(2)
    weights = {"W": rng.uniform(-1, 1, (4, 4)).astype(np.float32), "h0": np.zeros((1, 4), np.float32)}
    inside = [
        node("MatMul", ["f8", "V"], ["p"]),
        node("Add", ["p", "outside"], ["h_out"]),
        node("Identity", ["V"], ["copy"]),
        node("Identity", ["copy"], ["V_out"]),
    ]
    carried = [("h0", "h", "h_out", TensorProto.FLOAT), ("W", "V", "V_out", TensorProto.FLOAT)]
    inputs = {"outside": np.ones((1, 4), np.float32)}
    graph = check(one_loop(inside, carried, [], ["last_h", "last_V"], inputs, weights), inputs, tmp_path)
    (op,) = loops_of(graph)
    assert op.carried == 1
    assert "Dense" in kinds(op.body)


@pytest.mark.parametrize("size", [3, 8])
def test_quantized_constants_that_steps_hand_on_stay_integers(size, tmp_path):
    """Also few of them, which might pass for counts."""
    rng = np.random.default_rng(3)
    constants = {
        "W": rng.integers(-100, 100, (size, size)).astype(np.int8),
        "h0": np.zeros((1, size), np.float32),
    }
    constants |= {"of_w": np.float32(0.01), "of_h": np.float32(1 / 64), "zero": np.int8(0)}
    inside = [
        node("Add", ["f8", "outside"], ["s"]),
        *(
            node("QuantizeLinear", ["s", "of_h", "zero"], ["s_q"]),
            node("DequantizeLinear", ["s_q", "of_h", "zero"], ["s_"]),
        ),
        node("MatMul", ["s_", "V"], ["p"]),
        *(
            node("QuantizeLinear", ["p", "of_h", "zero"], ["p_q"]),
            node("DequantizeLinear", ["p_q", "of_h", "zero"], ["h_out"]),
        ),
        node("Identity", ["V"], ["V_out"]),
    ]
    carried = [("h0", "h", "h_out", TensorProto.FLOAT), ("V0", "V", "V_out", TensorProto.FLOAT)]
    inputs = {"outside": np.ones((1, size), np.float32)}
    model = one_loop(inside, carried, [], ["last_h"], inputs, constants)
    model.graph.node.insert(0, node("DequantizeLinear", ["W", "of_w", "zero"], ["V0"]))
    (op,) = loops_of(optimize(import_model(save(model, tmp_path)), float_io=True))
    assert "DenseInt8" in kinds(op.body)


def test_a_count_of_one_element_in_a_vector_is_no_slice_of_a_step(tmp_path):
    """What it takes has the axis that a slice leaves out."""
    rng = np.random.default_rng(0)
    inputs = {name: rng.uniform(-1, 1, s).astype(np.float32) for name, s in (("x", (40, 4)), ("h0", (1, 4)))}
    inside = [
        node("Gather", ["x", "k"], ["xt"], axis=0),
        node("Add", ["k", "one"], ["k_out"]),
        node("Sub", ["f8", "xt"], ["h_out"]),
    ]
    carried = [("k0", "k", "k_out", TensorProto.INT64), ("h0", "h", "h_out", TensorProto.FLOAT)]
    constants = {"k0": np.zeros(1, np.int64), "one": np.int64(1)}
    graph = check(
        one_loop(inside, carried, ["xt"], ["last_h", "all_xt"], inputs, constants), inputs, tmp_path
    )
    assert [op.carried for op in loops_of(graph)] == [1]
