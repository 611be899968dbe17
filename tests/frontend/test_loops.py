# SPDX-License-Identifier: Apache-2.0
"""Loop and Scan whose steps are known stand in the graph step by step; what they make of slices, at once."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, kinds, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick

node = helper.make_node
RNG = np.random.default_rng(6)
STEPS, WIDE = 5, 4


def some(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def names(*found: str, kind: int = TensorProto.FLOAT):
    shape = None if kind == TensorProto.FLOAT else []
    return [helper.make_tensor_value_info(name, kind, shape) for name in found]


def scan(feeds: int = 1, *, axis: int = 0, **attributes):
    """h' = tanh(x W + b + h R); h' and what it grew by are kept of all steps."""
    nodes = [
        node("MatMul", ["xt", "W"], ["p"]),
        node("Add", ["p", "b"], ["q"]),
        node("MatMul", ["h", "R"], ["r"]),
        node("Add", ["q", "r"], ["s"]),
        node("Tanh", ["s"], ["h_next"]),
        node("Sub", ["h_next", "h"], ["grown"]),
        node("Identity", ["h_next"], ["y"]),
    ]
    inside = [numpy_helper.from_array(some(WIDE), "b")]
    body = helper.make_graph(nodes, "body", names("h", "xt"), names("h_next", "y", "grown"), inside)
    shape = [2, 3]
    shape.insert(axis, STEPS)
    given = {"x": some(*shape), "h0": some(2, WIDE)}
    model = model_of(
        [node("Scan", ["h0", "x"], ["hn", "y", "grown"], body=body, num_scan_inputs=1, **attributes)],
        given,
        ["hn", "y", "grown"],
        {"W": some(3, WIDE), "R": some(WIDE, WIDE)},
    )
    return model, given


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"scan_input_directions": [1], "scan_output_directions": [1, 0]},
        {"axis": 1, "scan_input_axes": [1], "scan_output_axes": [2, -1]},
        {"axis": 2, "scan_input_axes": [-1], "scan_input_directions": [1], "scan_output_directions": [0, 1]},
    ],
)
def test_a_scan(form, tmp_path):
    graph = check(*scan(**form), tmp_path)
    # the product of the input is there once, of h in every step
    assert kinds(graph).count("Dense") == 1 + STEPS


def loop(limit="trip", condition="yes", going="go", constants=None, before=()):
    """As Keras layers are exported: the body takes its slice by the number of the step."""
    nodes = [
        *before,
        node("Gather", ["x", "step"], ["xt"], axis=1),
        node("Gemm", ["xt", "W", "b"], ["p"], transB=1, alpha=0.5),
        node("Add", ["p", "h"], ["s"]),
        node("Sigmoid", ["s"], ["h_next"]),
        node("Mul", ["h_next", "h_next"], ["kept"]),
    ]
    inputs = [*names("step", kind=TensorProto.INT64), *names("go_on", kind=TensorProto.BOOL), *names("h")]
    outputs = [*names("going", kind=TensorProto.BOOL), *names("h_next", "kept")]
    last = node("Identity", ["go_on"], ["going"]) if going == "go" else node("Not", ["go_on"], ["going"])
    body = helper.make_graph([*nodes, last], "body", inputs, outputs)
    given = {"x": some(1, STEPS, 3), "h0": some(1, WIDE)}
    known = {"W": some(WIDE, 3), "b": some(WIDE), "trip": np.int64(STEPS), "yes": np.array(True)}
    steps = [node("Loop", [limit, condition, "h0"], ["hn", "all"], body=body)]
    return model_of(steps, given, ["hn", "all"], known | (constants or {})), given


@pytest.mark.parametrize(
    ("form", "steps"),
    [
        ({}, STEPS),
        ({"condition": ""}, STEPS),
        ({"going": "stop"}, 1),
        ({"limit": "", "going": "stop"}, 1),
        ({"constants": {"trip": np.int64(2**63 - 1)}, "going": "stop"}, 1),
        ({"constants": {"trip": np.int64(3)}}, 3),
    ],
)
def test_a_loop(form, steps, tmp_path):
    if form.get("condition") == "":
        form = {**form, "constants": {"none": np.array(True)}}
    graph = check(*loop(**form), tmp_path)
    assert kinds(graph).count("Unary") == steps
    if form.get("limit") != "":
        assert kinds(graph).count("Dense") == 1


def refused(model, tmp_path, what: str) -> None:
    with pytest.raises(CompileError, match=what):
        import_model(save(model, tmp_path))


def test_what_is_known_only_at_run_time(tmp_path):
    model, given = loop(limit="n")
    model.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, []))
    refused(model, tmp_path, "whose number of steps is known only at run time")
    import_model(save(model, tmp_path), bind={"n": STEPS})
    assert given


def test_loops_that_are_too_long_or_make_nothing(tmp_path):
    refused(loop(constants={"trip": np.int64(10**9)})[0], tmp_path, "more than 8,192 nodes")
    refused(loop(constants={"trip": np.int64(0)})[0], tmp_path, "of no steps")


def test_a_limit_beyond_all_counts_is_no_number_of_steps(tmp_path, monkeypatch):
    """As a `while` has it, which ends by its condition, here after more steps than are looked at for it."""
    monkeypatch.setattr("mmcc.frontend.known_values.MOST_RUNS", 10)
    monkeypatch.setattr("mmcc.frontend.loops.MAX_NODES", 40)
    whole, truth = {"kind": TensorProto.INT64}, {"kind": TensorProto.BOOL}
    nodes = [
        node("Add", ["count", "one"], ["next"]),
        node("Less", ["next", "many"], ["going"]),
        node("Sin", ["h"], ["h_next"]),
    ]
    inputs = [*names("step", **whole), *names("go_on", **truth), *names("count", **whole), *names("h")]
    outputs = [*names("going", **truth), *names("next", **whole), *names("h_next")]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    steps = [node("Loop", ["trip", "", "zero", "h0"], ["n", "hn"], body=body)]
    numbers = {"trip": 2**63 - 1, "zero": 0, "one": 1, "many": 90}
    model = model_of(steps, {"h0": some(1, WIDE)}, ["hn"], {k: np.int64(v) for k, v in numbers.items()})
    refused(model, tmp_path, r"\(how many steps it makes is not known before its first\)")


def test_what_steps_hand_on_keeps_its_type(tmp_path):
    """ONNX Runtime refuses it, too; a long loop is no other case."""
    for steps in (3, 600):
        model, _ = loop(constants={"trip": np.int64(steps)})
        (body,) = (a.g for a in model.graph.node[-1].attribute if a.name == "body")
        name = body.output[1].name
        body.node.append(helper.make_node("Cast", [name], ["whole"], to=TensorProto.INT32))
        body.output[1].name, body.output[1].type.tensor_type.elem_type = "whole", TensorProto.INT32
        refused(model, tmp_path, "which steps hand on, is f32, and a step makes i32 of it")


def test_rows_of_several_shapes_are_said_of_the_loop(tmp_path):
    """The last step's slice is shorter."""
    x = np.zeros((7, 3), np.float32)
    ports = [*names("i", kind=TensorProto.INT64), *names("go", kind=TensorProto.BOOL)]
    nodes = [
        helper.make_node("Mul", ["i", "two"], ["from"]),
        helper.make_node("Add", ["from", "two"], ["to"]),
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["row"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("on", "row")]
    node = helper.make_node("Loop", ["steps", ""], ["y"], body=helper.make_graph(nodes, "b", ports, outputs))
    stored = {"steps": np.int64(4), "two": np.array([2]), "axis": np.array([0])}
    model = model_of([node], {"x": x}, ["y"], stored)
    with pytest.raises(CompileError, match=r"its steps make rows of shapes \[2, 3\], \[1, 3\]") as told:
        import_model(save(model, tmp_path))
    assert told.value.at[0].op == "Loop"


def test_a_loop_of_no_steps_hands_on_what_it_began_with(tmp_path):
    """And what its steps would have made is an array of no rows."""
    rows = helper.make_tensor_value_info("row", TensorProto.FLOAT, [3])
    nodes = [
        node("Add", ["v", "x"], ["v_next"]),
        node("Identity", ["c"], ["c_next"]),
        node("Neg", ["v_next"], ["row"]),
    ]
    into = [*names("i", kind=TensorProto.INT64), *names("c", kind=TensorProto.BOOL), *names("v")]
    out = [*names("c_next", kind=TensorProto.BOOL), *names("v_next"), rows]
    body = helper.make_graph(nodes, "body", into, out)
    whole = [
        node("Loop", ["trip", "", "h"], ["last", "all"], body=body),
        node("Relu", ["last"], ["y"]),
        node("Concat", ["all", "x2"], ["z"], axis=0),
        node("Neg", ["z"], ["w"]),
    ]
    given = {"h": some(3), "x": some(3), "x2": some(2, 3)}
    graph = check(model_of(whole, given, ["y", "w"], {"trip": np.int64(0)}), given, tmp_path)
    assert kinds(graph) == ["Unary", "Unary"]


def test_loops_within_loops_are_bounded_together(tmp_path):
    inner = helper.make_graph(
        [node("Relu", ["v"], ["v_next"]), node("Identity", ["c2"], ["c2_next"])],
        "inner",
        [*names("i2", kind=TensorProto.INT64), *names("c2", kind=TensorProto.BOOL), *names("v")],
        [*names("c2_next", kind=TensorProto.BOOL), *names("v_next")],
    )
    outer = helper.make_graph(
        [
            node("Loop", ["many", "go_on", "u"], ["u_next"], body=inner),
            node("Identity", ["go_on"], ["going"]),
        ],
        "outer",
        [*names("i1", kind=TensorProto.INT64), *names("go_on", kind=TensorProto.BOOL), *names("u")],
        [*names("going", kind=TensorProto.BOOL), *names("u_next")],
    )
    loops = [node("Loop", ["many", "", "x"], ["y"], body=outer)]
    model = model_of(loops, {"x": some(1, 4)}, ["y"], {"many": np.int64(3)})
    assert kinds(check(model, {"x": some(1, 4)}, tmp_path)).count("Unary") == 9
    refused(model_of(loops, {"x": some(1, 4)}, ["y"], {"many": np.int64(1000)}), tmp_path, "8,192 nodes")


def test_bodies_that_do_not_fit(tmp_path):
    model, _ = scan()
    model.graph.node[0].attribute[0].g.input.pop()
    refused(model, tmp_path, "does not fit the Scan")
    model, _ = loop()
    model.graph.node[0].attribute[0].g.output.pop()
    refused(model, tmp_path, "does not fit the Loop")
    model, _ = scan()
    body = model.graph.node[0].attribute[0].g
    body.node[0].input[1] = "nowhere"
    refused(model, tmp_path, "nothing defines it")
    model, _ = loop()
    model.graph.node[0].attribute[0].g.node[1].output[0] = "h_next"
    refused(model, tmp_path, "defined twice")
