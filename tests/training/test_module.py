# SPDX-License-Identifier: Apache-2.0
"""Modules that train: gradients of a whole network in float64, and what optimizers make of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import check_module
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.training.module import APPLY, STEP, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.parameters import chosen, parameters
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from wide import check_step, wide

pytestmark = pytest.mark.quick

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
Array = np.ndarray


@cache
def digits() -> Graph:
    return load_graph(DIGITS / "digits_fp32.onnx", CompileOptions())


def sample(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    image = rng.random((8, 8, 1)).astype(np.float32)
    return {"input": image, "label_0": np.array([seed % 10], np.int32)}


def step_of(options: TrainOptions) -> Graph:
    return next(entry.graph for entry in training_module(digits(), options).entries if entry.name == STEP)


@pytest.mark.parametrize("loss", ["softmax-cross-entropy", "mse"])
def test_a_step_goes_down_the_gradient_of_the_loss(loss: str) -> None:
    """Of every parameter some elements, against central differences in float64."""
    step = step_of(TrainOptions(loss=loss))
    given = sample(3)
    if loss == "mse":
        given["label_0"] = np.random.default_rng(4).standard_normal(10)
    assert len(step.states) == 14
    check_step(step, given)


def trained(options: TrainOptions, samples: int, rate: float) -> dict[str, Array]:
    """States after so many samples, by the references."""
    machine = Interpreter(training_module(digits(), options))
    rates = {"rate": np.array([rate], np.float32)}
    for seed in range(samples):
        if options.accumulate == 1:
            machine.call(STEP, sample(seed) | rates)
            continue
        machine.call(STEP, sample(seed))
        if (seed + 1) % options.accumulate == 0:
            machine.call(APPLY, rates)
    return machine.states


def gradients(states: dict[str, Array], seed: int) -> dict[str, Array]:
    """The gradients of a sample at these parameters: a step of rate 1 goes so far."""
    step = step_of(TrainOptions(update="last:2"))
    names = [state.begin for state in step.states]
    after = wide(step, sample(seed) | {"rate": np.ones(1)} | {name: states[name] for name in names})
    return {s.begin: states[s.begin] - after[s.end] for s in step.states}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_optimizers_by_their_formulas(optimizer: str, accumulate: int) -> None:
    """As PyTorch has them, weight decay apart from the gradient (AdamW)."""
    options = TrainOptions(
        optimizer=optimizer, update="last:2", accumulate=accumulate, weight_decay=0.01, betas=(0.8, 0.9)
    )
    rate, samples = 0.05, 6
    got = trained(options, samples, rate)
    names = chosen(digits(), "last:2")
    w = {name: digits().constants[name].astype(np.float64) for name in names}
    m, v = ({name: np.zeros(x.shape) for name, x in w.items()} for _ in range(2))
    for t in range(samples // accumulate):
        each = [gradients(w, seed) for seed in range(t * accumulate, (t + 1) * accumulate)]
        for name in names:
            g = np.mean([one[name] for one in each], 0)
            step = g
            if optimizer == "momentum":
                step = m[name] = 0.9 * m[name] + g
            elif optimizer == "adam":
                m[name] = 0.8 * m[name] + 0.2 * g
                v[name] = 0.9 * v[name] + 0.1 * g * g
                step = m[name] / (1 - 0.8 ** (t + 1)) / (np.sqrt(v[name] / (1 - 0.9 ** (t + 1))) + 1e-8)
            w[name] = w[name] - rate * (step + 0.01 * w[name])
    for name in names:
        # Adam divides by roots of squares that may be tiny: where a gradient is rounded, so is its direction
        np.testing.assert_allclose(got[name], w[name], atol=1e-4 if optimizer == "adam" else 1e-6)
    if accumulate > 1:
        assert all(not got[f"{name}_sum"].any() for name in names)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_clipped(accumulate: int) -> None:
    """Each by a value, then all by their norm, as the mean over samples."""
    value, norm, rate = 0.02, 0.05, 0.5
    options = TrainOptions(update="last:2", accumulate=accumulate, clip_value=value, clip_norm=norm)
    got = trained(options, accumulate, rate)
    w = {name: digits().constants[name].astype(np.float64) for name in chosen(digits(), "last:2")}
    each = [gradients(w, seed) for seed in range(accumulate)]
    mean = {name: np.mean([one[name] for one in each], 0) for name in w}
    bounded = {name: np.clip(g, -value, value) for name, g in mean.items()}
    length = np.sqrt(sum(np.sum(g * g) for g in bounded.values()))
    assert length > norm
    assert any(np.abs(g).max() > value for g in mean.values())
    for name, g in bounded.items():
        np.testing.assert_allclose(got[name], w[name] - rate * g * norm / length, atol=1e-6)
    far = TrainOptions(update="last:2", accumulate=accumulate, clip_norm=1e6)
    plain = trained(TrainOptions(update="last:2", accumulate=accumulate), accumulate, rate)
    loose = trained(far, accumulate, rate)
    for name in w:
        np.testing.assert_allclose(loose[name], plain[name], atol=1e-7)


@pytest.mark.parametrize("loss", ["softmax-cross-entropy", "mse"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_entries_agree_on_every_name(loss: str, optimizer: str) -> None:
    """Gradients of a step and what `train_apply` clips them by are constants that neither knows of."""
    options = TrainOptions(loss=loss, optimizer=optimizer, accumulate=3, clip_value=2, clip_norm=1)
    assert check_module(training_module(digits(), options)) == []


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_model_may_have_the_names_of_what_training_keeps(optimizer: str, accumulate: int, tmp_path) -> None:
    rng = np.random.default_rng(0)
    made = (
        "w_moment",
        "w_squares",
        "w_sum",
        "w_sum_next",
        "decay_0",
        "decay",
        "factor",
        "rate",
        "none",
        "loss",
    )
    weights = {"w": np.float32(rng.standard_normal((4, 3)))}
    weights |= {name: np.float32(rng.standard_normal(3)) for name in made}
    nodes, last = [helper.make_node("MatMul", ["x", "w"], ["h0"])], "h0"
    for k, name in enumerate(made):
        nodes.append(helper.make_node("Add", [last, name], [last := f"h{k + 1}"]))
    path = save(model_of(nodes, {"x": np.float32(rng.standard_normal((1, 4)))}, [last], weights), tmp_path)
    options = TrainOptions(optimizer=optimizer, accumulate=accumulate, clip_norm=1)
    assert check_module(training_module(load_graph(path, CompileOptions()), options)) == []


def test_gradients_of_weights_are_summed_in_place() -> None:
    """Sums and moments take them as they come; so does a step where the gradient is large."""
    for options, into in (
        (TrainOptions(accumulate=4), "sum"),
        (TrainOptions(optimizer="momentum"), "sum"),
    ):
        ops = [node.op for node in step_of(options).nodes]
        assert {op.into for op in ops if isinstance(op, WeightGradient)} == {into}
    forms = {
        node.output: node.op.into
        for node in step_of(TrainOptions()).nodes
        if isinstance(node.op, WeightGradient)
    }
    assert forms["head.weight_next"] == "step"
    assert set(forms.values()) == {"", "step"}


@pytest.mark.parametrize(
    ("update", "count"), [("all", 14), ("last:1", 2), ("last:2", 4), ("bias", 7), ("*_dw.weight, logits*", 4)]
)
def test_what_is_updated(update: str, count: int) -> None:
    module = training_module(digits(), TrainOptions(update=update))
    assert check_module(module) == []
    assert module.parameters == chosen(digits(), update)
    assert len(module.parameters) == count
    frozen = {p.name for p in parameters(digits())} - set(module.parameters)
    assert frozen <= module.constants.keys(), "the others stay in flash"


@pytest.mark.parametrize("update", ["", "last:0", "last:x", "stem", "logits*,nobody"])
def test_no_such_parameter(update: str) -> None:
    with pytest.raises(CompileError, match="MM117"):
        training_module(digits(), TrainOptions(update=update))


def test_the_names_in_the_hint_are_whole(tmp_path: Path) -> None:
    """Also long ones, as exporters make them, with brackets; the part that is misspelt is told."""
    name = "StatefulPartitionedCall/model/block[0]/separable_convolution/depthwise/ReadVariableOp"
    nodes = [helper.make_node("MatMul", ["x", name], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    constants = {name: np.eye(3, dtype=np.float32), "w": np.eye(3, dtype=np.float32)}
    model = model_of(nodes, {"x": np.zeros((1, 3), np.float32)}, ["y"], constants)
    graph = load_graph(save(model, tmp_path), CompileOptions())
    assert chosen(graph, name) == (name,)
    with pytest.raises(CompileError) as caught:
        chosen(graph, f"w*,{name[:-1]}")
    assert f'"{name[:-1]}" names no parameter' in caught.value.message
    assert f"did you mean {name}?" in (caught.value.hint or "")


def test_a_softmax_at_the_end_is_part_of_the_loss() -> None:
    graph = load_graph(DIGITS / "digits_fp32.onnx", CompileOptions())
    step = training_module(graph, TrainOptions()).entries[1].graph
    assert [port.called for port in step.inputs] == ["", "label_0", "rate"]
    assert step.tensors["label_0"].dtype == ElementType.I32
    assert [port.called for port in step.outputs] == ["loss"]


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        images = np.load(DIGITS / "test_data.npz")["input_0"][:20]
        self._left = iter([{"input": image[None]} for image in images])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def test_int8_layers_before_the_float_ones_stay_in_int8(tmp_path: Path) -> None:
    """Nothing is computed backward through them."""
    head = tmp_path / "head.onnx"
    quantize_static(
        DIGITS / "digits_fp32.onnx",
        head,
        Images(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=["logits"],
    )
    graph = load_graph(head, CompileOptions())
    step = training_module(graph, TrainOptions()).entries[1].graph
    assert [state.begin for state in step.states] == ["logits.weight", "logits.bias"]
    assert step.tensors["input"].dtype == ElementType.I8
    kinds = [type(node.op).__name__ for node in step.nodes]
    assert kinds.count("ConvInt8") == 6
    assert set(kinds[kinds.index("CrossEntropyGradient") :]) <= {
        *("CrossEntropyGradient", "CrossEntropy", "WeightGradient", "Descend"),
    }


def test_biases_that_exporters_write_apart_are_trained_by_their_names(tmp_path: Path) -> None:
    """MatMul and Add, as Keras exports; a bias that two layers share is one parameter."""
    rng = np.random.default_rng(1)
    constants = {"w1": rng.random((4, 5), np.float32), "b1": rng.random(5, np.float32)}
    constants |= {"w2": rng.random((5, 5), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["p"]),
        helper.make_node("Add", ["p", "b1"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["s"]),
        helper.make_node("Add", ["s", "b1"], ["y"]),
    ]
    model = model_of(nodes, {"x": np.zeros((1, 4), np.float32)}, ["y"], constants)
    graph = load_graph(save(model, tmp_path), CompileOptions())
    assert {p.name: p.bias for p in parameters(graph)} == {"w1": False, "b1": True, "w2": False}


def test_the_shift_of_a_normalization_is_trained(tmp_path: Path) -> None:
    """Convolution without bias and BatchNormalization, as PyTorch exports."""
    rng = np.random.default_rng(2)
    constants = {"w": rng.random((3, 2, 3, 3), np.float32)}
    constants |= {name: rng.random(3, np.float32) + 1 for name in ("scale", "shift", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["y"]),
    ]
    model = model_of(nodes, {"x": np.zeros((1, 2, 5, 5), np.float32)}, ["y"], constants)
    graph = load_graph(save(model, tmp_path), CompileOptions())
    assert [p.bias for p in parameters(graph)] == [False, True]


def test_a_class_token_is_trained_and_a_mask_of_scores_is_not(tmp_path: Path) -> None:
    """What is joined to the rows of an activation learns its gradient; padding, coordinates and a causal mask
    stay, in whatever form exporters write the mask."""
    rng = np.random.default_rng(4)
    hidden = np.triu(np.ones((3, 3), np.float32), 1)
    constants = {"token": rng.random((1, 1, 3), np.float32), "padding": np.zeros((1, 1, 3), np.float32)}
    constants |= {"coordinates": np.arange(3, dtype=np.float32).reshape(1, 3, 1), "shift": -hidden}
    constants |= {"least": hidden * np.finfo(np.float32).min, "far": hidden * np.float32(-100)}
    constants["infinite"] = np.where(hidden > 0, np.float32(-np.inf), np.float32(0))
    nodes = [
        helper.make_node("Concat", ["x", "token", "padding"], ["t"], axis=1),
        helper.make_node("Add", ["t", "shift"], ["s"]),
        helper.make_node("Add", ["s", "least"], ["s1"]),
        helper.make_node("Add", ["s1", "far"], ["s2"]),
        helper.make_node("Add", ["s2", "infinite"], ["s3"]),
        helper.make_node("Softmax", ["s3"], ["p"], axis=-1),
        helper.make_node("Concat", ["p", "coordinates"], ["y"], axis=2),
    ]
    model = model_of(nodes, {"x": np.zeros((1, 1, 3), np.float32)}, ["y"], constants)
    module = training_module(load_graph(save(model, tmp_path), CompileOptions()), TrainOptions(loss="mse"))
    assert set(module.parameters) == {"token", "shift"}
    assert check_module(module) == []
    step = next(entry.graph for entry in module.entries if entry.name == STEP)
    given = {
        port.tensor: rng.standard_normal(step.tensors[port.tensor].shape).astype(np.float32)
        for port in step.inputs
    }
    check_step(step, given)


def test_what_an_operator_is_computed_by_is_no_parameter(tmp_path: Path) -> None:
    """A Fourier transform's matrix, a mask with numbers beside its infinities."""
    rng = np.random.default_rng(5)
    mask = rng.standard_normal((3, 5)).astype(np.float32)
    mask[0, 2] = -np.inf
    constants = {"length": np.array(8, np.int64), "axis": np.array(1, np.int64), "mask": mask}
    constants["w"] = rng.standard_normal((5, 5)).astype(np.float32)
    constants["real"] = np.array([0], np.int64)
    nodes = [
        helper.make_node("DFT", ["x", "length", "axis"], ["f"], onesided=1),
        helper.make_node("Gather", ["f", "real"], ["r"], axis=2),
        helper.make_node("Squeeze", ["r", "two"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),
        helper.make_node("Add", ["m", "mask"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    constants["two"] = np.array([2], np.int64)
    model = model_of(nodes, {"x": np.zeros((3, 8, 1), np.float32)}, ["y"], constants, opset=20)
    graph = load_graph(save(model, tmp_path), CompileOptions())
    assert [parameter.name for parameter in parameters(graph)] == ["w"]


def test_transposed_convolutions_are_trained(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    constants = {"w": rng.random((2, 3, 2, 2), np.float32)}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    model = model_of(nodes, {"x": np.zeros((1, 2, 3, 3), np.float32)}, ["y"], constants)
    graph = load_graph(save(model, tmp_path), CompileOptions())
    module = training_module(graph, TrainOptions())
    assert check_module(module) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_decay": np.nan},
        {"weight_decay": np.inf},
        {"momentum": 1.5},
        {"epsilon": np.nan},
        {"accumulate": 0},
    ],
    ids=str,
)
def test_numbers_that_nothing_learns_with(wrong: dict) -> None:
    with pytest.raises(CompileError, match=next(iter(wrong))):
        TrainOptions(**wrong)
