# SPDX-License-Identifier: Apache-2.0
"""Sequences whose tensors are known while the model is imported: no list is left of them."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, check, kinds, model_of, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.frontend.sequences import OPERATORS
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick

node = helper.make_node
RNG = np.random.default_rng(11)
X = RNG.uniform(-1, 1, (2, 6, 3)).astype(np.float32)
A, B = (RNG.uniform(-1, 1, (2, 3)).astype(np.float32) for _ in range(2))
NUMBERS = {
    "zero": np.array(0, np.int64),
    "one": np.array(1, np.int64),
    "last": np.array(-1, np.int64),
    "three": np.array(3, np.int64),
    "four": np.array(4, np.int32),
    "sizes": np.array([1, 5], np.int64),
}
LIST = [node("SequenceConstruct", ["a", "b", "a"], ["list"])]

FORMS = {
    "split in ones": [
        node("SplitToSequence", ["x"], ["s"], axis=1),
        node("SequenceAt", ["s", "last"], ["y"]),
    ],
    "split without the axis": [
        node("SplitToSequence", ["x"], ["s"], axis=-2, keepdims=0),
        node("SequenceAt", ["s", "one"], ["y"]),
    ],
    "split by a size, the last part smaller": [
        node("SplitToSequence", ["x", "four"], ["s"], axis=1),
        node("SequenceAt", ["s", "one"], ["y"]),
    ],
    "split by a size, where keepdims says nothing": [
        node("SplitToSequence", ["x", "four"], ["s"], axis=1, keepdims=0),
        node("SequenceAt", ["s", "one"], ["y"]),
    ],
    "split by sizes": [
        node("SplitToSequence", ["x", "sizes"], ["s"], axis=1),
        node("SequenceErase", ["s", "zero"], ["t"]),
        node("SequenceAt", ["t", "zero"], ["y"]),
    ],
    "joined": [*LIST, node("ConcatFromSequence", ["list"], ["y"], axis=-1)],
    "stacked": [*LIST, node("ConcatFromSequence", ["list"], ["y"], axis=-1, new_axis=1)],
    "put in and taken out": [
        node("SequenceEmpty", [], ["e"]),
        node("SequenceInsert", ["e", "a"], ["e1"]),
        node("SequenceInsert", ["e1", "b", "zero"], ["e2"]),
        node("SequenceInsert", ["e2", "a", "last"], ["e3"]),
        node("Identity", ["e3"], ["e4"]),
        node("SequenceErase", ["e4"], ["e5"]),
        node("ConcatFromSequence", ["e5"], ["y"], axis=0),
    ],
    "how many": [
        *LIST,
        node("SequenceLength", ["list"], ["n"]),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["a", "f"], ["y"]),
    ],
    "one for one": [
        *LIST,
        node(
            "SequenceMap",
            ["list", "b"],
            ["summed", "less"],
            body=helper.make_graph(
                [node("Add", ["each", "other"], ["sum"]), node("Sub", ["each", "other"], ["difference"])],
                "body",
                [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("each", "other")],
                [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("sum", "difference")],
            ),
        ),
        node("SequenceAt", ["less", "one"], ["none"]),
        node("ConcatFromSequence", ["summed"], ["all"], axis=0),
        node("Concat", ["all", "none"], ["y"], axis=0),
    ],
    "around a loop": [
        *LIST,
        node(
            "Loop",
            ["three", "", "b"],
            ["y"],
            body=helper.make_graph(
                [
                    node("SequenceAt", ["list", "k"], ["each"]),
                    node("Mul", ["before", "each"], ["after"]),
                    node("Identity", ["given"], ["go"]),
                ],
                "body",
                [
                    helper.make_tensor_value_info("k", TensorProto.INT64, []),
                    helper.make_tensor_value_info("given", TensorProto.BOOL, []),
                    helper.make_tensor_value_info("before", TensorProto.FLOAT, [2, 3]),
                ],
                [
                    helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                    helper.make_tensor_value_info("after", TensorProto.FLOAT, [2, 3]),
                ],
            ),
        ),
    ],
    "chosen by an If": [
        node("SequenceLength", ["list"], ["n"]),
        node("Greater", ["n", "one"], ["many"]),
        node(
            "If",
            ["many"],
            ["s"],
            then_branch=helper.make_graph(
                [node("SequenceInsert", ["list", "b"], ["longer"])],
                "then",
                [],
                [helper.make_tensor_sequence_value_info("longer", TensorProto.FLOAT, None)],
            ),
            else_branch=helper.make_graph(
                [node("SequenceConstruct", ["a"], ["shorter"])],
                "else",
                [],
                [helper.make_tensor_sequence_value_info("shorter", TensorProto.FLOAT, None)],
            ),
        ),
        node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ],
}
FORMS["chosen by an If"][:0] = LIST
BY_REFERENCE = ("one for one", "split by a size, where keepdims says nothing")  # ONNX Runtime fails in these


def used(nodes, pool):
    read = {name for each in nodes for name in each.input}
    return {name: array for name, array in pool.items() if name in read}


@pytest.mark.parametrize("form", FORMS)
def test_lists_are_what_is_in_them(form, tmp_path):
    nodes = FORMS[form]
    given = used([*nodes, *LIST], {"x": X}) | {"a": A, "b": B}
    constants = used(nodes, NUMBERS) | {"one": NUMBERS["one"]}
    model = model_of(nodes, given, ["y"], constants, opset=17)
    if form in BY_REFERENCE:
        graph = import_model(save(model, tmp_path))
        (want,) = ReferenceEvaluator(model).run(None, given)
        assert_same(evaluate(graph, given)["y"], want)
    else:
        check(model, given, tmp_path)


def test_tensors_have_the_names_of_the_model(tmp_path):
    """What stands for nodes of lists is called as they are; the model may have any name for others."""
    nodes = [
        node("Relu", ["a"], ["x"]),
        node("SequenceConstruct", ["x", "b"], ["list"]),
        node("ConcatFromSequence", ["list"], ["joined"], axis=1),
        node("Tanh", ["joined"], ["row"]),
        node("SplitToSequence", ["row", "four"], ["parts"], axis=1),
        node("SequenceAt", ["parts", "zero"], ["y"]),
    ]
    graph = check(model_of(nodes, {"a": A, "b": B}, ["y"], used(nodes, NUMBERS)), {"a": A, "b": B}, tmp_path)
    assert {*graph.tensors} == {"a", "b", "x", "joined", "row", "parts"}


@pytest.mark.parametrize("name", ["all", "rows", "chosen", "scalar", "row", "part"])
def test_names_of_the_model_are_not_those_of_nodes_that_stand_for_others(name, tmp_path):
    """A choice of branches, a loop that stacks, and a list, in a model that has the name itself."""
    port = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("less", "more")]
    then, other = (
        helper.make_graph([node(op, ["a"], [made.name])], "branch", [], [made])
        for op, made in zip(("Neg", "Abs"), port, strict=True)
    )
    go = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("given", "go")]
    body = helper.make_graph(
        [node("Identity", ["given"], ["go"]), node("Mul", ["either", name], ["each"])],
        "body",
        [helper.make_tensor_value_info("k", TensorProto.INT64, []), go[0]],
        [go[1], helper.make_tensor_value_info("each", TensorProto.FLOAT, [2, 3])],
    )
    nodes = [
        node("Relu", ["a"], [name]),
        node("If", ["c"], ["either"], then_branch=then, else_branch=other),
        node("Loop", ["three", ""], ["each step"], body=body),
        node("SplitToSequence", ["each step"], ["parts"], axis=0, keepdims=0),
        node("ConcatFromSequence", ["parts"], ["y"], axis=0),
    ]
    given = {"a": A, "c": np.array(False)}
    check(model_of(nodes, given, ["y"], used(nodes, NUMBERS)), given, tmp_path)


def test_all_operators_of_sequences_are_tried():
    tried = {each.op_type for nodes in FORMS.values() for each in nodes}
    assert {*OPERATORS} <= tried


def appended(*, until: bool):
    """A list that grows in a loop, as torch.jit.script writes one; `until` has it end by a count."""
    body = helper.make_graph(
        [
            node("Gather", ["x", "k"], ["row"], axis=1),
            node("Add", ["row", "h"], ["sum"]),
            node("Tanh", ["sum"], ["next"]),
            node("SequenceInsert", ["before", "next"], ["after"]),
            *([node("Add", ["count", "one"], ["more"])] if until else []),
            node("Less", ["more", "steps"], ["go"]) if until else node("Identity", ["given"], ["go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("k", TensorProto.INT64, []),
            helper.make_tensor_value_info("given", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_sequence_value_info("before", TensorProto.FLOAT, None),
            *([helper.make_tensor_value_info("count", TensorProto.INT64, [])] if until else []),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_sequence_value_info("after", TensorProto.FLOAT, None),
            *([helper.make_tensor_value_info("more", TensorProto.INT64, [])] if until else []),
        ],
    )
    carried = ["a", "empty", *(["zero"] if until else [])]
    nodes = [
        node("SequenceEmpty", [], ["empty"]),
        node(
            "Loop",
            ["" if until else "steps", "yes", *carried],
            ["last", "list", *(["n"] if until else [])],
            body=body,
        ),
        node("ConcatFromSequence", ["list"], ["all"], axis=1, new_axis=1),
        node("Sub", ["all", "x"], ["y"]),
    ]
    constants = {
        "steps": np.array(6, np.int64),
        "yes": np.array(True),
        **{n: NUMBERS[n] for n in ("zero", "one")},
    }
    return model_of(nodes, {"x": X, "a": A}, ["y", "last"], constants)


@pytest.mark.parametrize("until", [False, True])
def test_a_list_that_grows_in_a_loop(until, tmp_path):
    graph = check(appended(until=until), {"x": X, "a": A}, tmp_path)
    assert "Repeat" not in kinds(graph)


def test_rows_that_may_not_be_there_are_followed_through_a_list(tmp_path):
    """What a sum over boxes of NonMaxSuppression is refused for does not become right in a list."""
    boxes = RNG.uniform(0, 1, (1, 5, 4)).astype(np.float32)
    scores = RNG.uniform(0, 1, (1, 1, 5)).astype(np.float32)
    nodes = [
        node("NonMaxSuppression", ["boxes", "scores", "three"], ["found"]),
        node("SequenceConstruct", ["found"], ["list"]),
        node("SequenceAt", ["list", "zero"], ["same"]),
        node("ReduceSum", ["same"], ["y"]),
    ]
    constants = {"three": np.array(3, np.int64), "zero": NUMBERS["zero"]}
    with pytest.raises(CompileError, match="ReduceSum"):
        import_model(save(model_of(nodes, {"boxes": boxes, "scores": scores}, ["y"], constants), tmp_path))


BRANCH = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 3])])
NONZERO = helper.make_graph(
    [node("NonZero", ["each"], ["found"])],
    "body",
    [helper.make_tensor_value_info("each", TensorProto.FLOAT, [2, 3])],
    [helper.make_tensor_value_info("found", TensorProto.INT64, None)],
)
WRONG = {
    "MM104 position 3 in a sequence of 3 tensors": [*LIST, node("SequenceAt", ["list", "place"], ["y"])],
    "MM104 a sequence without tensors has no last one": [
        node("SequenceEmpty", [], ["e"]),
        node("SequenceErase", ["e"], ["f"]),
        node("SequenceInsert", ["f", "a"], ["g"]),
        node("SequenceAt", ["g", "zero"], ["y"]),
    ],
    "MM104 a tensor of f32 into a sequence of i64": [
        node("SequenceEmpty", [], ["e"], dtype=TensorProto.INT64),
        node("SequenceInsert", ["e", "a"], ["g"]),
        node("SequenceAt", ["g", "zero"], ["y"]),
    ],
    "MM104 a tensor of f32 into a sequence of i32": [
        node("Cast", ["b"], ["c"], to=TensorProto.INT32),
        node("SequenceConstruct", ["c"], ["s"]),
        node("SequenceErase", ["s"], ["e"]),
        node("SequenceInsert", ["e", "a"], ["g"]),
        node("SequenceAt", ["g", "zero"], ["y"]),
    ],
    "MM104 operand 0 is a tensor, not a sequence": [node("SequenceAt", ["a", "zero"], ["y"])],
    'MM104 operand "list" is a sequence of tensors, which Relu does not take': [
        *LIST,
        node("Relu", ["list"], ["y"]),
    ],
    "MM104 tensors of types": [
        node("Cast", ["b"], ["c"], to=TensorProto.INT32),
        node("SequenceConstruct", ["a", "c"], ["s"]),
        node("SequenceAt", ["s", "zero"], ["y"]),
    ],
    "MM104 parts of .1, 5. elements of an axis of 3": [
        node("SplitToSequence", ["a", "sizes"], ["s"], axis=1),
        node("SequenceAt", ["s", "zero"], ["y"]),
    ],
    "MM104 a position of type f32": [*LIST, node("SequenceAt", ["list", "nan"], ["y"])],
    "MM104 a sequence is where only a tensor can be": [
        *LIST,
        node("If", ["list"], ["y"], then_branch=BRANCH, else_branch=BRANCH),
    ],
    r"MM201 not supported: NonZero .domain ai.onnx., once\n": [
        *LIST,
        node("SequenceMap", ["list"], ["s"], body=NONZERO),
        node("SequenceAt", ["s", "zero"], ["y"]),
    ],
    "MM201 not supported: OptionalHasElement": [*LIST, node("OptionalHasElement", ["list"], ["y"])],
    'MM202 output "list" is a sequence of 3 tensors': LIST,
    "MM202 SequenceAt with a position known only at run time": [
        *LIST,
        node("ReduceMax", ["a"], ["top"], keepdims=0),
        node("Cast", ["top"], ["at"], to=TensorProto.INT64),
        node("SequenceAt", ["list", "at"], ["y"]),
    ],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_list_is_said(wrong, tmp_path):
    nodes = WRONG[wrong]
    result = "y" if any("y" in each.output for each in nodes) else "list"
    constants = used(nodes, NUMBERS | {"place": np.array(3, np.int64), "nan": np.float32(np.nan)})
    code, what = wrong.split(" ", 1)
    with pytest.raises(CompileError, match=what) as raised:
        import_model(save(model_of(nodes, {"a": A, "b": B}, [result], constants), tmp_path))
    assert raised.value.code == code


def test_a_position_that_depends_on_a_list_that_is_an_input(tmp_path):
    nodes = [
        *LIST,
        node("SequenceLength", ["given"], ["n"]),
        node("SequenceAt", ["list", "n"], ["y"]),
    ]
    model = model_of(nodes, {"a": A, "b": B}, ["y"])
    model.graph.input.append(helper.make_tensor_sequence_value_info("given", TensorProto.FLOAT, None))
    with pytest.raises(CompileError, match='input "given" is of sequence type, not a tensor'):
        import_model(save(model, tmp_path))
