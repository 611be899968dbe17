# SPDX-License-Identifier: Apache-2.0
"""What reads the rows of NonMaxSuppression, of which the run tells how many there are.

Rows that ONNX Runtime has are the first ones here, with the same values, however many boxes are found; what
cannot have that is refused.
"""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick

BOXES = 5
N = helper.make_node
CONSTANTS = {"count": 4, "overlap": np.float32(0), "threshold": np.float32(0.5)}
FOUND = N("NonMaxSuppression", ["boxes", "scores", "count", "overlap", "threshold"], ["n"])
OTHERS = N("NonMaxSuppression", ["boxes", "more", "count", "overlap", "threshold"], ["n2"])
MANY = 10**9


def ints(*values):
    return np.array(values, np.int64)


def op(kind, *operands, **attributes):
    """One node that makes y; operands that are no names are constants."""
    return chain((kind, operands, attributes))


def chain(*steps):
    """Nodes each of which reads what those before made: `0`, `1`, ...; the last makes y."""
    nodes, constants = [], {}
    for k, (kind, operands, attributes) in enumerate(steps):
        names = []
        for j, operand in enumerate(operands):
            names.append(operand if isinstance(operand, str) else f"c{k}_{j}")
            if not isinstance(operand, str):
                constants[names[-1]] = np.asarray(operand)
        made = "y" if k == len(steps) - 1 else str(k)
        nodes.append(N(kind, names, [made], **attributes))
    return nodes, constants


TABLE = np.arange(40, dtype=np.float32).reshape(5, 4, 2)
COLUMN = ("Slice", ("n", ints(2), ints(3), ints(1)), {})
TURNED = ("Transpose", ("n",), {})
FLOATS = ("Cast", ("n",), {"to": TensorProto.FLOAT})

LOOP = [
    helper.make_tensor_value_info("k", TensorProto.INT64, []),
    helper.make_tensor_value_info("go", TensorProto.BOOL, []),
]


def looped(*nodes, stacks):
    """A Loop of two steps that stacks what its nodes make; they read what is around it."""
    ends = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info(stacks, TensorProto.INT64, None),
    ]
    body = helper.make_graph([*nodes, N("Identity", ["go"], ["on"])], "body", LOOP, ends)
    return ("Loop", (np.array(2), np.array(True)), {"body": body})


SPLIT = ("SplitToSequence", ("n",), {"axis": 1, "keepdims": 0})
TWICE = ("SequenceConstruct", ("n", "n"), {})

RIGHT = {
    "all": op("Identity", "n"),
    "the first": op("Gather", "n", 0, axis=0),
    "less the first": chain(("Gather", ("n", ints(0)), {}), ("Sub", ("n", "0"), {})),
    "columns": op("Gather", "n", ints(-1, 0), axis=1),
    "a column": op("Gather", "n", np.array(2), axis=1),
    "columns backward": op("Slice", "n", ints(-1), ints(-MANY), ints(1), ints(-1)),
    "from the second on": op("Slice", "n", ints(1), ints(MANY), ints(0)),
    "every other": op("Slice", "n", ints(0), ints(MANY), ints(0), ints(2)),
    "two": op("Slice", "n", ints(0), ints(2), ints(0)),
    "turned": op("Transpose", "n"),
    "turned, twice the first": chain(TURNED, ("Gather", ("0", ints(0, 0)), {"axis": 1})),
    "doubled": op("Add", "n", "n"),
    "two cut alike": chain(COLUMN, ("Slice", ("n", ints(0), ints(1), ints(1)), {}), ("Mul", ("0", "1"), {})),
    "clipped": chain(FLOATS, ("Clip", ("0", np.float32(1), np.float32(3)), {})),
    "a constant row": op("Add", "n", ints(1, 2, 3)),
    "in int8": chain(FLOATS, ("QuantizeLinear", ("0", np.float32(0.5), np.int8(1)), {})),
    "in int8 by column": chain(
        FLOATS, ("QuantizeLinear", ("0", np.float32([0.5, 1, 2]), np.int8([0, 1, 2])), {"axis": 1})
    ),
    "where": chain(("Greater", ("n", ints(1)), {}), ("Where", ("0", "n", ints(7)), {})),
    "flat": op("Reshape", "n", ints(-1)),
    "flat again": op("Flatten", "n", axis=0),
    "rows of one": op("Reshape", "n", ints(0, 1, -1)),
    "rows of three": op("Reshape", "n", ints(-1, 3)),
    "two together": op("Reshape", "n", ints(-1, 6)),
    "an axis in front": op("Unsqueeze", "n", ints(0)),
    "an axis behind": op("Unsqueeze", "n", ints(-1)),
    "without one": chain(COLUMN, ("Squeeze", ("0", ints(-1)), {})),
    "beside": chain(COLUMN, ("Concat", ("n", "0"), {"axis": -1})),
    "tiled across": op("Tile", "n", ints(1, 2)),
    "expanded": op("Expand", "n", ints(2, 1, 3)),
    "picked": chain(COLUMN, ("Squeeze", ("0", ints(1)), {}), ("Gather", (TABLE, "1"), {"axis": 0})),
    "picked inside": chain(COLUMN, ("Gather", (TABLE[:, :3], "0"), {"axis": 0})),
    "elements": op("GatherElements", TABLE[:, :3, 0], "n", axis=0),
    "elements of themselves": op("GatherElements", "n", "n", axis=1),
    "pairs": chain(("Gather", ("n", ints(2, 1)), {"axis": 1}), ("GatherND", (TABLE, "0"), {})),
    "named pairs": chain(TURNED, ("GatherND", ("0", ints(2, 0).reshape(2, 1)), {})),
    "named rows": op("GatherND", "n", ints(0, 1).reshape(2, 1)),
    "a column of a list": chain(SPLIT, ("SequenceAt", ("0", np.array(-1)), {})),
    "columns of a list": chain(SPLIT, ("ConcatFromSequence", ("0",), {"axis": 1, "new_axis": 1})),
    "stacked": chain(TWICE, ("ConcatFromSequence", ("0",), {"axis": 0, "new_axis": 1})),
}
WRONG = {
    "the last": op("Gather", "n", np.array(-1), axis=0),
    "less the last": chain(("Gather", ("n", ints(-1)), {}), ("Sub", ("n", "0"), {})),
    "the last by ND": op("GatherND", "n", ints(-1).reshape(1, 1)),
    "the last, turned": chain(TURNED, ("GatherND", ("0", ints(2, -1).reshape(1, 2)), {})),
    "by themselves": chain(COLUMN, ("Squeeze", ("0", ints(1)), {}), ("Gather", ("n", "1"), {"axis": 0})),
    "elements of rows": op("GatherElements", "n", "n", axis=0),
    "the tail": op("Slice", "n", ints(-2), ints(MANY), ints(0)),
    "all but the last": op("Slice", "n", ints(0), ints(-1), ints(0)),
    "backward": op("Slice", "n", ints(-1), ints(-MANY), ints(0), ints(-1)),
    "backward from the front": op("Slice", "n", ints(3), ints(-MANY), ints(0), ints(-1)),
    "two after one another": op("Concat", "n", "n", axis=0),
    "with others after them": op("Concat", "n", "n2", axis=0),
    "others beside them": op("Concat", "n", "n2", axis=1),
    "plus others": op("Add", "n", "n2"),
    "plus rows cut otherwise": chain(
        ("Slice", ("n", ints(0), ints(3), ints(0)), {}),
        ("Slice", ("n", ints(1), ints(4), ints(0)), {}),
        ("Add", ("0", "1"), {}),
    ),
    "plus as many": op("Add", "n", np.arange(4).reshape(4, 1)),
    "turned and flat": chain(TURNED, ("Reshape", ("0", ints(-1)), {})),
    "turned and flattened": chain(TURNED, ("Flatten", ("0",), {"axis": 2})),
    "in two halves": op("Reshape", "n", ints(2, -1)),
    "in halves": op("Split", "n", axis=0),
    "tiled": op("Tile", "n", ints(2, 1)),
    "made many": op("Expand", "n", ints(4, 3)),
    "what has one row": op("Squeeze", "n"),
    "summed": op("ReduceSum", "n", keepdims=0),
    "a column of a list, summed": chain(
        SPLIT, ("SequenceAt", ("0", np.array(2)), {}), ("ReduceSum", ("1",), {})
    ),
    "the last of a list": chain(
        ("SplitToSequence", ("n",), {}), ("SequenceAt", ("0", np.array(-1)), {}), ("Neg", ("1",), {})
    ),
    "how long a list is": chain(("SplitToSequence", ("n",), {}), ("SequenceLength", ("0",), {})),
    "stacked and summed": chain(
        TWICE, ("ConcatFromSequence", ("0",), {"axis": 1, "new_axis": 1}), ("ReduceSum", ("1",), {})
    ),
    "stacked by a loop": chain(TWICE, looped(N("SequenceAt", ["0", "k"], ["each"]), stacks="each")),
    "found in a loop": chain(
        looped(N("NonMaxSuppression", FOUND.input, ["each"]), stacks="each"), ("ReduceSum", ("0",), {})
    ),
    "counted": op("Shape", "n"),
    "padded": op("Pad", "n", ints(0, 0, 1, 0)),
    "scattered": op("ScatterElements", np.zeros((5, 3), np.int64), "n", "n", axis=0),
}
SCORES = [  # whose first k boxes are found, in some order
    np.array([[0.9, 0.7, 0.8, 0.6, 0.55][:k] + [0.1] * (BOXES - k)], np.float32)[None] for k in range(1, 5)
]


def whole_model(nodes, constants):
    found = [FOUND, OTHERS] if any("n2" in node.input for node in nodes) else [FOUND]
    if nodes[-1].op_type == "Split":
        nodes[-1].output.append("rest")
    given = {"boxes": boxes(), "scores": SCORES[0]} | ({"more": SCORES[0]} if len(found) > 1 else {})
    return model_of(found + nodes, given, ["y"], CONSTANTS | constants)


def boxes():
    """Far apart from each other."""
    corner = np.arange(BOXES, dtype=np.float32)[:, None] * 3
    return np.concatenate([corner, corner, corner + 1, corner + 1], 1)[None]


@pytest.mark.parametrize("name", RIGHT)
def test_rows_that_are_there_are_those_of_onnx_runtime(name, tmp_path):
    model = whole_model(*RIGHT[name])
    graph, compared = import_model(save(model, tmp_path)), 0
    for scores in SCORES:
        given = {"boxes": boxes(), "scores": scores}
        try:
            want = onnx_runtime(model, given)["y"]
        except Exception:  # ONNX Runtime has no such row, or cannot group so few
            continue
        got = evaluate(graph, given)["y"]
        assert got.ndim == want.ndim
        np.testing.assert_array_equal(got[tuple(map(slice, want.shape))], want)
        compared += want.size > 0
    assert compared


@pytest.mark.parametrize("name", WRONG)
def test_what_depends_on_rows_that_may_not_be_there_is_refused(name, tmp_path):
    path = save(whole_model(*WRONG[name]), tmp_path)
    with pytest.raises(CompileError, match="may mix rows") as caught:
        import_model(path)
    assert caught.value.code == "MM202"


def in_branch(nodes, constants):
    """The model with all of it in a branch that is taken."""
    model = whole_model(nodes, constants)
    graph = model.graph
    inside = helper.make_graph(list(graph.node), "taken", [], list(graph.output))
    del graph.node[:], graph.output[:]
    graph.node.append(N("If", ["yes"], ["found"], then_branch=inside, else_branch=inside))
    graph.node.append(N("Abs", ["found"], ["z"]))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.output.append(helper.make_empty_tensor_value_info("z"))
    return model


def test_a_branch_leaves_the_rows_that_it_makes(tmp_path):
    import_model(save(in_branch(*RIGHT["every other"]), tmp_path))
    for inside, behind in (("every other", "ReduceMax"), ("summed", "Abs")):
        model = in_branch(*(RIGHT | WRONG)[inside])
        model.graph.node[-1].op_type = behind
        with pytest.raises(CompileError, match="may mix rows"):
            import_model(save(model, tmp_path))
