# SPDX-License-Identifier: Apache-2.0
"""If whose condition is known, by the model or by --bind, is the branch that is taken; else both are."""

from __future__ import annotations

import json

import mmcc
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from frontend_models import save
from mmcc.cli import main
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick


def branch(name: str, nodes, output: str, constants=()):
    info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(
        nodes, name, [], [info], [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in constants]
    )


def chosen(condition: str, inputs=(), constants=(), before=()):
    """y = x * 2 if the condition holds, else relu(x) - 1; both branches name what they make alike."""
    double = branch("a", [helper.make_node("Mul", ["x", "c"], ["inner"])], "inner", [("c", 2.0)])
    other = branch(
        "b",
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sub", ["r", "c"], ["inner"])],
        "inner",
        [("c", 1.0)],
    )
    nodes = [*before, helper.make_node("If", [condition], ["y"], then_branch=double, else_branch=other)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", [x, *inputs], [y], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)
RESULTS = {True: 2 * X, False: np.maximum(X, 0) - 1}


def result(path, **options):
    graph = import_model(path, **options)
    (port,) = graph.inputs
    (y,) = evaluate(graph, {port.tensor: port.to_c(X, graph.tensors[port.tensor])}).values()
    return y.reshape(1, 4)


@pytest.mark.parametrize("holds", [True, False])
def test_a_constant_condition(holds, tmp_path):
    constants = [helper.make_tensor("k", TensorProto.BOOL, [], [holds])]
    np.testing.assert_array_equal(result(save(chosen("k", constants=constants), tmp_path)), RESULTS[holds])


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_that_folding_makes_constant(holds, tmp_path):
    """As exporters write it: is the second axis of x four wide?"""
    before = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["n"]),
        helper.make_node("Equal", ["n", "four"], ["k"]),
    ]
    constants = [
        numpy_helper.from_array(np.int64(1), "one"),
        numpy_helper.from_array(np.int64(4 if holds else 5), "four"),
    ]
    model = chosen("k", constants=constants, before=before)
    np.testing.assert_array_equal(result(save(model, tmp_path)), RESULTS[holds])


def by_input(tmp_path):
    """The condition is whether the rate is 16000."""
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    before = [helper.make_node("Equal", ["rate", "high"], ["k"])]
    high = numpy_helper.from_array(np.int64(16000), "high")
    return save(chosen("k", [rate], [high], before), tmp_path)


@pytest.mark.parametrize("holds", [True, False])
def test_binding_an_input_makes_the_condition_constant(holds, tmp_path):
    path, rate = by_input(tmp_path), 16000 if holds else 8000
    (warning,) = import_model(path).warnings
    assert "both branches of the If, 3 nodes," in warning
    assert "--bind rate=VALUE" in warning
    np.testing.assert_array_equal(result(path, bind={"rate": rate}), RESULTS[holds])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_a_condition_that_is_an_input_chooses_at_run_time(shape, tmp_path):
    """By the values of the branch that is not taken nothing changes, be they infinite or no numbers."""
    condition = helper.make_tensor_value_info("k", TensorProto.BOOL, shape)
    other = branch("b", [helper.make_node("Log", ["x"], ["inner"])], "inner")
    model = chosen("k", [condition])
    else_branch(model).CopyFrom(other)
    out = tmp_path / "out"
    made = mmcc.compile_model(save(model, tmp_path), out)
    with np.errstate(all="ignore"):
        for holds, want in ((True, 2 * X), (False, np.log(X))):
            np.testing.assert_allclose(made.run([X, np.full(shape, holds)])[0], want, 1e-6)
    assert mmcc.verify(out, per_node=True)["ok"]


def test_branches_with_branches_and_several_results_that_are_chosen_at_run_time(tmp_path):
    inner = helper.make_node(
        "If",
        ["j"],
        ["v"],
        then_branch=branch("p", [helper.make_node("Exp", ["x"], ["e"])], "e"),
        else_branch=branch("q", [helper.make_node("Abs", ["x"], ["e"])], "e"),
    )
    first = branch("a", [inner, helper.make_node("ReduceMax", ["x"], ["w"], keepdims=0)], "v")
    other = branch(
        "b",
        [helper.make_node("Neg", ["x"], ["v"]), helper.make_node("ReduceMin", ["x"], ["w"], keepdims=0)],
        "v",
    )
    for graph in (first, other):
        graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, None))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    switches = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in "kj"]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("m", TensorProto.FLOAT, []),
    ]
    node = helper.make_node("If", ["k"], ["y", "m"], then_branch=first, else_branch=other)
    graph = helper.make_graph([node], "g", [x, *switches], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = mmcc.compile_model(save(model, tmp_path), tmp_path / "out")
    want = {(True, True): np.exp(X), (True, False): np.abs(X), (False, True): -X, (False, False): -X}
    for (k, j), y in want.items():
        got, most = made.run([X, np.array(k), np.array(j)])
        np.testing.assert_allclose(got, y, 1e-6)
        assert most == (X.max() if k else X.min())


@pytest.mark.parametrize("why", ["of shapes", "cannot compute both of its branches: Bernoulli"])
def test_a_choice_at_run_time_that_cannot_be_made_says_why_and_how(why, tmp_path):
    """What is wrong with a branch does not matter once --bind takes the other."""
    other = (
        helper.make_node("ReduceSum", ["x"], ["inner"])
        if why == "of shapes"
        else helper.make_node("Bernoulli", ["x"], ["inner"])
    )
    model = chosen("k", [helper.make_tensor_value_info("k", TensorProto.BOOL, [])])
    else_branch(model).CopyFrom(branch("b", [other], "inner"))
    path = save(model, tmp_path)
    with pytest.raises(CompileError, match=why) as caught:
        import_model(path)
    assert caught.value.hint.startswith("--bind k=VALUE")
    np.testing.assert_array_equal(result(path, bind={"k": True}), RESULTS[True])


def test_branches_whose_results_are_of_two_types_are_no_if(tmp_path):
    model = chosen("k", [helper.make_tensor_value_info("k", TensorProto.BOOL, [])])
    other = helper.make_node("Cast", ["x"], ["inner"], to=TensorProto.INT64)
    else_branch(model).CopyFrom(branch("b", [other], "inner"))
    with pytest.raises(CompileError, match='make "y" of types f32 and i64') as caught:
        import_model(save(model, tmp_path))
    assert caught.value.code == "MM104"


def test_nothing_is_said_of_branches_without_work(tmp_path):
    """Each is a value that is there anyway."""
    model = chosen("k", [helper.make_tensor_value_info("k", TensorProto.BOOL, [])])
    for attribute in model.graph.node[-1].attribute:
        attribute.g.CopyFrom(branch("b", [helper.make_node("Identity", ["x"], ["inner"])], "inner"))
    assert import_model(save(model, tmp_path)).warnings == ()
    else_branch(model).CopyFrom(branch("b", [helper.make_node("Neg", ["x"], ["inner"])], "inner"))
    (warning,) = import_model(save(model, tmp_path)).warnings
    assert "both branches of the If, 1 node, are computed" in warning


def test_a_condition_on_data_is_not_to_be_bound(tmp_path):
    """As a network whose result decides whether another looks again."""
    before = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "half"], ["k"]),
    ]
    half = numpy_helper.from_array(np.float32(0.5), "half")
    model = chosen("k", constants=[half], before=before)
    (warning,) = import_model(save(model, tmp_path)).warnings
    assert "--bind" not in warning
    for scale in (1, -1 / 8):
        graph = import_model(save(model, tmp_path))
        (port,) = graph.inputs
        x = (X * scale).astype(np.float32)
        (y,) = evaluate(graph, {port.tensor: port.to_c(x, graph.tensors[port.tensor])}).values()
        np.testing.assert_array_equal(y.reshape(1, 4), 2 * x if scale == 1 else np.maximum(x, 0) - 1)
    else_branch(model).CopyFrom(branch("b", [helper.make_node("Bernoulli", ["x"], ["inner"])], "inner"))
    with pytest.raises(CompileError) as caught:
        import_model(save(model, tmp_path))
    assert caught.value.hint.startswith("ending the model before it")


def test_a_bound_package_is_verified_with_what_was_bound(tmp_path):
    for value in (16000, 8000):
        out = tmp_path / f"out{value}"
        made = mmcc.compile_model(by_input(tmp_path), out, bind={"rate": value})
        np.testing.assert_array_equal(made.run([X])[0], RESULTS[value == 16000])
        assert mmcc.verify(out, per_node=True)["ok"]


def test_bind_on_the_command_line(tmp_path):
    path = str(by_input(tmp_path))
    np.save(tmp_path / "rate.npy", np.int64(8000))
    for value in ("16000", "[16000]", str(tmp_path / "rate.npy")):
        done = CliRunner().invoke(main, ["check", path, "--bind", f"rate={value}", "--json"])
        assert done.exit_code == 0, done.output
        assert len(json.loads(done.stdout)["inputs"]) == 1
    for wrong in ("rate", "rate=", "rate=x", "rat=1", "rate=1.5", "rate=[1,2]", "rate=no.npy", 'rate="a"'):
        done = CliRunner().invoke(main, ["check", path, "--bind", wrong])
        assert done.exit_code == 2, (wrong, done.output)
        assert "MM112" in done.output


def else_branch(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(a.g for a in model.graph.node[-1].attribute if a.name == "else_branch")


def nested(depth: int) -> onnx.GraphProto:
    inner = branch("leaf", [helper.make_node("Abs", ["x"], ["v"])], "v")
    for _ in range(depth):
        node = helper.make_node("If", ["k"], ["v"], then_branch=inner, else_branch=inner)
        inner = branch("outer", [node], "v")
    return inner


@pytest.mark.parametrize(("depth", "code"), [(6, None), (20, "MM105")])
def test_branches_in_branches(depth, code, tmp_path):
    """Each level has both its branches in the file; only the one that is taken is looked at."""
    graph = nested(min(depth, 6)) if code is None else None
    if graph is None:  # one branch a level, or the file would be too large
        graph = branch("leaf", [helper.make_node("Abs", ["x"], ["v"])], "v")
        empty = branch("none", [helper.make_node("Neg", ["x"], ["v"])], "v")
        for _ in range(depth):
            node = helper.make_node("If", ["k"], ["v"], then_branch=graph, else_branch=empty)
            graph = branch("outer", [node], "v")
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]))
    graph.initializer.append(helper.make_tensor("k", TensorProto.BOOL, [], [True]))
    path = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path)
    if code is None:
        np.testing.assert_array_equal(result(path), np.abs(X))
    else:
        with pytest.raises(CompileError, match="nested more than") as caught:
            import_model(path)
        assert caught.value.code == code


def test_a_branch_that_reads_what_nothing_defines(tmp_path):
    constants = [helper.make_tensor("k", TensorProto.BOOL, [], [True])]
    model = chosen("k", constants=constants)
    model.graph.node[0].attribute[0].g.node[0].input[0] = "nowhere"
    model.graph.node[0].attribute[1].g.node[0].input[0] = "nowhere"
    with pytest.raises(CompileError, match='"nowhere" is read but nothing defines it'):
        import_model(save(model, tmp_path))


@pytest.mark.parametrize("change", ["surprise", "missing", "retyped", "operand"])
def test_an_if_follows_its_schema(change, tmp_path):
    model = chosen("k", constants=[helper.make_tensor("k", TensorProto.BOOL, [], [True])])
    node = model.graph.node[-1]
    match change:
        case "surprise":
            node.attribute.append(helper.make_attribute("alpha", 0.5))
        case "missing":  # the branch that is not taken
            del node.attribute[next(k for k, a in enumerate(node.attribute) if a.name == "else_branch")]
        case "retyped":
            node.attribute[0].type = onnx.AttributeProto.GRAPHS
        case _:
            node.input.append("x")
    says = {"surprise": 'no attribute "alpha"', "missing": "else_branch is missing"}
    says |= {"retyped": "is not of type GRAPH", "operand": "2 operands, not 1 to 1"}
    with pytest.raises(CompileError, match=says[change]) as caught:
        import_model(save(model, tmp_path))
    assert caught.value.code == "MM103"
