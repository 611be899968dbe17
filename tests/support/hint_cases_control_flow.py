# SPDX-License-Identifier: Apache-2.0
"""Hints for branches, loops, lists of tensors and functions, each followed."""

from __future__ import annotations

import numpy as np
import onnx
from frontend_models import check, model_of, save
from hint_runs import X, mmcc, node, refused
from hints import follows
from onnx import TensorProto, helper


def _with_branches():
    """An If whose condition is the input `flag`, and whose branches make shapes of their own."""
    sides = {
        "then_branch": node("Relu", ["x"], ["r"]),
        "else_branch": node("Concat", ["x", "x"], ["r"], axis=0),
    }
    branches = {
        side: helper.make_graph([made], side, [], [onnx.ValueInfoProto(name="r")])
        for side, made in sides.items()
    }
    given = {**X, "flag": np.array(True)}
    return model_of([node("If", ["flag"], ["y"], **branches)], given, ["y"])


@follows(
    "frontend/branches.py: binding_hint(state, node.input[0]) or CUT_OFF",
    "frontend/bindings.py: f'{guess}one of: {known}'",
    "frontend/bindings.py: '--bind NAME=NUMBER, NAME=[list, of, numbers] or NAME=array.npy'",
    "cli/options.py: '--bind NAME=16000, NAME=[1,2,3] or NAME=array.npy'",
)
def conditions(folder, _):
    path = save(_with_branches(), folder)
    assert "--bind flag=VALUE, which makes the input a constant" in mmcc("check", path, exit=4)
    mmcc("check", path, "--bind", "flag=1")
    assert "did you mean flag?" in mmcc("check", path, "--bind", "flga=1", exit=2)
    np.save(folder / "flag.npy", np.array(True))
    for wrong in ("flag=[1,0]", "flag=much", "flag"):
        assert "--bind NAME=" in mmcc("check", path, "--bind", wrong, exit=2)
    mmcc("check", path, "--bind", f"flag={folder}/flag.npy")


@follows(
    "frontend/loops.py: bind or CUT_OFF",
    "frontend/importer.py: '' if value.size else WITHOUT_IT",
)
def loops_that_cannot_be(folder, _):
    """Of too many steps, of as many as an input says, of none, ending when data says; and what helps."""

    def path(outputs=("y", "rows"), **stored):
        kinds = {"step": TensorProto.INT64, "go": TensorProto.BOOL, "on": TensorProto.BOOL}
        ports = ["step", "go", "c", "on", "c2", "row"]
        values = {n: helper.make_tensor_value_info(n, kinds.get(n, 1), [4] * (n[0] in "cr")) for n in ports}
        nodes = [
            node("Identity", ["go" if "steps" in stored else "more"], ["on"]),
            node("Add", ["c", "c"], ["c2"]),
            node("Identity", ["c"], ["row"]),
        ]
        body = helper.make_graph(
            nodes, "body", [values[n] for n in ports[:3]], [values[n] for n in ports[3:]]
        )
        before = [node("Relu", ["x"], ["r"]), node("ReduceMax", ["r"], ["m"], keepdims=0)]
        before.append(node("Cast", ["m"], ["more"], to=TensorProto.BOOL))
        given = {"x": np.ones(4, np.float32)}
        given |= {"steps": np.int64(3)} if stored == {"steps": None} else {}
        first = ["steps", "", "r"] if stored else ["", "more", "r"]
        loop = node("Loop", first, ["y", "rows"], body=body)
        constants = {name: array for name, array in stored.items() if array is not None}
        model = model_of([*before, loop], given, list(outputs), constants)
        for made in model.graph.output:  # which exporters state
            made.CopyFrom(helper.make_tensor_value_info(made.name, 1, [4] if made.name == "y" else ["n", 4]))
        return save(onnx.shape_inference.infer_shapes(model), folder)

    cut = "ending the model before it (onnx.utils.extract_model)"
    for stored in ({"steps": np.int64(100_000)}, {}):
        assert cut in mmcc("check", path(**stored), exit=4)
        onnx.utils.extract_model(str(path(**stored)), str(folder / "cut.onnx"), ["x"], ["r"])
        mmcc("check", folder / "cut.onnx")
    assert "--bind steps=VALUE" in mmcc("check", path(steps=None), exit=4)
    mmcc("check", path(steps=None), "--bind", "steps=3")
    assert "leaving this output out" in mmcc("check", path(steps=np.int64(0)), exit=3)
    mmcc("check", path(["y"], steps=np.int64(0)))


@follows("frontend/ports.py: 'giving the tensors in it as inputs of their own'")
def a_sequence_as_input(folder, _):
    """And the same model with the sequence made of its inputs."""
    second = node("SequenceAt", ["list", "one"], ["y"])
    model = model_of([second], {}, ["y"], {"one": np.array(1, np.int64)})
    model.graph.input.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, [4]))
    assert "giving the tensors in it as inputs" in mmcc("check", save(model, folder), exit=4)
    given = {"a": np.ones(4, np.float32), "b": np.ones(4, np.float32)}
    made = node("SequenceConstruct", ["a", "b"], ["list"])
    model = model_of([made, second], given, ["y"], {"one": np.array(1, np.int64)})
    mmcc("check", save(model, folder))


@follows("frontend/sequences.py: bind or CUT_OFF")
def positions_in_a_list(folder, _):
    """Of the tensors of a list one that an input chooses, or that data does; and what helps."""

    def path(chosen, given):
        nodes = [
            node("Relu", ["x"], ["r"]),
            node("ReduceMax", ["r"], ["m"], keepdims=0),
            node("Cast", ["m"], ["most"], to=TensorProto.INT64),
            node("SplitToSequence", ["r", "two"], ["list"], axis=1),
            node("SequenceAt", ["list", chosen], ["y"]),
        ]
        model = model_of(nodes, given, ["y"], {"two": np.array(2, np.int64)})
        return save(onnx.shape_inference.infer_shapes(model), folder)

    assert "--bind which=VALUE" in mmcc("check", path("which", {**X, "which": np.array(1)}), exit=4)
    mmcc("check", path("which", {**X, "which": np.array(1)}), "--bind", "which=1")
    data = path("most", X)
    assert "ending the model before it (onnx.utils.extract_model)" in mmcc("check", data, exit=4)
    onnx.utils.extract_model(str(data), str(folder / "cut.onnx"), ["x"], ["r", "most"])
    mmcc("check", folder / "cut.onnx")


@follows("frontend/problems.py: CUT_OFF", "frontend/sequences.py: AS_OUTPUTS")
def what_code_of_yours_can_do(folder, _):
    """A list of too many tensors, rows that may not be there, and a list as output; and what helps."""

    def parts(count, *behind, out):
        nodes = [node("Relu", ["x"], ["r"]), node("SplitToSequence", ["r", "one"], ["list"], axis=0), *behind]
        given, constants = {"x": np.ones((count, 2), np.float32)}, {"one": np.array(1, np.int64)}
        return save(onnx.shape_inference.infer_shapes(model_of(nodes, given, [out], constants)), folder)

    cut = "ending the model before it (onnx.utils.extract_model)"
    long = parts(5000, node("SequenceAt", ["list", "one"], ["y"]), out="y")
    assert cut in mmcc("check", long, exit=4)
    onnx.utils.extract_model(str(long), str(folder / "cut.onnx"), ["x"], ["r"])
    mmcc("check", folder / "cut.onnx")

    select = node("NonMaxSuppression", ["boxes", "scores", "most"], ["found"])
    given = {"boxes": np.ones((1, 6, 4), np.float32), "scores": np.ones((1, 1, 6), np.float32)}
    last = node("Gather", ["found", "place"], ["y"], axis=0)
    constants = {"most": np.array(2, np.int64), "place": np.array(-1, np.int64)}
    model = model_of([select, last], given, ["y"], constants, opset=13)
    assert cut in mmcc("check", save(model, folder), exit=4)
    mmcc(
        "check", save(model_of([select], given, ["found"], {"most": np.array(2, np.int64)}, opset=13), folder)
    )

    listed = onnx.load(parts(3, out="list"))
    listed.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    assert "its tensors as outputs of their own, or one of all" in mmcc("check", save(listed, folder), exit=4)
    mmcc("check", parts(3, node("ConcatFromSequence", ["list"], ["y"], axis=0), out="y"))
    mmcc("check", parts(3, node("SequenceAt", ["list", "one"], ["y"]), out="y"))


@follows("frontend/functions.py: 'exporting both for one operator set'")
def a_function_of_another_operator_set(folder, _):
    """Axes of ReduceMean are an attribute in operator set 17, and an operand in that of the model, 18."""

    def model(*nodes, of):
        made = model_of([helper.make_node("Mean", ["x"], ["y"], domain="mine")], X, ["y"], opset=18)
        made.opset_import.append(helper.make_opsetid("mine", 1))
        sets = [helper.make_opsetid("", of)]
        made.functions.append(helper.make_function("mine", "Mean", ["a"], ["b"], [*nodes], sets))
        return made

    refused(model(node("ReduceMean", ["a"], ["b"], axes=[1]), of=17), folder, "for one operator set")
    axes = node("Constant", [], ["axes"], value_ints=[1])
    check(model(axes, node("ReduceMean", ["a", "axes"], ["b"]), of=18), X, folder)
