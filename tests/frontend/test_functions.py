# SPDX-License-Identifier: Apache-2.0
"""Functions that a model defines: inlined, of whichever operator set, or refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import save
from hostile_models import fails, node, small
from mmcc.errors import Exit
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick


def test_functions_are_inlined(tmp_path):
    body = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = small(node("Twice", ["x"], ["t"], domain="mine"), node("Relu", ["t"], ["y"]))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(body)
    assert len(import_model(save(model, tmp_path)).nodes) == 2
    body.node[0].CopyFrom(node("Twice", ["a"], ["b"], domain="mine"))
    model.functions[0].CopyFrom(body)
    fails(model, tmp_path, "MM102", "calls itself")


def chained(count, last):
    """Functions of which each calls the next, and the last one another."""
    names = [f"F{k}" for k in range(count)]
    model = small(node("F0", ["x"], ["t"], domain="mine"), node("Relu", ["t"], ["y"]))
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    model.opset_import.append(sets[1])
    for name, called in zip(names, [*names[1:], last], strict=True):
        domain = "mine" if called in names else ""
        body = [node(called, ["a"], ["b"], domain=domain)]
        model.functions.append(helper.make_function("mine", name, ["a"], ["b"], body, sets))
    return model


def test_how_a_function_comes_to_call_itself_is_said(tmp_path):
    fails(chained(4, "F1"), tmp_path, "MM102", 'function "F1" calls itself through "F2", "F3"')
    many = 'calls itself through "F1", "F2", "F3", "F4", "F5", "F6", "F7", ..., "F19"'
    fails(chained(20, "F0"), tmp_path, "MM102", many)
    fails(chained(60, "Neg"), tmp_path, "MM102", "by more than 50 others, one by the other")
    assert len(import_model(save(chained(40, "Neg"), tmp_path)).nodes) == 2


@pytest.mark.parametrize("own", [13, 18, 21])
def test_functions_of_another_operator_set_are_inlined(own, tmp_path):
    """Abs, Add and Cast only learned types since 13; onnx leaves the calls of such functions, silently."""
    nodes = [
        node("Abs", ["a"], ["p"]),
        node("Cast", ["p"], ["q"], to=TensorProto.FLOAT),
        node("Add", ["q", "a"], ["b"]),
    ]
    model = small(node("Twice", ["x"], ["t"], domain="mine"), node("Relu", ["t"], ["y"]))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(
        helper.make_function("mine", "Twice", ["a"], ["b"], nodes, [helper.make_opsetid("", own)])
    )
    graph = import_model(save(model, tmp_path))
    x = np.random.default_rng(3).normal(size=graph.inputs[0].onnx_shape).astype(np.float32)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], np.maximum(np.abs(x) + x, 0))


def test_functions_whose_operators_changed_are_refused(tmp_path):
    """Axes of ReduceMean were an attribute in operator set 17, and are an operand in that of the model."""
    nodes = [node("ReduceMean", ["a"], ["b"], axes=[1])]
    model = small(node("Mean", ["x"], ["t"], domain="mine"), node("Relu", ["t"], ["y"]))
    model.opset_import[0].version = 18
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(
        helper.make_function("mine", "Mean", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    )
    what = "of operator set 17, in which ReduceMean is another than in that of the model, 18"
    fails(model, tmp_path, "MM204", what, exit=Exit.UNSUPPORTED)


def _with_functions(opset, **functions):
    """A model that calls F; functions by name, (operator set, nodes from a to b)."""
    model = small(node("F", ["x"], ["y"], domain="mine"), opset=opset)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    for name, (own, nodes) in functions.items():
        sets = [helper.make_opsetid("", own)]
        model.functions.append(helper.make_function("mine", name, ["a"], ["b"], nodes, sets))
    return model


def test_functions_that_nobody_calls_may_be_of_any_operator_set(tmp_path):
    unread = (17, [node("ReduceMean", ["a"], ["b"], axes=[1])])
    import_model(save(_with_functions(18, F=(18, [node("Relu", ["a"], ["b"])]), G=unread), tmp_path))


def test_an_attribute_of_types_that_did_not_exist_is_no_change(tmp_path):
    """Cast learned how to round to a kind of float8 in operator set 24."""
    cast = [node("Cast", ["a"], ["b"], to=TensorProto.INT32)]
    import_model(save(_with_functions(25, F=(21, cast)), tmp_path))


@pytest.mark.parametrize(("own", "of_model"), [(13, 17), (17, 13)])
def test_an_attribute_that_a_node_does_not_have_is_no_change(own, of_model, tmp_path):
    """Reshape learned `allowzero` in operator set 14, Shape `start` and `end` in 15: with these it is one."""
    nodes = [node("Shape", ["a"], ["s"]), node("Reshape", ["a", "s"], ["b"])]
    import_model(save(_with_functions(of_model, F=(own, nodes)), tmp_path))
    if own > of_model:
        nodes = [node("Shape", ["a"], ["s"], start=0), node("Reshape", ["a", "s"], ["b"])]
        model = _with_functions(of_model, F=(own, nodes))
        fails(model, tmp_path, "MM204", "Shape", exit=Exit.UNSUPPORTED)


def test_an_operator_that_means_something_else_is_refused(tmp_path):
    """Slopes of channels and of the last axis look alike; so do two origins of pixels, and training."""
    for name, versions in (("PRelu", (6, 7)), ("RoiAlign", (15, 16)), ("Dropout", (6, 7))):
        nodes = [node(name, ["a"] * (3 if name == "RoiAlign" else 1 + (name == "PRelu")), ["b"])]
        model = _with_functions(versions[1], F=(versions[0], nodes))
        fails(model, tmp_path, "MM204", name, exit=Exit.UNSUPPORTED)


def test_an_unknown_operator_hides_no_change_of_others(tmp_path):
    """Softmax of operator set 12 joins axes; nothing reads what the unknown one makes."""
    nodes = [node("Softmax", ["a"], ["b"]), node("Nobody", ["a"], ["c"])]
    fails(_with_functions(17, F=(12, nodes)), tmp_path, "MM204", "Softmax", exit=Exit.UNSUPPORTED)


@pytest.mark.parametrize("version", [-1, 0, 99, 2**40])
def test_functions_of_operator_sets_that_are_none(version, tmp_path):
    model = _with_functions(17, F=(version, [node("Relu", ["a"], ["b"])]))
    fails(model, tmp_path, "MM204", f"of operator set {version}", exit=Exit.UNSUPPORTED)


def test_a_version_of_another_operator_set_that_is_none(tmp_path):
    nodes = node("Bar", ["x"], ["q"], domain="mine"), node("Foo", ["q"], ["y"], domain="ai.onnx.ml")
    model = small(*nodes)
    model.opset_import.extend([helper.make_opsetid("mine", 1), helper.make_opsetid("ai.onnx.ml", 2**40)])
    fails(model, tmp_path, "MM204", "ai.onnx.ml", exit=Exit.UNSUPPORTED)


def test_functions_that_grow_exponentially(tmp_path):
    model = small(node("F0", ["x"], ["y"], domain="mine"))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    for k in range(30):
        call = f"F{k + 1}" if k < 29 else "Relu"
        domain = "mine" if k < 29 else ""
        nodes = [node(call, ["a"], ["t"], domain=domain), node(call, ["t"], ["b"], domain=domain)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        model.functions.append(helper.make_function("mine", f"F{k}", ["a"], ["b"], nodes, opsets))
    fails(model, tmp_path, "MM105", "nodes once its functions are inlined")
