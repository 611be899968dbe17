# SPDX-License-Identifier: Apache-2.0
"""Models for training, and whether the gradients of their steps are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from onnx import helper
from wide import check_step

node = helper.make_node


def drawn(*shape: int) -> np.ndarray:
    return (0.5 * np.random.default_rng(len(shape)).standard_normal(shape)).astype(np.float32)


def graph_of(folder: Path, nodes, given, constants, opset: int = 20) -> Graph:
    model = model_of(nodes, given, ["y"], constants, opset=opset)
    return load_graph(save(model, folder), CompileOptions(), training=True)


def check_gradients(graph: Graph) -> tuple[str, ...]:
    """A step's gradients are central differences; the names of the parameters."""
    module = training_module(graph, TrainOptions(loss="mse"))
    step = next(entry.graph for entry in module.entries if entry.name == STEP)
    rng = np.random.default_rng(6)
    given: dict[str, np.ndarray] = {}
    for port in step.inputs:
        tensor = step.tensors[port.tensor]
        floats = tensor.dtype.is_float
        given[port.tensor] = rng.standard_normal(tensor.shape) if floats else rng.integers(0, 3, tensor.shape)
    check_step(step, given)
    return module.parameters


def layer_norm(x: str, y: str) -> list:
    """LayerNormalization as exporters spell it out."""
    return [
        node("ReduceMean", [x], [f"{y}_mean"], axes=[-1]),
        node("Sub", [x, f"{y}_mean"], [f"{y}_centred"]),
        node("Mul", [f"{y}_centred", f"{y}_centred"], [f"{y}_square"]),
        node("ReduceMean", [f"{y}_square"], [f"{y}_variance"], axes=[-1]),
        node("Add", [f"{y}_variance", "epsilon"], [f"{y}_more"]),
        node("Sqrt", [f"{y}_more"], [f"{y}_root"]),
        node("Div", [f"{y}_centred", f"{y}_root"], [y]),
    ]
