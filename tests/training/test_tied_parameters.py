# SPDX-License-Identifier: Apache-2.0
"""Parameters that several nodes or steps of a loop read are one, and learn as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from onnx import helper, numpy_helper
from trained_graphs import check_gradients, drawn, graph_of, layer_norm

node = helper.make_node


@pytest.mark.quick
@pytest.mark.parametrize("axes", [(4,), (1, 4)], ids=["as kernels read them", "of two axes"])
def test_normalizations_that_share_their_parameters_learn_as_one(
    axes: tuple[int, ...], tmp_path: Path
) -> None:
    """As the layers of ALBERT do."""
    nodes, constants = [], {"epsilon": np.float32(1e-5), "w": drawn(4, 4)}
    constants |= {"scale": np.ones(axes, np.float32), "bias": np.zeros(axes, np.float32)}
    for x, n, p, y in (("x", "n", "p", "h"), ("h", "m", "q", "y")):
        nodes += [*layer_norm(x, n), node("Mul", [n, "scale"], [f"{n}_scaled"])]
        nodes += [node("Add", [f"{n}_scaled", "bias"], [p]), node("MatMul", [p, "w"], [y])]
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants, opset=13)
    assert [graph.constants[name].size for name in check_gradients(graph)] == [4, 4, 16]


@pytest.mark.quick
def test_zeros_of_a_module_that_is_called_no_bias_are_trained(tmp_path: Path) -> None:
    constants = {"w": drawn(4, 4), "head.no_bias.bias": np.zeros(4, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "head.no_bias.bias"], ["y"])]
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants)
    assert check_gradients(graph) == tuple(constants)


@pytest.mark.quick
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_weights_that_a_loop_hands_on_are_those_of_the_model(training: bool, tmp_path: Path) -> None:
    told = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node("MatMul", ["h", "r"], ["p"]),
            node("Tanh", ["p"], ["next"]),
            node("Identity", ["r"], ["same"]),
            node("Identity", ["go"], ["on"]),
        ],
        "body",
        [told("k", 7, []), told("go", 9, []), told("h", 1, [1, 4]), told("r", 1, [4, 4])],
        [told("on", 9, []), told("next", 1, [1, 4]), told("same", 1, [4, 4])],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Loop", ["steps", "", "a", "w"], ["y", "last"], body=body),
    ]
    constants = {"w": drawn(4, 4), "steps": np.int64(3)}
    given = {"x": np.zeros((1, 4), np.float32)}
    model = save(model_of(nodes, given, ["y"], constants), tmp_path)
    graph = load_graph(model, CompileOptions(), training=training)
    assert [name for name, array in graph.constants.items() if array.ndim == 2] == ["w"]
    if training:
        assert check_gradients(graph) == ("w",)


def looping(op: str) -> tuple[list, dict]:
    """A loop of three steps whose body has the weights, or which hands on a list that begins with zeros."""
    told, listed = helper.make_tensor_value_info, helper.make_tensor_sequence_value_info
    go, on = told("go", 9, []), told("on", 9, [])
    if op == "body":
        nodes = [node("MatMul", ["h", "own"], ["p"]), node("Tanh", ["p"], ["next"])]
        ins, outs = [told("h", 1, [1, 4])], [told("next", 1, [1, 4])]
        own = [numpy_helper.from_array(drawn(4, 4), "own")]
    else:
        nodes = [node("SequenceAt", ["l", "zero"], ["h"]), node("Add", ["h", "row"], ["next"])]
        nodes.append(node("SequenceInsert", ["l", "next", "zero"], ["longer"]))
        ins, outs, own = [listed("l", 1, [1, 4])], [listed("longer", 1, [1, 4])], []
    body = helper.make_graph(
        [*nodes, node("Identity", ["go"], ["on"])], "body", [told("k", 7, []), go, *ins], [on, *outs], own
    )
    constants = {"w": drawn(4, 4), "steps": np.int64(3)}
    row = node("MatMul", ["x", "w"], ["row"])
    if op == "body":
        return [row, node("Loop", ["steps", "", "row"], ["y"], body=body)], constants
    nodes = [row, node("SequenceConstruct", ["begin"], ["l0"])]
    nodes.append(node("Loop", ["steps", "", "l0"], ["all"], body=body))
    constants |= {"begin": np.zeros((1, 4), np.float32), "zero": np.int64(0)}
    return [*nodes, node("SequenceAt", ["all", "zero"], ["y"])], constants


@pytest.mark.quick
@pytest.mark.parametrize(("op", "learned"), [("body", ("w", "own")), ("list", ("w",))])
def test_steps_of_a_loop_learn_as_one(op: str, learned: tuple[str, ...], tmp_path: Path) -> None:
    nodes, constants = looping(op)
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((1, 4), np.float32)}, constants)
    assert check_gradients(graph) == learned


@pytest.mark.quick
def test_constants_of_the_body_of_a_loop_are_there_once(tmp_path: Path) -> None:
    nodes, constants = looping("body")
    model = save(model_of(nodes, {"x": np.zeros((1, 4), np.float32)}, ["y"], constants), tmp_path)
    graph = load_graph(model, CompileOptions())
    assert [name for name, array in graph.constants.items() if array.ndim == 2] == ["w", "own"]
