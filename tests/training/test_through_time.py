# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers learn through time: whole models in float64, packages whose plans learn the same bits."""

from __future__ import annotations

from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from frontend_models import model_of, save
from learned import learned
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.training.module import training_module
from mmcc.training.options import TrainOptions
from onnx import helper
from recurrent_models import layer
from wide import check_step

MSE = TrainOptions(loss="mse")
FORMS = {
    "RNN_three": {"sequences": 3, "outputs": ("Y",)},
    "RNN_reverse": {"direction": "reverse", "initial": True, "outputs": ("Y_h",)},
    "GRU_plain": {"outputs": ("Y",)},
    "GRU_both": {"direction": "bidirectional", "linear_before_reset": 1, "outputs": ("Y",)},
    "GRU_three": {"sequences": 3, "initial": True, "clip": 0.4, "outputs": ("Y_h",)},
    "LSTM_plain": {"outputs": ("Y",)},
    "LSTM_both": {"direction": "bidirectional", "peepholes": True, "outputs": ("Y_c",)},
    "LSTM_three": {"sequences": 3, "initial": True, "input_forget": 1, "outputs": ("Y_h",)},
    "LSTM_one_step": {"steps": 1, "initial": True, "outputs": ("Y",)},
}


def graph_of(name: str, folder: Path) -> Graph:
    model, _ = layer(name.split("_")[0], **FORMS[name])
    onnx.save(model, folder / "m.onnx")
    return load_graph(folder / "m.onnx", CompileOptions())


def some(graph: Graph) -> dict[str, np.ndarray]:
    """A value for each input."""
    rng = np.random.default_rng(5)
    return {port.tensor: rng.standard_normal(graph.tensors[port.tensor].shape) for port in graph.inputs}


@pytest.mark.quick
@pytest.mark.parametrize("name", FORMS)
def test_a_step_goes_down_the_gradient_of_the_loss(name: str, tmp_path: Path) -> None:
    step = training_module(graph_of(name, tmp_path), MSE).entries[1].graph
    check_step(step, {key: x for key, x in some(step).items() if key != "rate"}, places=3)


def test_an_encoder_is_trained_through_what_its_decoder_begins_with(tmp_path: Path) -> None:
    """h and c after the last step of one layer are those before the first of another."""
    rng = np.random.default_rng(2)
    shapes = {"w1": (1, 12, 2), "r1": (1, 12, 3), "w2": (1, 12, 2), "r2": (1, 12, 3)}
    constants = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("LSTM", ["x", "w1", "r1"], ["", "h", "c"], hidden_size=3),
        helper.make_node("LSTM", ["x", "w2", "r2", "", "", "h", "c"], ["y"], hidden_size=3),
    ]
    model = model_of(nodes, {"x": np.zeros((4, 1, 2), np.float32)}, ["y"], constants)
    step = training_module(load_graph(save(model, tmp_path), CompileOptions()), MSE).entries[1].graph
    assert len(step.states) >= 4
    check_step(step, {key: x for key, x in some(step).items() if key != "rate"})


@pytest.mark.quick
@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
@pytest.mark.parametrize(
    ("output", "reason"), [("Y", "sequences end at steps"), ("Y_h", "not only its first result")]
)
def test_what_ends_at_steps_that_only_a_run_knows_is_refused(
    cell: str, output: str, reason: str, tmp_path: Path
) -> None:
    """Also where only h after the last step is read: what is before it would not be trained, unsaid."""
    model, _ = layer(cell, lengths=[4], outputs=(output,))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CompileError, match=f"MM208.*{reason}"):
        training_module(load_graph(tmp_path / "m.onnx", CompileOptions()), MSE)


@pytest.mark.parametrize("name", ["GRU_both", "LSTM_three", "LSTM_one_step"])
def test_every_plan_learns_the_same_bits(name: str, tmp_path: Path) -> None:
    """compile runs each step of the C against the references by itself."""
    graph_of(name, tmp_path)
    found: list[list[np.ndarray]] = []
    for k, options in enumerate(({}, {"ram": "min"})):
        mmcc.compile_training(tmp_path / "m.onnx", tmp_path / f"{k}", {"loss": "mse"}, **options)
        found.append(learned(tmp_path / f"{k}", 3))
    assert all(map(np.array_equal, *found))
    assert found[0][0] != found[0][1]


def test_gates_of_steps_are_made_again_row_by_row(tmp_path: Path) -> None:
    """Held whole are the input, its sums, over which their gradients come, h and c; never the gates."""
    steps, units = 40, 8
    model, _ = layer("LSTM", steps, features=4, units=units, outputs=("Y_h",))
    onnx.save(model, tmp_path / "m.onnx")
    result = mmcc.compile_training(
        tmp_path / "m.onnx", tmp_path / "c", {"loss": "mse", "accumulate": 2}, ram="min", self_check=False
    )
    entry = result.report["entries"][0]
    row, rings = 4 + (4 + 2) * units, 100 * units
    assert rings < 4 * units * steps
    assert entry["plan"]["arena"] <= 4 * (steps * row + rings)
