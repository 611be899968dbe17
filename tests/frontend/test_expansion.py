# SPDX-License-Identifier: Apache-2.0
"""Operators without a converter: written out by ONNX's own functions, or computed from constants."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from operator_models import array, ints, run

pytestmark = pytest.mark.quick

X = array(2, 3, 4)


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes"),
    [
        ("LayerNormalization", 17, [X, array(4), array(4, seed=2)], {"epsilon": 1e-3}),
        ("LayerNormalization", 17, [X, array(3, 4)], {"axis": 1}),
        ("MeanVarianceNormalization", 13, [array(1, 3, 4, 5)], {"axes": [0, 2, 3]}),
        ("GroupNormalization", 21, [array(1, 4, 3, 3), array(4), array(4, seed=1)], {"num_groups": 2}),
    ],
)
def test_functions_of_onnx(tmp_path, op, opset, inputs, attributes):
    run(tmp_path, op, inputs, opset=opset, **attributes)


def test_a_function_for_each_node_of_its_operands_and_attributes(tmp_path):
    nodes = [
        helper.make_node("LayerNormalization", ["x", "s"], ["a"], axis=-1),
        helper.make_node("LayerNormalization", ["a", "t"], ["b"], axis=1, epsilon=0.5),
        helper.make_node("LayerNormalization", ["b", "s"], ["c"], axis=-1),
    ]
    model = model_of(nodes, {"x": X}, ["c"], {"s": array(4), "t": array(3, 4)})
    check(model, {"x": X}, tmp_path)


@pytest.mark.parametrize(
    ("op", "opset", "constants", "attributes"),
    [
        ("HannWindow", 17, [np.array(10, np.int64)], {"periodic": 0}),
        ("MelWeightMatrix", 17, [*map(np.array, (8, 16, 8192)), *map(np.float32, (0.0, 4096.0))], {}),
        ("ScatterND", 16, [array(4, 2), ints(2, 0).reshape(2, 1), array(2, 2, seed=1)], {}),
        ("CumSum", 14, [array(4, 2), np.array(1)], {"exclusive": 1}),
        ("NonZero", 13, [np.array([[0, 3], [1, 0]])], {}),
    ],
)
def test_what_reads_only_constants_is_a_constant(tmp_path, op, opset, constants, attributes):
    names = [f"c{k}" for k in range(len(constants))]
    nodes = [
        helper.make_node(op, names, ["made"], **attributes),
        helper.make_node("Cast", ["made"], ["floats"], to=1),
        helper.make_node("Mul", ["x", "floats"], ["y"]),
    ]
    x = np.ones(1, np.float32)
    model = model_of(nodes, {"x": x}, ["y"], dict(zip(names, constants, strict=True)), opset)
    graph = check(model, {"x": x}, tmp_path)
    assert [node.where[0].op for node in graph.nodes] == ["Mul"]


def refused(tmp_path, nodes, inputs, constants, opset=17) -> CompileError:
    model = model_of(nodes, inputs, [nodes[-1].output[0]], constants, opset)
    with pytest.raises(CompileError) as raised:
        import_model(save(model, tmp_path))
    return raised.value


def test_random_numbers_are_no_constants(tmp_path):
    nodes = [
        helper.make_node("RandomNormalLike", ["c"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    assert "RandomNormalLike" in refused(tmp_path, nodes, {"x": X}, {"c": X}).message


def test_computing_constants_has_limits(tmp_path):
    """A window of a billion elements; neither memory nor time are taken for it."""
    nodes = [
        helper.make_node("HannWindow", ["n"], ["w"]),
        helper.make_node("ReduceSum", ["w"], ["s"]),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    refused(tmp_path, nodes, {"x": X}, {"n": np.array(2**30)})


def test_what_is_wrong_in_a_function_names_the_operator(tmp_path):
    nodes = [helper.make_node("LayerNormalization", ["x", "s"], ["y"], axis=7)]
    error = refused(tmp_path, nodes, {"x": X}, {"s": array(4)})
    assert "LayerNormalization" in str(error)


def test_a_function_runs_as_its_operator_says(tmp_path):
    """Operators newer than the ONNX Runtime of the tests: against the formula."""
    x, scale = array(2, 8), array(8, seed=3)
    node = helper.make_node("RMSNormalization", ["x", "s"], ["y"], epsilon=0.25)
    graph = import_model(save(model_of([node], {"x": x}, ["y"], {"s": scale}, 23, ir=11), tmp_path))
    y = evaluate(graph, {"x": x})["y"]
    want = x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.25) * scale
    np.testing.assert_allclose(y, want, rtol=1e-5)
