# SPDX-License-Identifier: Apache-2.0
"""What of a model is a parameter: all that it learns by, once each, and nothing that it does not have."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.training.parameters import chosen, parameters
from onnx import helper
from trained_graphs import check_gradients, drawn, graph_of, layer_norm

node = helper.make_node

VOLUME = {"x": np.zeros((1, 2, 4, 5, 6), np.float32)}


def padded(groups: int, features: int) -> tuple[list, dict]:
    conv = node("Conv", ["x", "w", "b"], ["y"], pads=[2, 1, 1, 1, 0, 1], dilations=[2, 1, 1], group=groups)
    return [conv], {"w": drawn(4, features // groups, 3, 3, 3), "b": drawn(4)}


def transposed() -> tuple[list, dict]:
    conv = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2, 1], pads=[1, 0, 0, 1, 0, 0])
    return [conv], {"w": drawn(2, 3, 3, 2, 2)}


@pytest.mark.quick
@pytest.mark.parametrize(
    "case", [padded(1, 2), padded(2, 2), transposed()], ids=["conv", "groups", "transposed"]
)
def test_all_layers_of_a_volume_learn_the_same_weights(case: tuple[list, dict], tmp_path: Path) -> None:
    """Layers at the border, and those between, read pieces of the weights that do not overlap: else each
    piece would learn on its own."""
    graph = graph_of(tmp_path, case[0], VOLUME, case[1])
    names = check_gradients(graph)
    learned = sum(graph.constants[name].size for name in names)
    assert learned == sum(array.size for array in case[1].values())


@pytest.mark.quick
def test_layers_of_a_volume_are_normalized_by_the_same_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 6),
        node("BatchNormalization", ["c", "scale", "zero", "zero", "variance"], ["n"]),
        node("Add", ["n", "more"], ["a"]),
        node("Relu", ["a"], ["y"]),
    ]
    constants = {"w": drawn(4, 2, 3, 3, 3), "scale": drawn(4), "zero": np.zeros(4, np.float32)}
    constants |= {"variance": 1 + drawn(4) ** 2, "more": np.zeros((1, 4, 1, 1, 1), np.float32)}
    graph = graph_of(tmp_path, nodes, VOLUME, constants)
    assert sum(graph.constants[name].size for name in check_gradients(graph)) == constants["w"].size + 4


def test_a_package_of_a_volume_learns_what_the_references_do(tmp_path: Path) -> None:
    nodes, constants = padded(1, 2)
    model = save(model_of(nodes, VOLUME, ["y"], constants), tmp_path)
    made = mmcc.compile_training(model, tmp_path / "net", {"loss": "mse"}, name="net")  # checks itself
    assert made.module.parameters == ("w", "b")


@pytest.mark.quick
def test_a_bias_that_a_scaled_layer_does_not_have_is_none(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Mul", ["p", "half"], ["y"])]
    constants = {"w": drawn(4, 5), "half": np.float32(0.5)}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants)
    assert [p.name for p in parameters(graph)] == ["w_folded"]


@pytest.mark.quick
def test_what_places_and_angles_are_computed_by_is_no_parameter(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("GridSample", ["c", "grid"], ["s"]),
        node("DeformConv", ["s", "v", "far"], ["d"], kernel_shape=[2, 2]),
        node("RotaryEmbedding", ["d", "cos", "sin", "positions"], ["y"]),
    ]
    constants = {"w": drawn(4, 2, 3, 3), "v": drawn(3, 4, 2, 2), "far": 0.3 * drawn(1, 8, 3, 4)}
    constants |= {"grid": np.clip(drawn(1, 4, 5, 2), -0.9, 0.9), "positions": np.arange(3)[None]}
    angles = np.arange(6, dtype=np.float32).reshape(3, 2)
    constants |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((1, 2, 6, 6), np.float32)}, constants, opset=23)
    read = {name for each in graph.nodes for name in each.inputs if graph.is_constant(name)}
    names = [p.name for p in parameters(graph)]
    assert len(names) == 2, (names, read)
    assert {graph.constants[name].size for name in names} == {constants["w"].size, constants["v"].size}


@pytest.mark.quick
def test_embeddings_and_stacks_of_matrices_are_trained(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "tokens"], ["g"]),
        node("Tanh", ["g"], ["t"]),
        node("MatMul", ["t", "stack"], ["y"]),
    ]
    constants = {"table": drawn(7, 4), "stack": drawn(2, 4, 5)}
    graph = graph_of(tmp_path, nodes, {"tokens": np.zeros((2, 3), np.int64)}, constants)
    assert check_gradients(graph) == ("table", "stack")


@pytest.mark.quick
def test_one_of_several_results_gets_the_gradients_of_all_its_readers(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("TopK", ["a", "three"], ["largest", "where"], axis=1),
        node("Tanh", ["a"], ["t"]),
        node("Concat", ["largest", "t"], ["y"], axis=1),
    ]
    constants = {"w": drawn(4, 6), "three": np.array([3])}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants)
    assert check_gradients(graph) == ("w",)


@pytest.mark.quick
@pytest.mark.parametrize("way", ["forward", "bidirectional"])
def test_a_recurrent_layer_is_one_layer(way: str, tmp_path: Path) -> None:
    """Of `last:K`: weights of the input, of h, and of both directions."""
    ways = 2 if way == "bidirectional" else 1
    nodes = [
        node("MatMul", ["x", "before"], ["a"]),
        node("LSTM", ["a", "w", "r", "b"], ["h"], hidden_size=3, direction=way),
        node("Relu", ["h"], ["y"]),
    ]
    constants = {
        "before": drawn(4, 5),
        "w": drawn(ways, 12, 5),
        "r": drawn(ways, 12, 3),
        "b": drawn(ways, 24),
    }
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((6, 1, 4), np.float32)}, constants)
    names = [p.name for p in parameters(graph)]
    assert list(chosen(graph, "last:1")) == names[1:]
    assert list(chosen(graph, "last:2")) == names


@pytest.mark.quick
@pytest.mark.parametrize("known", [False, True], ids=["read by position", "multiplied by"])
def test_tables_of_angles_are_no_parameters(known: bool, tmp_path: Path) -> None:
    """Rotary embedding as exporters write it: cosines and sines by position, or those of all positions. A
    scale and a shift that are one number everywhere are parameters, also if their squares add up to 1."""
    angles = np.arange(3, dtype=np.float32)[:, None] * np.array([1, 0.1, 1, 0.1], np.float32)
    constants = {
        "w": drawn(4, 4),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
        "order": np.array([2, 3, 0, 1]),
    }
    constants |= {"scale": np.full((3, 4), 0.6, np.float32), "shift": np.full((3, 4), 0.8, np.float32)}
    given = {"x": np.zeros((3, 4), np.float32)}
    looked_up = [node("Gather", [table, "at"], [f"{table}_at"]) for table in ("cos", "sin")]
    names = ["cos", "sin"] if known else ["cos_at", "sin_at"]
    nodes = [
        *([] if known else looked_up),
        node("MatMul", ["x", "w"], ["q"]),
        node("Gather", ["q", "order"], ["turned"], axis=1),
        node("Mul", ["q", names[0]], ["one"]),
        node("Mul", ["turned", names[1]], ["other"]),
        node("Add", ["one", "other"], ["sum"]),
        node("Mul", ["sum", "scale"], ["scaled"]),
        node("Tanh", ["scaled"], ["t"]),
        node("Add", ["t", "shift"], ["y"]),
    ]
    graph = graph_of(tmp_path, nodes, given if known else given | {"at": np.zeros(3, np.int64)}, constants)
    assert [p.name for p in parameters(graph)] == ["w", "scale", "shift"]


@pytest.mark.quick
@pytest.mark.parametrize(
    "weights",
    [
        [np.eye(2), np.eye(2)[::-1]],
        [np.sqrt(0.5) * np.array([[1, 1], [1, -1]])],
    ],
    ids=["identity and exchange", "sum and difference"],
)
def test_weights_whose_squares_add_up_to_1_are_trained(weights: list[np.ndarray], tmp_path: Path) -> None:
    constants = {f"w{k}": np.ascontiguousarray(w, np.float32) for k, w in enumerate(weights)}
    values = ["x", "h", "y"] if len(weights) > 1 else ["x", "y"]
    nodes = [node("MatMul", [values[k], f"w{k}"], [values[k + 1]]) for k in range(len(weights))]
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 2), np.float32)}, constants)
    assert check_gradients(graph) == tuple(constants)


@pytest.mark.quick
def test_a_scale_about_1_and_a_shift_about_0_are_no_angles(tmp_path: Path) -> None:
    constants = {"scale": 1 + 0.002 * drawn(3, 4), "shift": 0.05 * drawn(3, 4)}
    nodes = [
        node("Tanh", ["x"], ["t"]),
        node("Mul", ["t", "scale"], ["s"]),
        node("Add", ["s", "shift"], ["y"]),
    ]
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants)
    assert [p.name for p in parameters(graph)] == ["scale", "shift"]


STEPS = np.zeros((6, 1, 4), np.float32)
ABSENT = {
    "lstm": (
        [node("LSTM", ["x", "w", "r"], ["h"], hidden_size=3), node("Relu", ["h"], ["y"])],
        STEPS,
        {"w": drawn(1, 12, 4), "r": drawn(1, 12, 3)},
    ),
    "gru": (
        [
            node("GRU", ["x", "w", "r"], ["h"], hidden_size=3, linear_before_reset=1),
            node("Relu", ["h"], ["y"]),
        ],
        STEPS,
        {"w": drawn(1, 9, 4), "r": drawn(1, 9, 3)},
    ),
    "layer norm": (
        [*layer_norm("x", "n"), node("MatMul", ["n", "w"], ["y"])],
        np.zeros((3, 4), np.float32),
        {"epsilon": np.float32(1e-5), "w": drawn(4, 2)},
    ),
    "layers that no tap reaches": (
        [node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 1, 1])],
        VOLUME["x"],
        {"w": drawn(2, 3, 1, 2, 2), "b": drawn(3)},
    ),
    "layers that no layer reaches": (
        [node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 1, 1], output_padding=[1, 0, 0])],
        VOLUME["x"],
        {"w": drawn(2, 3, 3, 2, 2), "b": drawn(3)},
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("case", ABSENT.values(), ids=ABSENT)
def test_what_an_operator_does_not_have_is_no_parameter(case: tuple, tmp_path: Path) -> None:
    nodes, x, constants = case
    graph = graph_of(tmp_path, nodes, {"x": x}, constants, opset=13)
    learned = sum(graph.constants[name].size for name in check_gradients(graph))
    assert learned == sum(array.size for array in constants.values() if array.size > 1)


@pytest.mark.quick
def test_integer_layers_of_a_volume_stay_integers(tmp_path: Path) -> None:
    """Also where a step of training is made of what follows them."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["stored", "s"], ["w"]),
        node("Conv", ["d", "w"], ["c"], pads=[1] * 6),
        node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        node("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        node("Conv", ["cd", "v"], ["y"]),
    ]
    constants = {"s": np.float32(0.05), "z": np.int8(3), "v": drawn(3, 4, 4, 1, 1)}
    constants["stored"] = np.random.default_rng(3).integers(-100, 100, (4, 2, 3, 3, 3)).astype(np.int8)
    graph = graph_of(tmp_path, nodes, VOLUME, constants)
    assert [p.name for p in parameters(graph)] == ["v"]


@pytest.mark.quick
def test_padding_in_front_of_what_is_added_to_is_no_parameter(tmp_path: Path) -> None:
    nodes = [
        node("Concat", ["padding", "x"], ["all"], axis=0),
        node("Add", ["all", "shift"], ["y"]),
    ]
    constants = {"padding": np.full((2, 4), 0.5, np.float32), "shift": drawn(5, 4)}
    graph = graph_of(tmp_path, nodes, {"x": np.zeros((3, 4), np.float32)}, constants)
    assert [p.name for p in parameters(graph)] == ["shift"]
