# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime makes of loops and branches that hand out values that none of their nodes makes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.frontend.handed_out import rewrite_bodies
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


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
@pytest.mark.parametrize("place", [0, 1])
def test_results_may_be_left_out(kind, place, tmp_path) -> None:
    """ONNX Runtime 1.32 ends the process where a Loop leaves one out, and refuses such a Scan."""
    model = loop([value("c2")])
    node = model.graph.node[0]
    if kind == "Scan":
        body = node.attribute[0].g
        del body.input[:2], body.node[1:], body.output[:1]
        body.input.append(value("row"))
        node.op_type = "Scan"
        node.input[:] = ["x", "rows"]
        node.attribute.append(helper.make_attribute("num_scan_inputs", 1))
        del model.graph.initializer[:]
        model.graph.input.append(value("rows", shape=(STEPS, 2)))
    node.output[place] = ""
    del model.graph.output[place]
    onnx.save(model, tmp_path / "m.onnx")
    given = {
        port.name: np.ones([d.dim_value for d in port.type.tensor_type.shape.dim], np.float32)
        for port in model.graph.input
    }
    (theirs,) = Oracle(tmp_path / "m.onnx", [node.output[1 - place]]).run(given)
    graph = load_graph(tmp_path / "m.onnx", CompileOptions())
    arrays = evaluate_tensors(graph, {port.tensor: given[port.onnx_name] for port in graph.inputs})
    (port,) = graph.outputs
    np.testing.assert_array_equal(port.from_c(arrays[port.tensor], graph.tensors[port.tensor]), theirs)


def test_copies_have_names_of_their_own() -> None:
    model = loop([value("step", TensorProto.INT64, ())])
    model.graph.input[0].name = "step_copy"
    model.graph.node[0].input[2] = "step_copy"
    assert rewrite_bodies(model)
    (body,) = (a.g for a in model.graph.node[0].attribute if a.name == "body")
    assert body.output[2].name == "step_copy_"
    assert not rewrite_bodies(model)


@pytest.mark.parametrize("outside", ["x", "w"])
@pytest.mark.parametrize("number", [3.0, -3.0])
def test_a_branch_may_hand_out_what_is_outside(outside, number, tmp_path) -> None:
    """ONNX Runtime 1.32 refuses such an If. The other branch hands out a constant of its own, twice."""
    there = helper.make_graph([], "there", [], [value(outside), value(outside)])
    own = numpy_helper.from_array(np.array([7, 8], np.float32), "own")
    other = helper.make_graph([], "other", [], [value("own"), value("own")], [own])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y", "z"], then_branch=there, else_branch=other),
    ]
    stored = {"zero": np.float32(0), "w": np.array([5, 6], np.float32)}
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y"), value("z")], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    x = np.array([number, number], np.float32)
    theirs = Oracle(tmp_path / "m.onnx", ["y", "z"]).run({"x": x})
    want = {"x": x, "w": stored["w"]}[outside] if number > 0 else [7, 8]
    graph = load_graph(tmp_path / "m.onnx", CompileOptions())
    arrays = evaluate_tensors(graph, {graph.inputs[0].tensor: x})
    for port, got in zip(graph.outputs, theirs, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(port.from_c(arrays[port.tensor], graph.tensors[port.tensor]), want)
