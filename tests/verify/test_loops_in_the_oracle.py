# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime makes of loops whose bodies hand out values that none of their nodes makes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.frontend.handed_out import hand_out_copies
from mmcc.ir.interpret import evaluate_tensors
from mmcc.verification.oracle import Oracle
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick
STEPS = 4


def value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (2,)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def loop(handed: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """A carried value to which ones are added, and `handed` collected in each step."""
    flag, number = value("go", TensorProto.BOOL, ()), value("step", TensorProto.INT64, ())
    body = helper.make_graph(
        [helper.make_node("Add", ["c", "one"], ["c2"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [number, flag, value("c")],
        [value("on", TensorProto.BOOL, ()), value("c2"), *handed],
        [numpy_helper.from_array(np.ones(2, np.float32), "one")],
    )
    outputs = ["y", *(f"out{k}" for k in range(len(handed)))]
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "", "x"], outputs, body=body)],
        "g",
        [value("x")],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.int64(STEPS), "steps")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "handed",
    [[value("step", TensorProto.INT64, ())], [value("x")], [value("c2"), value("c2")], [value("c")]],
    ids=["the step", "from outside", "one value twice", "what was carried"],
)
def test_each_step_hands_out_its_own(handed, tmp_path) -> None:
    onnx.save(loop(handed), tmp_path / "m.onnx")
    x = np.array([3, 5], np.float32)
    names = ["y", *(f"out{k}" for k in range(len(handed)))]
    theirs = Oracle(tmp_path / "m.onnx", names).run({"x": x})
    before = [x + step for step in range(STEPS)]
    true = {"step": np.arange(STEPS), "x": [x] * STEPS, "c": before, "c2": [c + 1 for c in before]}
    graph = load_graph(tmp_path / "m.onnx", CompileOptions())
    arrays = evaluate_tensors(graph, {graph.inputs[0].tensor: x})
    for port, got, each in zip(graph.outputs, theirs, [None, *handed], strict=True):
        want = x + STEPS if each is None else np.array(true[each.name])
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(port.from_c(arrays[port.tensor], graph.tensors[port.tensor]), want)


def test_copies_have_names_of_their_own() -> None:
    model = loop([value("step", TensorProto.INT64, ())])
    model.graph.input[0].name = "step_copy"
    model.graph.node[0].input[2] = "step_copy"
    assert hand_out_copies(model)
    (body,) = (a.g for a in model.graph.node[0].attribute if a.name == "body")
    assert body.output[2].name == "step_copy_"
    assert not hand_out_copies(model)
