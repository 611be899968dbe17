# SPDX-License-Identifier: Apache-2.0
"""Hints about training, followed: see test_hints.py."""

from __future__ import annotations

import mmcc as api
import numpy as np
import onnx
import pytest
from frontend_models import model_of, save
from hint_runs import RELU, X, mmcc, node
from hints import follows
from mmcc.errors import CompileError

WEIGHTS = {"w": np.linspace(-1, 1, 4 * 4).reshape(4, 4, 1, 1).astype(np.float32)}
NODES = [node("Conv", ["x", "w"], ["a"]), node("Tanh", ["a"], ["y"])]
FAST = ("--loss", "mse", "--stack", "1024", "--no-self-check")


@follows("training/parameters.py: some if known else 'a model with float layers'")
def no_such_parameter(folder, _):
    model = save(model_of(NODES, X, ["y"], WEIGHTS), folder)
    options = ("train", model, "-o", folder / "out", *FAST, "--update")
    said = mmcc(*options, "v", exit=2)
    assert "some of w" in said
    for words in ("w", "all", "last:1"):
        mmcc(*options, words)
    nothing = ("train", save(RELU, folder), "-o", folder / "out2", *FAST)
    assert "a model with float layers" in mmcc(*nothing, exit=2)


@follows("training/losses.py: 'cutting off the model behind the output to be trained'")
def several_outputs(folder, _):
    model = model_of(NODES, X, ["a", "y"], WEIGHTS)
    whole, part = save(onnx.shape_inference.infer_shapes(model), folder), folder / "part.onnx"
    assert "cutting off" in mmcc("train", whole, "-o", folder / "out", *FAST, exit=2)
    onnx.utils.extract_model(whole, part, ["x"], ["y"])
    mmcc("train", part, "-o", folder / "out", *FAST)


@follows("training/losses.py: 'the model in float32 that it was converted from'")
def output_in_float16(folder, _):
    narrow = {"w": WEIGHTS["w"].astype(np.float16)}
    half = save(model_of(NODES, {"x": X["x"].astype(np.float16)}, ["y"], narrow), folder)
    assert "that it was converted from" in mmcc("train", half, "-o", folder / "out", *FAST, exit=2)
    mmcc("train", save(model_of(NODES, X, ["y"], WEIGHTS), folder), "-o", folder / "out", *FAST)


@follows("driver/train.py: 'leaving them out'")
def only_for_inference(folder, _):
    model, train = save(model_of(NODES, X, ["y"], WEIGHTS), folder), api.TrainOptions(loss="mse")
    with pytest.raises(CompileError, match="MM119"):
        api.compile_training(model, folder / "out", train, io="external", stack=1024)
    api.compile_training(model, folder / "out", train, stack=1024)


@follows(
    "frontend/converters/normalization.py: "
    "'exporting the model for inference, or mmcc train --batch-norm own'"
)
def batch_normalization(folder, _):
    fixed, names = {"s": np.ones(4, np.float32)}, ["x", *"ssss"]
    training = node("BatchNormalization", names, ["y", "m", "v"], training_mode=1)
    model = save(model_of([training], X, ["y"], fixed), folder)
    said = mmcc("compile", model, "-o", folder / "out", exit=4)
    assert "--batch-norm own" in said
    mmcc("train", model, "-o", folder / "out", *FAST, "--batch-norm", "own")
    inference = model_of([node("BatchNormalization", names, ["y"])], X, ["y"], fixed)
    mmcc("compile", save(inference, folder), "-o", folder / "out", "--no-self-check")


@follows("driver/imported_step.py: f'--bind {unset[0]}=FILE.npy, and so for each'")
def parameters_without_values(folder, _):
    nodes = [*NODES, node("Sub", ["y", "t"], ["d"]), node("Mul", ["d", "d"], ["q"])]
    nodes.append(node("ReduceMean", ["q"], ["loss"], keepdims=0))
    nodes.append(node("Gradient", ["w"], ["g"], domain="ai.onnx.preview.training", xs=["w"], y="loss"))
    model = model_of(nodes, X | WEIGHTS | {"t": X["x"]}, ["loss", "g"])
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.preview.training", 1))
    options = ("train", save(model, folder), "-o", folder / "out", "--stack", "1024", "--no-self-check")
    assert "--bind w=FILE.npy" in mmcc(*options, exit=2)
    np.save(folder / "w.npy", WEIGHTS["w"])
    mmcc(*options, "--bind", f"w={folder / 'w.npy'}")


@follows("frontend/training_steps.py: HINT", "driver/imported_step.py: HINT")
def steps_that_are_not_known(folder, _):
    """An optimizer that no step of ours is, another gradient than that of the loss; and the model itself."""
    given = X | {"t": X["x"]}
    loss = [*NODES, node("Sub", ["y", "t"], ["d"]), node("Mul", ["d", "d"], ["q"])]
    loss.append(node("ReduceMean", ["q"], ["loss"], keepdims=0))
    domain = "ai.onnx.preview.training"
    of_loss = node("Gradient", ["w"], ["g"], domain=domain, xs=["w"], y="loss")
    nesterov = {"alpha": 0.8, "beta": 1.0, "mode": "nesterov", "norm_coefficient": 0.5}
    names = ["rate", "count", "w", "g", "kept"]
    momentum = node("Momentum", names, ["w_out", "kept_out"], domain=domain, **nesterov)
    states = {"rate": np.zeros(1, np.float32), "count": np.zeros((), np.int64), "kept": WEIGHTS["w"]}
    steps = (
        ([*loss, of_loss, momentum], given | states, ["loss", "w_out", "kept_out"]),
        (
            [*loss, node("Sub", ["w", "w"], ["g"]), node("SGD", ["w", "g"], ["w_out"])],
            given,
            ["loss", "w_out"],
        ),
    )
    options = ("-o", folder / "out", "--stack", "1024", "--no-self-check")
    for nodes, inputs, outputs in steps:
        model = model_of(nodes, inputs, outputs, WEIGHTS)
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        assert "mmcc train on the model for inference" in mmcc("train", save(model, folder), *options, exit=4)
    mmcc("train", save(model_of(NODES, X, ["y"], WEIGHTS), folder), *options)
