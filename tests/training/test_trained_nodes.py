# SPDX-License-Identifier: Apache-2.0
"""ONNX's own cases of its operators, trained through: the gradient of each, with all attributes that there
are cases of, is that of central differences in float64, or refused by name."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.state import State
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from wide import wide

Array = np.ndarray
FAR, PLACES, PARTS = 1e-6, 2, 8
LARGE = 20_000  # elements of an operand: cases above take long
# cases whose model steps back to what is no number, as PyTorch does: outside of a function's domain, or
# through a Softmax of which nothing is left
NO_SLOPE = (
    *("test_acos", "test_asin", "test_atanh", "test_mod_float_edge_cases"),
    *("test_attention_causal_boolmask_nan", "test_attention_23_boolmask_fullymasked"),
    *("test_attention_23_fullymasked", "test_attention_24_fullymasked"),
    *("test_attention_4d_causal_nonpad_negative_offset", "test_attention_local_window_gqa_rank4_mask"),
)
# operators that have no gradient, by what of MM208 names them
NONE = ("tree_ensemble<", "scatter_lines<m", "scatter_along<m")


@cache
def cases() -> dict[str, tuple[ModelProto, Array]]:
    """By name, the cases with a float operand as models that multiply it by a parameter first, and the
    elements of it; other operands are constants, floats among them parameters where mmcc takes them for such.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    made: dict[str, tuple[ModelProto, Array]] = {}
    for case in found:
        given, wanted = case.data_sets[0] if case.data_sets else ((), ())
        model: ModelProto = case.model
        if case.name.endswith("_expanded") or not all(isinstance(x, Array) for x in given):
            continue
        values = dict(zip((port.name for port in model.graph.input), given, strict=False))
        floats = [name for name, x in values.items() if x.dtype == np.float32][:1]
        outputs = zip(model.graph.output, wanted, strict=False)
        shown = [o for o, y in outputs if isinstance(y, Array) and y.dtype == np.float32 and y.size]
        step = any("training" in node.domain for node in model.graph.node)
        if floats and shown and 1 < values[floats[0]].size <= LARGE and not step:
            made[case.name] = _trained(model, values, floats[0], shown[0]), values[floats[0]]
    return made


def _trained(model: ModelProto, values: dict[str, Array], name: str, shown: ValueInfoProto) -> ModelProto:
    shape = list(values[name].shape)
    scale = 1 + 0.1 * np.random.default_rng(1).random(shape)
    graph = GraphProto(name=model.graph.name)
    graph.input.append(helper.make_tensor_value_info("given", TensorProto.FLOAT, shape))
    graph.output.append(shown)
    others = {other: x for other, x in values.items() if other != name}
    for other, x in {"scale": scale.astype(np.float32), **others}.items():
        graph.initializer.append(numpy_helper.from_array(x, other))
    graph.node.append(helper.make_node("Mul", ["given", "scale"], [name]))
    graph.node.extend(model.graph.node)
    made = ModelProto()
    made.CopyFrom(model)
    made.graph.CopyFrom(graph)
    return made


def step_of(name: str, folder: Path) -> Graph | None:
    """The step that trains a case by the mean of squares; None if mmcc does not compile it, or trains
    nothing before it and says so."""
    (folder / "node.onnx").write_bytes(cases()[name][0].SerializeToString())
    try:
        graph = load_graph(folder / "node.onnx", CompileOptions(), training=True)
    except CompileError:
        return None  # other tests say which are refused
    try:
        module = training_module(graph, TrainOptions(loss="mse"))
    except CompileError as error:
        if error.code != "MM208" or not any(op in str(error) for op in NONE):
            raise
        return None
    return next(entry.graph for entry in module.entries if entry.name == STEP)


@pytest.mark.parametrize("part", range(PARTS))
def test_gradients_of_nodes_are_those_of_central_differences(part: int, tmp_path: Path) -> None:
    trained = 0
    for name in sorted(cases())[part::PARTS]:
        step = step_of(name, tmp_path)
        if step is None or name.startswith(NO_SLOPE):
            continue
        trained += 1
        elements = cases()[name][1].astype(np.float64).ravel()
        given = {"rate": np.ones(1)}
        for port in step.inputs[:-1]:
            shape = step.tensors[port.tensor].shape
            noise = np.random.default_rng(2).standard_normal(shape)
            given[port.tensor] = noise if port.tensor.startswith("label") else elements.reshape(shape)
        after = wide(step, given)
        for state in step.states:
            moved = state.initial - after[state.end]
            for far in places_of(state):
                want = slope(step, given, state, far)
                scale = max(1e-3, abs(want), np.abs(moved).max())
                assert abs(moved[far] - want) <= 1e-5 * scale, (name, state.begin, far)
    assert trained > 60


def places_of(state: State) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return [tuple(int(rng.integers(0, n)) for n in state.initial.shape) for _ in range(PLACES)]


def slope(step: Graph, given: dict[str, Array], state: State, place: tuple[int, ...]) -> float:
    """Of the loss, along an element of a state."""
    ends: list[float] = []
    for far in (FAR, -FAR):
        near = state.initial.astype(np.float64)
        near[place] += far
        ends.append(float(wide(step, {**given, state.begin: near})[step.outputs[0].tensor][0]))
    return (ends[0] - ends[1]) / (2 * FAR)
