# SPDX-License-Identifier: Apache-2.0
"""NonMaxSuppression: the boxes that ONNX Runtime finds, and rows of -1 behind them."""

from __future__ import annotations

import mmcc
import numpy as np
import onnx
import onnxruntime
import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError
from mmcc.frontend.row_rules import RULES
from mmcc.verification.oracle import Oracle
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick


def detector(batches, classes, boxes, count, *, overlap=None, threshold=None, centred=0, picks=False):
    """Boxes and scores that are halved, so that neither is an input as it came; `picks`: the boxes found."""
    constants = {"half": np.float32(0.5), "count": np.array([count], np.int64)}
    operands = ["b", "s", "count"]
    for name, value in (("overlap", overlap), ("threshold", threshold)):
        operands.append(name if value is not None else "")
        if value is not None:
            constants[name] = np.array([value], np.float32)
    while not operands[-1]:
        operands.pop()
    nodes = [
        helper.make_node("Mul", ["boxes", "half"], ["b"]),
        helper.make_node("Mul", ["scores", "half"], ["s"]),
        helper.make_node("NonMaxSuppression", operands, ["found"], center_point_box=centred),
    ]
    outputs = {"found": TensorProto.INT64}
    if picks:
        constants |= {"zero": np.array(0), "two": np.array(2)}
        nodes += [
            helper.make_node("Gather", ["found", "two"], ["which"], axis=1),
            helper.make_node("Gather", ["b", "zero"], ["first"], axis=0),
            helper.make_node("Gather", ["first", "which"], ["picked"], axis=0),
        ]
        outputs["picked"] = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "detector",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batches, boxes, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batches, classes, boxes]),
        ],
        [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def made_up(rng, batches, classes, boxes, *, centred):
    """Boxes in clusters, a few without area or with corners in another order; many equal scores."""
    corner = rng.integers(0, 4, (batches, boxes, 2)) + rng.random((batches, boxes, 2)) * 0.5
    size = rng.choice([0.0, 0.5, 1.0, 1.5, -1.0], (batches, boxes, 2), p=[0.05, 0.3, 0.3, 0.3, 0.05])
    both = [corner, np.abs(size)] if centred else [corner, corner + size]
    scores = rng.integers(0, 9, (batches, classes, boxes)) / 8
    return np.concatenate(both, -1).astype(np.float32), scores.astype(np.float32)


CASES = {
    "one": (1, 1, 1, 3, {}),
    "overlap": (1, 2, 30, 8, {"overlap": 0.3, "threshold": 0.2}),
    "batches": (3, 4, 17, 5, {"overlap": 0.5, "threshold": 0.1}),
    "all": (2, 1, 12, 99, {"overlap": 1.0}),
    "centred": (1, 3, 25, 6, {"overlap": 0.4, "threshold": 0.05, "centred": 1}),
    "none": (1, 2, 9, 4, {"overlap": 0.4, "threshold": 7.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_boxes_of_onnx_runtime(name, tmp_path):
    batches, classes, boxes, count, more = CASES[name]
    onnx.save(detector(batches, classes, boxes, count, **more), tmp_path / "m.onnx")
    made = mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    oracle = Oracle(tmp_path / "m.onnx", ["found"])
    assert mmcc.verify(tmp_path / "m", per_node=True)["ok"]
    rng = np.random.default_rng(len(name))
    for _ in range(6):
        b, s = made_up(rng, batches, classes, boxes, centred=bool(more.get("centred")))
        (got,), (want,) = made.run([b, s]), oracle.run({"boxes": b, "scores": s})
        np.testing.assert_array_equal(got, want)
        assert got.shape == (batches * classes * min(count, boxes), 3)


def test_the_rows_of_onnx_runtime_itself_come_first(tmp_path):
    """The oracle is the model with more nodes; this one is as it is in the file."""
    model = detector(1, 2, 30, 8, overlap=0.3, threshold=0.2)
    onnx.save(model, tmp_path / "m.onnx")
    made = mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    header = (tmp_path / "m" / "m.h").read_text()
    assert [line for line in header.splitlines() if "-1 behind the last box" in line and '"found"' in line]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for seed in range(9):
        b, s = made_up(np.random.default_rng(seed), 1, 2, 30, centred=False)
        (got,), (want,) = made.run([b, s]), session.run(None, {"boxes": b, "scores": s})
        np.testing.assert_array_equal(got[: len(want)], want)
        assert (got[len(want) :] == -1).all()


def test_what_reads_the_boxes_found(tmp_path):
    """An index of -1 is the last box; ONNX Runtime and the C agree on all rows."""
    onnx.save(detector(1, 1, 20, 7, overlap=0.2, threshold=0.3, picks=True), tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m", ram="min")
    data = [made_up(np.random.default_rng(seed), 1, 1, 20, centred=False) for seed in range(5)]
    arrays = {f"input_{k}": np.stack([sample[k] for sample in data]) for k in range(2)}
    np.savez(tmp_path / "data.npz", **arrays)
    found = mmcc.verify(tmp_path / "m", data=tmp_path / "data.npz", per_node=True)
    assert found["ok"]
    assert found["max_abs"] == 0


def found_in(place):
    """The detector with its NonMaxSuppression in a function of the model's own, or a branch that is taken."""
    model = detector(1, 1, 6, 4, overlap=0.3, threshold=0.4)
    *halves, node = model.graph.node
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    if place == "function":
        names = [*node.input]
        model.functions.append(helper.make_function("own", "Detect", names, ["found"], [node], opsets[:1]))
        call = helper.make_node("Detect", names, ["found"], domain="own")
    else:
        results = [helper.make_tensor_value_info("inside", TensorProto.INT64, [None, 3])]
        node.output[0] = "inside"
        inside = helper.make_graph([node], "taken", [], results)
        call = helper.make_node("If", ["yes"], ["found"], then_branch=inside, else_branch=inside)
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    del model.graph.node[:], model.opset_import[:]
    model.graph.node.extend([*halves, call])
    model.opset_import.extend(opsets)
    return model


@pytest.mark.parametrize("place", ["function", "branch", "untyped"])
def test_verified_wherever_it_is_and_whatever_its_output_says(place, tmp_path):
    model = detector(1, 1, 6, 4, overlap=0.3, threshold=0.4) if place == "untyped" else found_in(place)
    if place == "untyped":
        model.graph.output[0].ClearField("type")
    onnx.save(model, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    assert mmcc.verify(tmp_path / "m", per_node=True)["ok"]


def test_rows_are_compared_with_those_that_onnx_runtime_has_itself(tmp_path, monkeypatch):
    """A compiler takes the last of all rows for the last found, as the model with all rows does."""
    model = detector(1, 1, 20, 7, threshold=0.3)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    model.graph.node.append(helper.make_node("Gather", ["found", "last"], ["row"]))
    model.graph.node.append(helper.make_node("Sub", ["found", "row"], ["y"]))
    model.graph.output[0].name = "y"
    onnx.save(model, tmp_path / "m.onnx")
    monkeypatch.setitem(RULES, "Gather", lambda step: None)
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    boxes, scores = made_up(np.random.default_rng(0), 1, 1, 20, centred=False)
    scores[:] = np.arange(20) / 25  # 5 of them above the threshold
    np.savez(tmp_path / "data.npz", input_0=boxes[None], input_1=scores[None])
    assert not mmcc.verify(tmp_path / "m", data=tmp_path / "data.npz")["ok"]


def test_boxes_and_scores_that_are_constants(tmp_path):
    """How many boxes there are is known: there are no rows of -1, and what sums them up is right."""
    rng = np.random.default_rng(0)
    constants = {
        "boxes": rng.random((1, 6, 4)).astype(np.float32),
        "scores": rng.random((1, 1, 6)).astype(np.float32),
        "count": np.array([4]),
        "overlap": np.array([0.1], np.float32),
    }
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "count", "overlap"], ["found"]),
        helper.make_node("Cast", ["found"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    x = np.zeros(2, np.float32)
    path = save(model_of(nodes, {"x": x}, ["y"], constants), tmp_path)
    (got,) = mmcc.compile_model(path, tmp_path / "m").run([x])
    np.testing.assert_array_equal(got, onnxruntime.InferenceSession(path).run(None, {"x": x})[0])
    assert mmcc.verify(tmp_path / "m")["ok"]


@pytest.mark.parametrize("op", ["ReduceMax", "Shape"])
def test_what_goes_from_row_to_row_is_refused(op, tmp_path):
    """It would take rows that are not there for others."""
    model = detector(1, 1, 20, 7, picks=True)
    model.graph.node.append(helper.make_node(op, ["picked"], ["mixed"]))
    model.graph.output.append(helper.make_empty_tensor_value_info("mixed"))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CompileError, match=f"{op}|may mix rows") as caught:
        mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    assert caught.value.code == "MM202"


def test_scores_that_are_no_numbers_never_count(tmp_path):
    onnx.save(detector(1, 1, 4, 4), tmp_path / "m.onnx")
    made = mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    boxes = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    (got,) = made.run([boxes, np.array([[[1, np.nan, -np.inf, np.inf]]], np.float32)])
    assert got[:, 2].tolist() == [3, 0, 2, -1]


@pytest.mark.parametrize(("count", "code"), [(0, "MM202"), (3, "MM104")])
def test_refused(count, code, tmp_path):
    model = detector(1, 1, 4, count, overlap=0.5 if count == 0 else 1.5)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CompileError, match="empty" if count == 0 else "between 0 and 1") as caught:
        mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    assert caught.value.code == code
