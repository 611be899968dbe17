# SPDX-License-Identifier: Apache-2.0
"""Graphs that are steps of training already: the error says whose they are, and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick

PREVIEW = "ai.onnx.preview.training"
MOMENTUM = {"mode": "standard", "alpha": 0.9, "beta": 1.0, "norm_coefficient": 0.0}
STEPS = {
    "Gradient": (PREVIEW, ["w", "g"], {"xs": ["w"], "zs": ["g"], "y": "s"}, "ONNX's preview of training"),
    "Momentum": (PREVIEW, ["r", "t", "w", "g", "w"], MOMENTUM, "ONNX's preview of training"),
    "Adam": (PREVIEW, ["r", "t", "w", "g", "w", "w"], {}, "ONNX's preview of training"),
    "ReluGrad": ("com.microsoft", ["g", "w"], {}, "ONNX Runtime's training artifacts"),
    "SoftmaxGrad_13": ("com.microsoft", ["g", "w"], {}, "ONNX Runtime's training artifacts"),
    "SGDOptimizerV2": ("com.microsoft", ["w", "r", "g"], {}, "ONNX Runtime's training artifacts"),
    "InPlaceAccumulatorV2": ("com.microsoft", ["w", "g"], {}, "ONNX Runtime's training artifacts"),
    "SGD": ("", ["w", "g"], {"lr": 0.1}, "Deeploy"),
}


def refused(folder: Path, *nodes: onnx.NodeProto) -> CompileError:
    shapes = {"w": [2, 3], "g": [2, 3], "r": [1], "t": [1]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])]
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 17), ("com.microsoft", 1), (PREVIEW, 1))]
    graph = helper.make_graph(nodes, "step", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "step.onnx")
    with pytest.raises(CompileError) as caught:
        import_model(folder / "step.onnx")
    assert caught.value.exit is Exit.UNSUPPORTED
    return caught.value


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_training_is_known(name: str, tmp_path: Path) -> None:
    domain, operands, attributes, writer = STEPS[name]
    error = refused(tmp_path, helper.make_node(name, operands, ["y"], domain=domain, **attributes))
    assert (
        f"{name} (domain {domain or 'ai.onnx'}), once, of a step of training as {writer} has it"
        in error.message
    )
    assert error.hint.startswith("mmcc train on the model for inference")
    assert "code of yours" not in error.hint


def test_other_operators_are_those_of_the_user(tmp_path: Path) -> None:
    step = helper.make_node("SGD", ["w", "g"], ["a"], lr=np.float32(0.1))
    error = refused(tmp_path, step, helper.make_node("Mine", ["a"], ["y"], domain="com.microsoft"))
    assert error.message.count("of a step of training") == 1
    assert "mmcc train" in error.hint
    assert "code of yours" in error.hint
