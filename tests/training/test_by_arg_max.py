# SPDX-License-Identifier: Apache-2.0
"""Max pools whose gradients go by numbers of taps: the same gradients, and less is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter
from mmcc.ops.elementwise_gradient import UnaryGradient
from mmcc.ops.pool_arg_max import PoolArgMax
from mmcc.ops.pool_gradient import MaxPoolGradient
from mmcc.training import module
from mmcc.training.options import TrainOptions
from mmcc.training.recompute import SavedValues
from onnx import helper

pytestmark = pytest.mark.quick

Array = np.ndarray
SHAPE = (1, 3, 9, 8)
node = helper.make_node
RNG = np.random.default_rng(11)
WEIGHTS = {
    "w0": RNG.standard_normal((6, 3, 3, 3)).astype(np.float32),
    "w1": RNG.standard_normal((4, 6, 3, 3)).astype(np.float32),
}
HALVES = {"kernel_shape": [2, 2], "strides": [2, 2]}
OVERLAP = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
WIDE = {"kernel_shape": [9, 4], "strides": [9, 2]}


def step_of(folder: Path, nodes: list, **attributes: list[int]) -> tuple[Graph, set[str]]:
    """The step of a convolution, then `nodes` from c to r, a pool of r, and another convolution; with the
    names of its forward pass."""
    nodes = [node("Conv", ["x", "w0"], ["c"], pads=[1] * 4), *nodes]
    nodes += [node("MaxPool", ["r"], ["p"], **attributes), node("Conv", ["p", "w1"], ["q"], pads=[1] * 4)]
    nodes += [node("GlobalAveragePool", ["q"], ["m"]), node("Flatten", ["m"], ["y"])]
    file = save(model_of(nodes, {"x": np.zeros(SHAPE, np.float32)}, ["y"], WEIGHTS), folder)
    graph = load_graph(file, CompileOptions())
    step = module.training_module(graph, TrainOptions(accumulate=2)).entries[1].graph
    return step, {name for each in graph.nodes for name in each.outputs}


def sums(graph: Graph) -> dict[str, Array]:
    """Gradients of one sample."""
    known = dict[str, Array]()
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        image = np.random.default_rng(3).standard_normal(tensor.shape).astype(np.float32)
        known[port.tensor] = image if tensor.dtype.is_float else np.array([1], np.int32).reshape(tensor.shape)
    machine = Interpreter(module.Module.of(graph))
    machine.call("run", known)
    return machine.states


@pytest.mark.parametrize("window", [HALVES, OVERLAP, WIDE], ids=["halves", "overlap", "wide"])
@pytest.mark.parametrize("clamped", [True, False])
def test_gradients_are_the_same(clamped: bool, window: dict, tmp_path: Path, monkeypatch) -> None:
    between = [node("Relu" if clamped else "Identity", ["c"], ["r"])]
    step, _ = step_of(tmp_path, between, **window)
    assert any(isinstance(each.op, PoolArgMax) for each in step.nodes)
    assert not any(isinstance(each.op, MaxPoolGradient) for each in step.nodes)
    monkeypatch.setattr(module, "by_arg_max", lambda graph, forward: graph)
    other, _ = step_of(tmp_path, between, **window)
    assert any(isinstance(each.op, MaxPoolGradient) for each in other.nodes)
    for (name, one), two in zip(sums(step).items(), sums(other).values(), strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


def test_the_input_of_a_pool_and_the_clamp_in_front_of_it_is_not_kept(tmp_path: Path) -> None:
    """The clamp's gradient goes by the pool's result, which the next layer keeps."""
    step, forward = step_of(tmp_path, [node("Relu", ["c"], ["r"])], **HALVES)
    (taps,) = (each for each in step.nodes if isinstance(each.op, PoolArgMax))
    saved = SavedValues(step, forward)
    values = {value.name: value.bytes for value in saved.values}
    assert taps.inputs[0] not in values
    assert values[taps.output] == 4 * 4 * 2  # 6 channels of 2 bits
    assert not any(
        isinstance(each.op, UnaryGradient) and taps.inputs[0] in each.inputs for each in step.nodes
    )


def test_an_input_that_others_read_backward_is_kept_anyway(tmp_path: Path) -> None:
    """Sigmoid's gradient goes by its result."""
    step, forward = step_of(tmp_path, [node("Sigmoid", ["c"], ["r"])], **HALVES)
    assert not any(isinstance(each.op, PoolArgMax) for each in step.nodes)
    (gradient,) = (each for each in step.nodes if isinstance(each.op, MaxPoolGradient))
    assert gradient.inputs[1] in {value.name for value in SavedValues(step, forward).values}


def test_a_window_of_more_taps_than_a_byte_counts(tmp_path: Path) -> None:
    window = {"kernel_shape": [33, 8], "strides": [33, 8], "pads": [16, 0, 16, 0]}
    step, _ = step_of(tmp_path, [node("Relu", ["c"], ["r"])], **window)
    assert not any(isinstance(each.op, PoolArgMax) for each in step.nodes)
