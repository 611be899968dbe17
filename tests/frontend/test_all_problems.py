# SPDX-License-Identifier: Apache-2.0
"""`mmcc check` says all that is wrong with a model at once: also behind what is wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import model_of, save
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick
node = helper.make_node
X = {"x": np.zeros((1, 4, 8, 8), np.float32)}
W = np.zeros((4, 4, 3, 3), np.float32)
LESS = {"s": np.array([1, 1, 0.45, 0.45], np.float32)}


def problems(model, folder, *says, never=()):
    with pytest.raises(CompileError) as caught:
        import_model(save(model, folder))
    text = str(caught.value)
    for one in says:
        assert one in text, text
    for one in never:
        assert one not in text, text
    return caught.value


def antialiased(x, y):
    return node("Resize", [x, "", "s"], [y], mode="cubic", antialias=1)


def test_behind_an_operator_that_onnx_knows(tmp_path):
    """Bernoulli's shape is inferred: the convolution behind it is checked as always."""
    nodes = [
        node("Bernoulli", ["x"], ["a"]),
        node("Conv", ["a", "w"], ["b"]),
        node("Softmax", ["b"], ["c"], axis=9),
        node("Multinomial", ["c"], ["y"]),
    ]
    w = np.zeros((4, 3, 3, 3), np.float32)
    error = problems(
        model_of(nodes, X, ["y"], {"g": np.ones(8, np.float32), "w": w}),
        tmp_path,
        *("Bernoulli (domain ai.onnx), once", "Multinomial (domain ai.onnx)", "Conv: "),
    )
    assert (error.code, error.exit) == ("MM104", Exit.BAD_MODEL)


def test_behind_an_operator_that_nobody_knows(tmp_path):
    """Whatever the shape is: operator, version and attributes are looked at, and features of any shape."""
    nodes = [
        node("Frobnicate", ["x"], ["a"], domain="mine"),
        antialiased("a", "b"),
        node("Conv", ["b", "a"], ["c"]),
        node("MaxPool", ["c"], ["d", "i"], kernel_shape=[2, 2], surprise=1),
        node("Nothing", ["i"], ["e"]),
        node("GlobalLpPool", ["d"], ["f"], p=7),
        node("Sum", ["f", "e"], ["y"]),
    ]
    says = ["Frobnicate (domain mine)", "Nothing (domain ai.onnx)", "antialias", "computed at run time"]
    problems(model_of(nodes, X, ["y"], LESS, opset=18), tmp_path, *says, '"surprise"', "p = 7")


def test_attributes_that_are_wrong_for_any_operand(tmp_path):
    nodes = [
        node("Frobnicate", ["x"], ["a"], domain="mine"),
        node("Conv", ["a", "w"], ["b"], auto_pad="WEIRD", kernel_shape=[3, 3]),
        node("MaxPool", ["a"], ["c"], auto_pad="STRANGE", kernel_shape=[2, 2]),
        node("Sum", ["b", "c"], ["y"]),
    ]
    problems(model_of(nodes, X, ["y"], {"w": W}), tmp_path, "Frobnicate", '"WEIRD"', '"STRANGE"')


def test_attributes_that_are_right_for_some_operand(tmp_path):
    nodes = [
        node("Frobnicate", ["x"], ["a"], domain="mine"),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4, 5]),
        node("Conv", ["b", "w"], ["c"], pads=[1, 2, 1, 2, 1, 2]),
        node("Gather", ["x", "a"], ["d"], axis=3),
        node("Softmax", ["a"], ["e"], axis=6),
        node("Mod", ["a", "a"], ["f"], fmod=0),
        node("ReduceMean", ["a"], ["g"], axes=[7]),
        node("Sum", ["c", "d", "e", "f", "g"], ["y"]),
    ]
    model = model_of(nodes, X, ["y"], {"w": np.zeros((4, 3, 3, 3, 3), np.float32)})
    problems(model, tmp_path, "not supported: Frobnicate (domain mine), once")


def test_nothing_is_said_that_depends_on_the_unknown_shape(tmp_path):
    nodes = [
        node("Frobnicate", ["x"], ["a"], domain="mine"),
        node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
        node("Reshape", ["b", "to"], ["c"]),
        node("Gemm", ["c", "m"], ["d"]),
        node("Slice", ["a", "one", "two", "axes"], ["e"]),
        node("ReduceMean", ["e"], ["f"], axes=[3]),
        node("Concat", ["d", "f"], ["y"], axis=1),
    ]
    fixed = {"w": np.zeros((5, 7, 3, 3), np.float32), "to": np.array([3, 17]), "m": W.reshape(4, 36)}
    fixed |= {"one": np.array([1]), "two": np.array([2]), "axes": np.array([3])}
    error = problems(
        model_of(nodes, X, ["y"], fixed), tmp_path, "not supported: Frobnicate (domain mine), once"
    )
    assert len(error.at) == 1


def test_what_the_file_states_of_a_value_counts(tmp_path):
    nodes = [node("Frobnicate", ["x"], ["a"], domain="mine"), node("Conv", ["a", "w"], ["y"])]
    model = model_of(nodes, X, ["y"], {"w": W})
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3, 8, 8]))
    problems(model, tmp_path, "Frobnicate", "Conv: ")


def test_constants_of_unknown_operators_are_not_said_to_be_computed(tmp_path):
    nodes = [node("Frobnicate", ["w"], ["v"], domain="mine"), node("Conv", ["x", "v"], ["y"])]
    problems(model_of(nodes, X, ["y"], {"w": W}), tmp_path, "Frobnicate", never=["run time"])


def test_graph_faults_do_not_end_the_list(tmp_path):
    """Names that are not defined, or twice, and a cycle: MM102; with what else there is."""
    nodes = [
        node("Relu", ["nobody"], ["a"]),
        node("Relu", ["x"], ["b"]),
        node("Relu", ["x"], ["b"]),
        node("Add", ["b", "d"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("Bernoulli", ["b"], ["e"]),
        node("Conv", ["x", "w"], ["f"], surprise=1),
        node("Sum", ["a", "d", "e", "f"], ["y"]),
    ]
    error = problems(
        model_of(nodes, X, ["y", "z"], {"w": W}),
        tmp_path,
        *('"nobody" is read but nothing', '"b" is defined twice', "a cycle", "Bernoulli", '"surprise"'),
        'output "z" is not defined',
    )
    assert (error.code, error.exit) == ("MM102", Exit.BAD_MODEL)


def test_types_of_all_inputs_and_constants(tmp_path):
    """MM203 of one input does not hide the next, nor what is behind them."""
    inputs = {"x": np.zeros((1, 4), np.float32), "z": np.zeros((4, 5), np.float32)}
    nodes = [node("MatMul", ["x", "z"], ["a"]), node("Unique", ["a"], ["b"]), antialiased("x", "y")]
    model = model_of(nodes, inputs, ["y", "b"], {"w": np.zeros((1, 8, 4), np.float32), **LESS}, opset=18)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT8E8M0
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.COMPLEX64
    error = problems(model, tmp_path, "FLOAT8E8M0", "COMPLEX64", "Unique (domain ai.onnx)", "Resize: scales")
    assert error.exit in (Exit.UNSUPPORTED, Exit.BAD_MODEL)


def test_constants_that_cannot_be_read(tmp_path):
    model = model_of(
        [node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "v"], ["y"])], X, ["y"], {"w": W, "v": W}
    )
    model.graph.initializer[0].raw_data = b"short"
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL
    problems(model, tmp_path, 'constant "w" of shape', 'constant "v" has external data')


def test_symbols_without_a_value_do_not_hide_the_rest(tmp_path):
    nodes = [node("Relu", ["x"], ["a"]), node("Unique", ["a"], ["y"])]
    model = model_of(nodes, X, ["y"], {"w": W})
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    error = problems(model, tmp_path, "Unique (domain ai.onnx)", '"H" (axis 2 of input "x")', "--dim H=N")
    assert error.code == "MM109"


def test_one_problem_is_told_as_itself(tmp_path):
    error = problems(
        model_of([node("Conv", ["x", "w"], ["y"], group=3)], X, ["y"], {"w": W}), tmp_path, "groups"
    )
    assert error.code == "MM104"
    assert error.at[0].op == "Conv"


def test_problems_alike_are_counted(tmp_path):
    nodes = [antialiased("x", "a"), antialiased("a", "b"), antialiased("b", "y")]
    model = model_of(nodes, {"x": np.zeros((1, 4, 64, 64), np.float32)}, ["y"], LESS, opset=18)
    error = problems(
        model, tmp_path, "Resize: Resize with antialias of more than 8 elements along an axis, 3 times"
    )
    assert error.code == "MM202"


def test_subgraphs_are_no_harm(tmp_path):
    branch = helper.make_graph([node("Relu", ["x"], ["r"])], "b", [], [onnx.ValueInfoProto(name="r")])
    other = helper.make_graph([node("Flatten", ["x"], ["r"])], "o", [], [onnx.ValueInfoProto(name="r")])
    nodes = [node("If", ["c"], ["a"], then_branch=branch, else_branch=other), node("Nothing", ["a"], ["y"])]
    inputs = {**X, "c": np.array(True)}
    says = ("If: an If whose condition", "Nothing (domain ai.onnx)")
    problems(model_of(nodes, inputs, ["y"]), tmp_path, *says)


def test_what_a_missing_dimension_may_decide_is_not_a_problem(tmp_path):
    """Computed shapes, branches on them, operators that ONNX defines by others: --dim may mend them."""
    then = helper.make_graph(
        [node("Relu", ["a"], ["r"])], "then", [], [helper.make_empty_tensor_value_info("r")]
    )
    other = helper.make_graph(
        [node("Neg", ["a"], ["n"])], "else", [], [helper.make_empty_tensor_value_info("n")]
    )
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "two"], ["width"]),
        node("Range", ["zero", "width", "one"], ["count"]),
        node("ConstantOfShape", ["s"], ["zeros"]),
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "z"]),
        node("DequantizeLinear", ["q", "scale", "z"], ["a"]),
        node("Less", ["two", "width"], ["wide"]),
        node("If", ["wide"], ["b"], then_branch=then, else_branch=other),
        node("Add", ["b", "zeros"], ["c"]),
        node("Expand", ["c", "s"], ["y"]),
        node("Softmax", ["count"], ["t"], surprise=1),
    ]
    fixed = {"zero": np.array(0, np.int64), "one": np.array(1, np.int64), "two": np.array(2, np.int64)}
    model = model_of(nodes, X, ["y"], fixed)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    error = problems(model, tmp_path, '"rows" (axis 2 of input "x")', never=["DynamicQuantize", "run time"])
    assert (error.code, len(error.message.splitlines())) == ("MM109", 1)

    model.graph.output.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, None))
    problems(model, tmp_path, "rows", '"surprise"', never=["run time", "If"])
