# SPDX-License-Identifier: Apache-2.0
"""Files that are steps of training already: mmcc's step is theirs, and what they do else is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from frontend_models import model_of
from mmcc.driver.imported_step import as_imported, taken_over
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import load, step_gradients, training_step
from mmcc.ir.interpret import Interpreter
from mmcc.package.record import load_package
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick

Array = np.ndarray
ORT, PREVIEW = "com.microsoft", "ai.onnx.preview.training"
RATE = np.float32(0.1)
RNG = np.random.default_rng(3)
WEIGHTS = {
    "w1": RNG.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32),
    "b1": RNG.standard_normal(4).astype(np.float32),
    "w2": RNG.normal(0, 0.3, (5, 64)).astype(np.float32),
    "b2": RNG.standard_normal(5).astype(np.float32),
}
GIVEN = {"x": RNG.standard_normal((1, 2, 8, 8)).astype(np.float32), "labels": np.array([3])}
GIVEN["target"] = RNG.standard_normal((1, 5)).astype(np.float32)
NUMBERS = {"one": np.float32(1), "two": np.float32(2), "axis": np.array([0]), "minus": np.float32(-1)}
NUMBERS |= {"small": np.float32(1e-5), "order": np.arange(63, -1, -1)}
node = helper.make_node


def forward() -> list[onnx.NodeProto]:
    return [
        node("Conv", ["x", "w1", "b1"], ["c"], pads=[1] * 4, group=2),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p", "mask"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w2", "b2"], ["y"], transB=1),
    ]


def loss_of(kind: str) -> list[onnx.NodeProto]:
    """The loss and the gradient of y, as ONNX Runtime's artifacts have them."""
    if kind != "mse":
        return [
            node("SoftmaxCrossEntropyLoss", ["y", "labels"], ["loss", "logs"], reduction="mean"),
            node("SoftmaxCrossEntropyLossGrad", ["one", "logs", "labels"], ["dy"], domain=ORT),
        ]
    return [
        node("Sub", ["y", "target"], ["apart"]),
        node("Pow", ["apart", "two"], ["squares"]),
        node("ReduceMean", ["squares"], ["loss"], keepdims=0),
        node("Size", ["squares"], ["size"]),
        node("Mul", ["apart", "two"], ["twice"]),
        node("Scale", ["twice", "size"], ["dy"], domain=ORT, scale_down=1),
    ]


def backward() -> list[onnx.NodeProto]:
    return [
        node("ReduceSum", ["dy", "axis"], ["b2_grad"], keepdims=0),
        node("Gemm", ["dy", "f"], ["w2_grad"], transA=1),
        node("Gemm", ["dy", "w2"], ["df"]),
        node("Shape", ["p"], ["shape"]),
        node("Reshape", ["df", "shape"], ["dp"]),
        node("MaxPoolGrad", ["dp", "mask"], ["dr"], kernel_shape=[2, 2], strides=[2, 2]),
        node("ReluGrad", ["dr", "c"], ["dc"], domain=ORT),
        node("ConvGrad", ["dc", "x", "w1"], ["", "w1_grad", "b1_grad"], domain=ORT, pads=[1] * 4, group=2),
    ]


def accumulated() -> list[onnx.NodeProto]:
    op = "InPlaceAccumulatorV2"
    return [node(op, [f"{w}_sum", f"{w}_grad", "reset"], [f"{w}_out"], domain=ORT) for w in WEIGHTS]


def descended() -> list[onnx.NodeProto]:
    return [node("SGD", [w, f"{w}_grad"], [f"{w}_out"], lr=float(RATE)) for w in WEIGHTS]


def differentiated() -> list[onnx.NodeProto]:
    names, grads = list(WEIGHTS), [f"{w}_grad" for w in WEIGHTS]
    return [node("Gradient", names, grads, domain=PREVIEW, xs=names, y="loss")]


def optimized(op: str, kept: int, **attributes: object) -> list[onnx.NodeProto]:
    """An optimizer of ONNX's for all parameters."""
    states = [f"{w}_kept{k}" for k in range(kept) for w in WEIGHTS]
    inputs = ["rate", "count", *WEIGHTS, *(f"{w}_grad" for w in WEIGHTS), *states]
    outputs = [f"{w}_out" for w in WEIGHTS] + [f"{name}_out" for name in states]
    return [node(op, inputs, outputs, domain=PREVIEW, **attributes)]


MOMENTUM = {"alpha": 0.8, "beta": 1.0, "mode": "standard", "norm_coefficient": 0.0}


def written(folder: Path, nodes: list[onnx.NodeProto], *, bound: bool = False) -> Path:
    """A step of training in a file; with `bound` its parameters are inputs, as ONNX Runtime has them."""
    read = {name for each in nodes for name in each.input}
    inputs = {name: array for name, array in GIVEN.items() if name in read}
    for name in sorted(read - {made for each in nodes for made in each.output} - {*NUMBERS, ""}):
        if name.endswith("_sum") or "_kept" in name or (bound and name in WEIGHTS):
            inputs[name] = WEIGHTS.get(name[:2], WEIGHTS["b1"])
    inputs |= {name: np.zeros(1, np.float32) for name in {"rate", "pace"} & read}
    inputs |= {name: np.zeros((), np.int64) for name in {"count"} & read}
    inputs |= {name: np.zeros(1, bool) for name in {"reset"} & read}
    constants = {**({} if bound else WEIGHTS), **NUMBERS}
    made = [name for each in nodes for name in each.output]
    outputs = ["loss", *(name for name in made if name.endswith(("_out", "_new")))]
    outputs += [f"{w}_grad" for w in WEIGHTS if f"{w}_grad" in made and len(outputs) == 1]
    model = model_of(nodes, inputs, outputs, constants, opset=14, microsoft=True)
    model.opset_import.append(helper.make_opsetid(PREVIEW, 1))
    for info in model.graph.output:
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, folder / "step.onnx")
    return folder / "step.onnx"


def as_theirs(name: str, array: Array) -> Array:
    """A parameter of the graph in the layout of the file."""
    if name == "w2":
        array = array.reshape(5, 4, 4, 4)
    array = array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
    return array.reshape(WEIGHTS[name].shape)


def stepped(file: Path, train: TrainOptions, options: CompileOptions | None = None) -> dict[str, Array]:
    """States after a step, by references."""
    options = options or CompileOptions()
    step = training_step(load(file))
    assert step is not None
    train = taken_over(step, train, options)
    graph = as_imported(load_graph(file, options, step=step), step, file, train, options)
    assert any("step of training" in warning for warning in graph.warnings)
    machine = Interpreter(training_module(graph, train))
    entry = next(e.graph for e in training_module(graph, train).entries if e.name == STEP)
    inputs: dict[str, Array] = {}
    for port in entry.inputs:
        name = {"label_0": step.label}.get(port.onnx_name, port.onnx_name)
        array = np.full(1, RATE, np.float32) if name == "rate" else GIVEN[name]
        tensor = entry.tensors[port.tensor]
        inputs[port.tensor] = port.to_c(array.reshape(port.onnx_shape).astype(tensor.dtype.numpy), tensor)
    machine.call(STEP, inputs)
    return machine.states


@pytest.mark.parametrize("kind", ["cross entropy", "mse"])
def test_gradients_are_those_of_the_file(kind: str, tmp_path: Path) -> None:
    """ONNX Runtime's form: parameters are inputs, gradients go to accumulators."""
    file = written(tmp_path, [*forward(), *loss_of(kind), *backward(), *accumulated()], bound=True)
    step = training_step(load(file))
    assert step is not None
    assert (step.loss == "mse") == (kind == "mse")
    with pytest.raises(CompileError, match=r"MM123.*have no values.*w1"):
        taken_over(step, TrainOptions(), CompileOptions())
    theirs = step_gradients(load(file), step, GIVEN | WEIGHTS)
    ours = stepped(file, TrainOptions(accumulate=2), CompileOptions(bind=WEIGHTS))
    for name, array in theirs.items():
        np.testing.assert_allclose(as_theirs(name, ours[f"{name}_sum"]), array, rtol=1e-5, atol=1e-5)


def test_deeploys_step(tmp_path: Path) -> None:
    file = written(tmp_path, [*forward(), *loss_of(""), *backward(), *descended()])
    step = training_step(load(file))
    assert step is not None
    assert step.rate == pytest.approx(RATE)
    ours = stepped(file, TrainOptions(optimizer="adam"))  # what the file says counts
    for name, gradient in step_gradients(load(file), step, GIVEN).items():
        np.testing.assert_allclose(as_theirs(name, ours[name]), WEIGHTS[name] - RATE * gradient, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "kept", "attributes"),
    [("Momentum", 1, MOMENTUM), ("Adam", 2, {"alpha": 0.8, "beta": 0.9, "epsilon": 1e-6}), ("", 0, {})],
)
def test_a_step_of_onnx_is_that_of_its_reference(
    op: str, kept: int, attributes: dict[str, object], tmp_path: Path
) -> None:
    """Gradients are those of the same net in the other form; the optimizer is ONNX's reference."""
    other = written(tmp_path, [*forward(), *loss_of(""), *backward(), *accumulated()])
    known = training_step(load(other))
    assert known is not None
    gradients = step_gradients(load(other), known, GIVEN)
    last = optimized(op, kept, **attributes) if op else []
    for name in WEIGHTS if not op else ():
        last += [node("Mul", ["rate", f"{name}_grad"], [f"{name}_way"])]
        last += [node("Sub", [name, f"{name}_way"], [f"{name}_out"])]
    file = written(tmp_path, [*forward(), loss_of("")[0], *differentiated(), *last])
    ours = stepped(file, TrainOptions())
    for name, gradient in gradients.items():
        expected = WEIGHTS[name] - RATE * gradient
        if op:
            inputs = {"r": RATE, "t": np.int64(1), "x": WEIGHTS[name], "g": gradient}
            inputs |= {f"v{k}": np.zeros_like(gradient) for k in range(kept)}
            outputs = ["out", *(f"v{k}_out" for k in range(kept))]
            one = model_of([node(op, list(inputs), outputs, domain=PREVIEW, **attributes)], {}, ["out"])
            one.opset_import.append(helper.make_opsetid(PREVIEW, 1))
            for key, array in inputs.items():
                kind = helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
                one.graph.input.append(helper.make_tensor_value_info(key, kind, np.shape(array)))
            (expected,) = ReferenceEvaluator(one).run(["out"], {k: np.asarray(a) for k, a in inputs.items()})
        np.testing.assert_allclose(as_theirs(name, ours[name]), expected, rtol=1e-5, atol=1e-5)


def without_relu() -> list[onnx.NodeProto]:
    return [node("Identity", ["dr"], ["dc"]) if each.op_type == "ReluGrad" else each for each in backward()]


def unknown() -> list[onnx.NodeProto]:
    return [
        node("HardSwishGrad", ["dr", "c"], ["dc"], domain=ORT) if n.op_type == "ReluGrad" else n
        for n in backward()
    ]


def stepped_by(op: str, *operands: str) -> list[onnx.NodeProto]:
    """A step by what an operator makes of the gradient of w1."""
    return [node(op, ["w1_grad", *operands], ["g"]), node("SGD", ["w1", "g"], ["w1_out"], lr=float(RATE))]


def ours() -> list[onnx.NodeProto]:
    return [*loss_of(""), *backward()]


def theirs() -> list[onnx.NodeProto]:
    return [loss_of("")[0], *differentiated()]


def renamed(nodes: list[onnx.NodeProto], old: str, new: str) -> list[onnx.NodeProto]:
    for each in nodes:
        for names in (each.input, each.output):
            names[:] = [new if name == old else name for name in names]
    return nodes


def moved(rate: str) -> list[onnx.NodeProto]:
    """X - rate * G of all parameters."""
    way = [node("Mul", [rate or f"{w}_grad", f"{w}_grad"], [f"{w}_way"]) for w in WEIGHTS]
    step = [node("Sub", [w, f"{w}_way"], [f"{w}_out"]) for w in WEIGHTS]
    return [each for pair in zip(way, step, strict=True) for each in pair]


def differences() -> list[onnx.NodeProto]:
    """Each reads the one before twice: looked at once for each reader, they would take years."""
    names = ["one", *(f"less{k}" for k in range(60))]
    return [node("Sub", [a, a], [b]) for a, b in pairwise(names)]


NESTEROV = MOMENTUM | {"mode": "nesterov"}
REFUSED = {
    "another gradient": ([*loss_of(""), *without_relu(), *descended()], "MM202.*another gradient"),
    "a gradient that is not known": ([*loss_of(""), *unknown(), *descended()], "HardSwishGrad, of which"),
    "a forward operator of its own": (
        [node("BatchNormInternal", ["y"], ["z"], domain=ORT), *renamed(loss_of(""), "y", "z"), *backward(),
         *descended()], "BatchNormInternal, of which"),
    "no loss": ([node("Identity", ["y"], ["dy"]), *backward(), *descended()], "without one loss"),
    "nothing updated": ([*loss_of(""), *backward()], "no parameter is updated"),
    "Adagrad": ([loss_of("")[0], *differentiated(), *optimized("Adagrad", 1)], "Adagrad as ONNX"),
    "Nesterov": ([loss_of("")[0], *differentiated(), *optimized("Momentum", 1, **NESTEROV)], "not standard"),
    "no number": ([loss_of("")[0], *differentiated(), *optimized("Adam", 2, alpha="much")], "operands and"),
    "other rates": ([*loss_of(""), *backward(), *descended()[:3],
                     node("SGD", ["b2", "b2_grad"], ["b2_out"], lr=0.3)], "different steps"),
    "a loss of nothing": ([node("SoftmaxCrossEntropyLoss", ["y"], ["loss"]), *differentiated()],
                          "operands and attributes"),
    "unequal shapes": ([*loss_of(""), *backward()[:-2], node("ReluGrad", ["dy", "c"], ["dc"], domain=ORT),
                        backward()[-1], *descended()], "cannot be computed"),
    "another input": ([*loss_of(""), *backward()[:-1], node("Add", ["dc", "noise_kept"], ["dn"]),
                       node("ConvGrad", ["dn", "x", "w1"], ["", "w1_grad", "b1_grad"], domain=ORT),
                       *descended()], "Add that adds \"noise_kept\""),
    "a gradient from outside": ([*loss_of(""), *backward(),
                                 node("SGD", ["w1", "noise_kept"], ["w1_out"], lr=0.1)],
                                "w1.*does not come from the loss"),
    "two steps": ([*ours(), *descended(), node("SGD", ["w1", "w1_grad"], ["w1_new"], lr=float(RATE))],
                  "two steps of the parameter"),
    "SGD with more": ([*ours(), node("SGD", ["w1", "w1_grad"], ["w1_out"], lr=0.1, nesterov=1)],
                      "SGD with nesterov"),
    "an ascent": ([*ours(), node("SGD", ["w1", "w1_grad"], ["w1_out"], lr=-0.1)], "rate of -0.1"),
    "an optimizer of ONNX Runtime's": (
        [*ours(), *accumulated(), node("AdamWOptimizer", ["w1_out"], ["w1_new"], domain=ORT)],
        "AdamWOptimizer"),
    "a label that is computed": ([node("Mul", ["labels", "labels"], ["label"]),
                                  node("SoftmaxCrossEntropyLoss", ["y", "label"], ["loss"]),
                                  *differentiated()], "label, \"label\", is no input"),
    "bounds": ([*ours(), *stepped_by("Clip", "lo_kept", "hi_kept")], "Clip between the gradient"),
    "decay": ([*ours(), node("Mul", ["w1", "small"], ["share"]), *stepped_by("Add", "share")],
              "adds \"share\""),
    "a bound behind the step": ([*ours(), node("SGD", ["w1", "w1_grad"], ["n"], lr=0.1),
                                 node("Clip", ["n", "lo_kept", "hi_kept"], ["w1_out"])],
                                "Clip behind \"n\""),
    "weights of classes": ([*loss_of(""), node("Gather", ["scale_kept", "labels"], ["weight"]),
                            node("Mul", ["dy", "weight"], ["dz"]), *renamed(backward(), "dy", "dz"),
                            *descended()], "Mul by what the label"),
    "a seed that is no constant": ([*renamed(ours(), "one", "rate"), *descended()], "begins with something"),
    "order": ([*renamed(ours(), "w2_grad", "g"), node("Gather", ["g", "order"], ["w2_grad"], axis=1),
               *descended()], "another gradient of \"w2\""),
    "a mask": ([*theirs(), *moved("mask_kept")], "\"mask_kept\", that is neither"),
    "the loss as rate": ([*theirs(), *moved("loss")], "\"loss\", that is neither"),
    "a rate of many differences": ([*theirs(), *differences(), *moved("less59")], "a rate of 0"),
    "a negative rate": ([*theirs(), *moved("minus")], "a rate of -1"),
    "its own gradient as rate": ([*theirs(), *moved("")], "what is made of"),
    "other inputs as rates": ([*theirs(), *moved("rate")[:2], *moved("pace")[2:]], "different steps"),
    "the loss as rate of Adam": ([*theirs(), *renamed(optimized("Adam", 2), "rate", "loss")],
                                 "\"loss\", that is neither"),
    "a count that stands": ([*theirs(), *renamed(optimized("Adam", 2), "count", "one")], "count of steps"),
    "a moment for two": ([*theirs(), *renamed(optimized("Adam", 2), "w1_kept0", "w2_kept0")],
                         "share a moment"),
    "a moment that is there": ([*theirs(), *renamed(optimized("Momentum", 1, **MOMENTUM), "b1_kept0", "two")],
                               "no input and not 0"),
    "a moment that grows": ([*theirs(), *optimized("Momentum", 1, **MOMENTUM | {"alpha": 1.5})],
                            "MM202.*optimizer of the step"),
    "a gradient elsewhere": ([loss_of("")[0], node("Gradient", ["b1", "w1"], ["w1_grad", "b1_grad"],
                                                   domain=PREVIEW, xs=["w1", "b1"], y="loss")],
                             "at other values"),
    "a value that is held": ([loss_of("")[0], node("Gradient", ["w1", "r"], ["w1_grad"], domain=PREVIEW,
                                                   xs=["w1"], zs=["r"], y="loss")], "at other values"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    nodes, words = REFUSED[name]
    if name == "no loss":
        nodes = [node("Identity", ["y"], ["loss"]), *nodes]
    file = written(tmp_path, [*forward(), *nodes])
    with pytest.raises(CompileError, match=words):
        stepped(file, TrainOptions())


def test_training_info_is_mentioned(tmp_path: Path) -> None:
    model = model_of([node("Relu", ["x"], ["y"])], {"x": GIVEN["x"]}, ["y"])
    model.training_info.add().algorithm.name = "steps"
    onnx.save(model, tmp_path / "model.onnx")
    assert any(
        "training_info" in text for text in load_graph(tmp_path / "model.onnx", CompileOptions()).warnings
    )


@pytest.mark.slow
def test_a_package_of_a_step(tmp_path: Path) -> None:
    file = written(tmp_path, [*forward(), *loss_of(""), *backward(), *descended()])
    result = mmcc.compile_training(file, tmp_path / "package", name="net")
    assert [entry.name for entry in load_package(result.folder).entries] == ["run", "train_step"]
    assert any("its rate, 0.1" in warning for warning in result.report["warnings"])
