# SPDX-License-Identifier: Apache-2.0
"""Parameters as nobody trained them yet, zeros, ones and equal ones, learn, each as the model has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.frontend import import_model
from mmcc.ir.parse import parse_graph
from mmcc.ops import OPS
from onnx import helper
from trained_graphs import check_gradients, drawn, graph_of, layer_norm

node = helper.make_node


@pytest.mark.quick
@pytest.mark.parametrize("begin", [(1.0, 0.0), (0.5, 0.1)], ids=["ones and zeros", "others"])
def test_normalizations_that_begin_alike_learn_apart(begin: tuple[float, float], tmp_path: Path) -> None:
    nodes, constants = [], {"epsilon": np.float32(1e-5), "w": drawn(4, 4), "v": drawn(4, 4)}
    for x, n, p, weights, y in (("x", "n", "p", "w", "h"), ("h", "m", "q", "v", "y")):
        nodes += [*layer_norm(x, n), node("Mul", [n, f"{n}_scale"], [f"{n}_scaled"])]
        nodes += [node("Add", [f"{n}_scaled", f"{n}_bias"], [p]), node("MatMul", [p, weights], [y])]
        constants |= {f"{n}_scale": np.full(4, begin[0], np.float32)}
        constants |= {f"{n}_bias": np.full(4, begin[1], np.float32)}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants, opset=13)
    assert check_gradients(graph) == ("n_scale", "n_bias", "w", "m_scale", "m_bias", "v")


@pytest.mark.quick
def test_folded_normalizations_that_begin_alike_learn_apart(tmp_path: Path) -> None:
    nodes, constants = [], {"w": drawn(4, 4, 1, 1), "v": drawn(4, 4, 1, 1), "n": np.zeros(4, np.float32)}
    constants |= {name: np.ones(4, np.float32) for name in ("scale", "variance")}
    for x, weights, y in (("x", "w", "h"), ("h", "v", "y")):
        nodes.append(node("Conv", [x, weights], [f"{y}_conv"]))
        nodes.append(node("BatchNormalization", [f"{y}_conv", "scale", "n", "n", "variance"], [y]))
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((1, 4, 3, 3), np.float32)}, constants)
    assert check_gradients(graph) == ("w_folded", "h.offset", "v_folded", "y.offset")


ZERO, ONE = np.zeros(4, np.float32), np.ones(4, np.float32)
IMAGE = np.zeros((1, 4, 3, 3), np.float32)
FRESH = {
    "a dense layer's bias": (
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "zero"], ["y"])],
        np.zeros((3, 4), np.float32),
        {"w": drawn(4, 4), "zero": ZERO},
        (16, 4),
    ),
    "the same, of two axes": (
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["zero", "p"], ["y"])],
        np.zeros((3, 4), np.float32),
        {"w": drawn(4, 4), "zero": ZERO[None]},
        (16, 4),
    ),
    "a layer's scale goes into its weights": (
        [node("MatMul", ["x", "w"], ["p"]), node("Mul", ["p", "one"], ["y"])],
        np.zeros((3, 4), np.float32),
        {"w": drawn(4, 4), "one": ONE},
        (16,),
    ),
    "scale and shift of channels": (
        [
            node("Tanh", ["x"], ["t"]),
            node("Mul", ["t", "one"], ["s"]),
            node("Add", ["s", "zero"], ["c"]),
            node("Conv", ["c", "w"], ["y"]),
        ],
        IMAGE,
        {"w": drawn(4, 4, 1, 1), "zero": ZERO.reshape(4, 1, 1), "one": ONE.reshape(4, 1, 1)},
        (4, 4, 16),
    ),
    "groups": (
        [
            node("GroupNormalization", ["x", "one", "zero"], ["g"], num_groups=2),
            node("Conv", ["g", "w"], ["y"]),
        ],
        IMAGE,
        {"w": drawn(4, 4, 1, 1), "zero": ZERO, "one": ONE},
        (4, 4, 16),
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("case", FRESH.values(), ids=FRESH)
def test_zeros_and_ones_of_the_model_are_trained(case: tuple, tmp_path: Path) -> None:
    """Layers that nobody trained yet begin so."""
    nodes, x, constants, sizes = case
    graph = graph_of(tmp_path, nodes, {"x": x}, constants, opset=21)
    assert tuple(graph.constants[name].size for name in check_gradients(graph)) == sizes


@pytest.mark.quick
def test_zeros_that_a_loop_begins_with_are_not_trained(tmp_path: Path) -> None:
    told = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node("MatMul", ["h", "r"], ["from_h"]),
            node("Add", ["from_h", "row"], ["s"]),
            node("Tanh", ["s"], ["next"]),
            node("Add", ["total", "next"], ["more"]),
        ],
        "body",
        [told("h", 1, [1, 3]), told("total", 1, [1, 3]), told("row", 1, [1, 3])],
        [told("next", 1, [1, 3]), told("more", 1, [1, 3])],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["products"]),
        node("Scan", ["zero", "zero", "products"], ["h", "y"], body=body, num_scan_inputs=1),
    ]
    constants = {"w": drawn(4, 3), "r": drawn(3, 3), "zero": np.zeros((1, 3), np.float32)}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 1, 4), np.float32)}, constants)
    assert check_gradients(graph) == ("w", "r")


def repeated() -> tuple[list, dict, dict]:
    nodes = [
        node("Mul", ["x", "scale"], ["s"]),
        node("Tanh", ["s"], ["t"]),
        node("MatMul", ["t", "w"], ["p"]),
        node("Add", ["p", "bias"], ["y"]),
    ]
    constants = {"scale": drawn(5), "w": drawn(5, 2), "bias": np.zeros(2, np.float32)}
    return nodes, {"x": np.zeros((2, 3, 4, 5), np.float32)}, constants


@pytest.mark.quick
def test_what_kernels_need_repeated_learns_as_one(tmp_path: Path) -> None:
    nodes, given, constants = repeated()
    graph = graph_of(tmp_path, nodes, given, constants)
    assert {name: graph.constants[name].size for name in check_gradients(graph)} == {
        "scale": 5,
        "w": 10,
        "bias": 2,
    }


def test_a_package_of_fresh_and_repeated_parameters_checks_itself(tmp_path: Path) -> None:
    nodes, given, constants = repeated()
    model = save(model_of(nodes, given, ["y"], constants), tmp_path)
    made = mmcc.compile_training(model, tmp_path / "net", {"loss": "mse"}, name="net")
    assert made.module.parameters == ("scale", "w", "bias")


@pytest.mark.quick
def test_what_may_be_learned_is_in_the_text_of_a_graph(tmp_path: Path) -> None:
    nodes, given, constants = repeated()
    graph = import_model(save(model_of(nodes, given, ["y"], constants), tmp_path), training=True)
    assert graph.learned == {"scale", "w", "bias"}
    for some in (graph.learned, frozenset[str](), None):  # a step that learns nothing is one, too
        assert parse_graph(str(replace(graph, learned=some)), OPS).learned == some
