# SPDX-License-Identifier: Apache-2.0
"""Each compile runs what it made: planted faults are caught at the right node, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mmcc.driver.build
import numpy as np
import pytest
from click.testing import CliRunner
from mmcc.cli import main
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Node
from mmcc.ir.program import Call, Columns, Constant, For, KernelUse, Program, View
from mmcc.ops.activation import Clamp
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.reduce import Reduce
from mmcc.ops.softmax import Softmax
from mmcc.selfcheck.judge import allowance
from mmcc.verification.verify import VerifyOptions, verify_package
from onnx import TensorProto, helper, numpy_helper, save

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a compiler for this machine")

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
STACK = 1024  # vouched for, so that nothing is measured
GROUP = (2, 3, 4, 5, 6)  # of the digits network, with --ram min
Change = Callable[[KernelUse], KernelUse]


def options(**given: Any) -> CompileOptions:
    return CompileOptions(name="net", stack=STACK, **given)


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[Program], Program]) -> None:
    """Let all lowering go wrong in one way, and nobody look at it but the check that runs the C."""
    monkeypatch.setattr(mmcc.driver.build, "check_program", lambda *_: [])
    right = mmcc.driver.build.lower
    monkeypatch.setattr(mmcc.driver.build, "lower", lambda *given: change(right(*given)))


def at_node(index: int, change: Change) -> Callable[[Program], Program]:
    def changed(program: Program) -> Program:
        nodes = (replace(n, use=change(n.use)) if n.index == index else n for n in program.nodes)
        return replace(program, entries=(replace(program.entries[0], nodes=tuple(nodes)),))

    return changed


def field(name: str, change: Callable[[Any], Any]) -> Change:
    def changed(use: KernelUse) -> KernelUse:
        assert name in dict(use.fields)
        return replace(use, fields=tuple((k, change(v) if k == name else v) for k, v in use.fields))

    return changed


def one_byte(constant: Constant) -> Constant:
    data = constant.data.copy()
    raw = data.reshape(-1).view(np.uint8)
    used = np.flatnonzero(raw)  # others may be padding
    raw[used[len(used) // 2]] ^= 64
    return replace(constant, data=data)


def moved(view: View) -> View:
    assert isinstance(view.offset, int)
    return replace(view, offset=view.offset + 1)


def one_step(use: KernelUse) -> KernelUse:
    """Results that are one step off."""
    fields = dict(use.fields)
    if "y_zero" in fields:  # in units of half a step
        return field("y_zero", lambda zero: zero + 2)(use)
    if "offset" in fields:  # of a sum: a whole step is the multipliers' common denominator
        bits = int(dict(use.options)["bits"])
        return field("offset", lambda offset: offset + (1 << bits))(use)
    return field("top", lambda top: top + 1)(use)  # a pool: its windows begin a row above


@pytest.mark.parametrize(
    ("node", "change", "target"),
    [
        (0, field("weights", one_byte), "host"),
        (3, field("weights", one_byte), "cortex-m4"),
        (2, field("x", moved), "host"),
        (6, field("top", lambda top: top + 1), "cortex-m4"),
        (8, field("start", lambda start: start + 4000), "host"),
    ],
    ids=["weights", "weights-in-a-group", "place", "window", "sum"],
)
def test_a_fault_in_lowering_is_caught(
    node: int, change: Change, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, at_node(node, on_this_machine(change)))
    with pytest.raises(CompileError) as caught:
        compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options(least_ram=True, target=target))
    assert (caught.value.code, caught.value.exit) == ("MM807", Exit.INTERNAL)
    assert f"node {node} " in caught.value.message
    assert caught.value.at
    assert not (tmp_path / "net").exists()
    sent = tmp_path / "net-difference.zip"
    assert str(sent) in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == [sent.name]
    shutil.unpack_archive(sent, tmp_path / "sent")
    assert {"model.onnx", "inputs.npz", "difference.txt", "package"} == {
        path.name for path in (tmp_path / "sent").iterdir()
    }


def on_this_machine(change: Change) -> Change:
    """A board's own kernel may not have the field; its twin is what is run."""

    def changed(use: KernelUse) -> KernelUse:
        try:
            return change(use)
        except AssertionError:
            return use

    return changed


def concat_in_strips(path: Path) -> Path:
    """The input and a layer of it, joined: in strips the layer's memory begins at another column."""
    rng = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    conv = [("x", "a", 1), ("j", "b", 3), ("b", "y", 5)]
    nodes = [
        helper.make_node("Conv", [x, f"w{y}"], [y], kernel_shape=[k, k], pads=[k // 2] * 4)
        for x, y, k in conv
    ]
    nodes.insert(1, helper.make_node("Concat", ["x", "a"], ["j"], axis=1))
    constants = [weights("wa", 4, 4, 1, 1), weights("wb", 4, 8, 3, 3), weights("wy", 3, 4, 5, 5)]
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 24, 24]) for n, c in (("x", 4), ("y", 3))
    )
    graph = helper.make_graph(nodes, "strips", [x], [y], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def without_origins(program: Program) -> Program:
    """As if all that a call reads began at the column where its first operand does."""

    def column(c: Columns) -> Columns:
        return replace(c, inputs=tuple(c.inputs[:1]) * 2)

    def of(statement: Any) -> Any:
        if isinstance(statement, Call):
            return replace(statement, columns=tuple(column(c) for c in statement.columns))
        if isinstance(statement, For) or hasattr(statement, "body"):
            return replace(statement, body=tuple(of(inner) for inner in statement.body))
        return statement

    (entry,) = program.entries
    return replace(program, entries=(replace(entry, body=tuple(of(step) for step in entry.body)),))


def test_a_wrong_column_origin_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = concat_in_strips(tmp_path / "strips.onnx")
    given = options(least_ram=True, io="external", recompute=8.0)
    plans = compile_model(model, tmp_path / "right", given)
    assert plans.report["self_check"]["done"]
    assert max(len(group.strips) for group in plans.plan.groups) > 1
    plant(monkeypatch, without_origins)
    with pytest.raises(CompileError, match="MM807"):
        compile_model(model, tmp_path / "wrong", given)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"weights": "staged", "ram": 24_000},
        {"weights": "staged", "ram": 24_000, "target": "cortex-m4"},
        {"io": "rows", "least_ram": True},
        {"io": "external", "float_io": True},
        {"weights": "bin"},
    ],
    ids=lambda given: " ".join(map(str, given.values())),
)
def test_every_way_of_input_and_weights_is_run(given: dict[str, Any], tmp_path: Path) -> None:
    done = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options(**given)).report
    assert done["self_check"]["done"]
    assert done["self_check"]["nodes"] >= 10 - 1


def test_floats_are_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = DIGITS / "digits_fp32.onnx"
    assert compile_model(model, tmp_path / "net", options()).report["self_check"]["done"]

    def changed(program: Program) -> Program:
        node = program.nodes[1]
        name = next(k for k, v in node.use.fields if isinstance(v, Constant))
        return at_node(node.index, field(name, lambda c: replace(c, data=c.data * np.float32(1.01))))(program)

    plant(monkeypatch, changed)
    with pytest.raises(CompileError, match="MM807"):
        compile_model(model, tmp_path / "wrong", options())


def test_it_can_be_left_out_and_the_reports_say_so(tmp_path: Path) -> None:
    out = tmp_path / "net"
    command = [
        "compile",
        str(DIGITS / "digits_int8.onnx"),
        "-o",
        str(out),
        "--stack",
        "1K",
        "--no-self-check",
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    report = json.loads((out / "report.json").read_text())
    assert report["self_check"]["done"] is False
    assert "--no-self-check" in report["self_check"]["reason"]
    assert "skipped with --no-self-check" in (out / "report.txt").read_text()


def test_without_a_compiler_for_this_machine_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "net"
    command = ["compile", str(DIGITS / "digits_int8.onnx"), "-o", str(out), "--stack", "1K"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "was not run before it was written: not done: there is no cc in PATH" in done.stderr
    assert "there is no cc in PATH" in (out / "report.txt").read_text()


# ---- verify


@pytest.mark.parametrize("node", [0, GROUP[0], GROUP[2], GROUP[3], GROUP[-1]])
def test_verify_finds_one_step_in_one_node(
    node: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first, a middle and the last node of a group, and one that runs alone."""
    plant(monkeypatch, at_node(node, one_step))
    result = compile_model(
        DIGITS / "digits_int8.onnx", tmp_path / "net", options(least_ram=True, self_check=False)
    )
    assert GROUP in [group.nodes for group in result.plan.groups]
    found = verify_package(result.folder, VerifyOptions(per_node=True), lambda *_: None)
    assert not found["ok"]
    assert [row["index"] for row in found["per_node"] if not row["ok"]] == [node]
    assert f"node {node} " in found["per_node"][0]["fault"]


@pytest.mark.parametrize("given", [{}, {"least_ram": True}, {"float_io": True}, {"io": "rows"}])
def test_verify_says_ok_to_right_packages(given: dict[str, Any], tmp_path: Path) -> None:
    result = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options(**given))
    for per_node in (False, True):
        wanted = VerifyOptions(data=DIGITS / "test_data.npz", limit=3, per_node=per_node)
        assert verify_package(result.folder, wanted, lambda *_: None)["ok"]


def test_outputs_of_another_model_are_a_mismatch_where_every_node_is_right(tmp_path: Path) -> None:
    """Drift is forgiven where the model itself gives what is expected, and nowhere else."""
    result = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "net", options())
    arrays = np.load(DIGITS / "test_data.npz")
    np.savez(tmp_path / "in.npz", input_0=arrays["input_0"][:4])
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "out.npz", output_0=rng.standard_normal((4, 10)).astype(np.float32) * 9)
    given = VerifyOptions(data=tmp_path / "in.npz", expected=tmp_path / "out.npz")
    assert not verify_package(result.folder, given, lambda *_: None)["ok"]


@pytest.mark.quick
@pytest.mark.parametrize(("size", "allowed"), [(1e20, True), (1e3, False)])
def test_an_infinity_is_a_fault_unless_numbers_are_so_large_that_sums_overflow(
    size: float, allowed: bool
) -> None:
    """In another order, the sum of products may stay below what a float holds."""
    rng = np.random.default_rng(3)
    x, w = (rng.uniform(-size, size, shape).astype(np.float32) for shape in ((1, 64), (2, 64)))
    node = Node(Dense(), ("x", "w", "b"), ("y",))
    want = np.array([[-2e38, 1.0]], np.float32)
    got = np.array([[-np.inf, 1.0]], np.float32)
    with np.errstate(all="ignore"):
        near = allowance(node, 0, [x, w, np.zeros(2, np.float32)], want, got)
    assert near.tolist() == [allowed, True]


@pytest.mark.quick
@pytest.mark.parametrize(("size", "allowed"), [(1e19, True), (1e3, False)])
def test_a_sum_that_overflows_unseen_is_no_fault(size: float, allowed: bool) -> None:
    """Divided by the root of such a sum, numbers are 0; behind a clamp an infinity is its bound."""
    rng = np.random.default_rng(4)
    x, w = (rng.uniform(size / 2, size, shape).astype(np.float32) for shape in ((1, 64), (2, 64)))
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    norm = LayerNorm(1e-5)
    (want,) = norm.reference(x, ones, zeros)
    node = Node(norm, ("x", "scale", "bias"), ("y",))
    assert allowance(node, 0, [x, ones, zeros], want, np.zeros_like(want)).all() == allowed
    node = Node(Dense(Clamp(0.0, 6.0)), ("x", "w", "b"), ("y",))
    bounds = np.array([[6.0, 0.0]], np.float32)
    assert allowance(node, 0, [x, w, zeros[:2]], bounds, bounds[:, ::-1]).all() == allowed


@pytest.mark.quick
@pytest.mark.parametrize(("size", "allowed"), [(1e3, True), (10.0, False)])
def test_a_product_that_overflows_in_one_order_is_no_fault(size: float, allowed: bool) -> None:
    """Of factors of which some are large, some small, and one is 0: NaN, an infinity or a number."""
    x = np.repeat(np.array([[size], [1 / size], [0]], np.float32), [20, 20, 1], axis=0)
    node = Node(Reduce("prod", (0,)), ("x",), ("y",))
    for factors in (x, x[:-1]):
        (want,) = node.op.reference(factors)
        for got in (np.nan, np.inf):
            assert allowance(node, 0, [factors], want, np.full_like(want, got)).all() == allowed


@pytest.mark.quick
def test_an_infinity_beside_another_is_judged_by_its_own_sums() -> None:
    x, w = np.full((1, 4), 1e20, np.float32), np.full((2, 4), 1e20, np.float32)
    node = Node(Dense(), ("x", "w", "b"), ("y",))
    want, got = np.array([[np.inf, -1e38]], np.float32), np.array([[np.inf, np.nan]], np.float32)
    assert allowance(node, 0, [x, w, np.zeros(2, np.float32)], want, got).all()


@pytest.mark.quick
def test_what_is_made_beside_an_infinity_is_judged() -> None:
    """A mask of minus infinities decides some scores, and no others."""
    scores, mask = np.array([[1.0, 2.0, 3.0]], np.float32), np.array([[0.0, 0.0, -np.inf]], np.float32)
    node = Node(Binary("add"), ("scores", "mask"), ("y",))
    got = np.array([[1.0, 2.5, 7.0]], np.float32)
    assert allowance(node, 0, [scores, mask], scores + mask, got).tolist() == [True, False, True]
    node, unknown = Node(Softmax(), ("x",), ("y",)), np.array([[np.nan, 2.0, 3.0]], np.float32)
    (want,) = node.op.reference(scores + mask)
    assert allowance(node, 0, [scores + mask], want, want[:, ::-1]).tolist() == [False, True, False]
    assert allowance(node, 0, [unknown], want, want[:, ::-1]).all()


@pytest.mark.quick
def test_what_no_nan_decides_is_judged() -> None:
    """A line with NaN leaves the other line open to no error, whether a number is wrong or none is made."""
    x, w = np.array([[np.nan, 1.0], [2.0, 3.0]], np.float32), np.ones((1, 2), np.float32)
    dense, pick = Node(Dense(), ("x", "w", "b"), ("y",)), Node(Reduce("max", (1,)), ("x",), ("y",))
    (sums,), (most,) = dense.op.reference(x, w, np.zeros(1, np.float32)), pick.op.reference(x)
    for wrong in (np.float32(5.01), np.float32(np.nan), np.float32(np.inf)):
        got = np.where(np.isnan(sums), 7, wrong).astype(np.float32)
        assert allowance(dense, 0, [x, w, np.zeros(1, np.float32)], sums, got).tolist() == [True, False]
        assert allowance(pick, 0, [x], most, np.array([7, wrong], np.float32)).tolist() == [True, False]


@pytest.mark.quick
@pytest.mark.parametrize("size", [1.0, 1e-9, 1e-30])
def test_small_numbers_are_judged_as_large_ones(size: float) -> None:
    rng = np.random.default_rng(7)
    x, w = (rng.uniform(-size, size, (1, 8)) for _ in "xw")
    operands = [x.astype(np.float32), (w / size).astype(np.float32), np.zeros(1, np.float32)]
    node = Node(Dense(), ("x", "w", "b"), ("y",))
    (want,) = node.op.reference(*operands)
    assert allowance(node, 0, operands, want, (want * np.float32(1.000001))).all()
    assert not allowance(node, 0, operands, want, (want * np.float32(1.01))).any()


@pytest.mark.quick
@pytest.mark.parametrize(("size", "allowed"), [(1e-25, True), (1e-15, False)])
def test_squares_may_be_too_small_for_floats(size: float, allowed: bool) -> None:
    """The root of their sum is then 0 in C; so is a product of small numbers."""
    x = np.full((1, 8), size, np.float32)
    node = Node(Reduce("l2", (1,)), ("x",), ("y",))
    (want,) = node.op.reference(x)
    assert allowance(node, 0, [x], want, np.zeros_like(want)).all() == allowed
    w = np.full((1, 8), 1e-15 if allowed else 1, np.float32)
    operands = [x, w, np.zeros(1, np.float32)]
    node = Node(Dense(), ("x", "w", "b"), ("y",))
    (want,) = node.op.reference(*operands)
    assert allowance(node, 0, operands, want, np.zeros_like(want)).all() == allowed


@pytest.mark.quick
@pytest.mark.parametrize(("size", "allowed"), [(1e37, True), (1.0, False)])
def test_sums_of_a_cell_may_overflow_unseen(size: float, allowed: bool) -> None:
    """In the order of another machine, a sum is infinite and its tanh 1, or no number."""
    rng = np.random.default_rng(5)
    cell = Recurrent("rnn", (CellFunction("tanh"),))
    x, r = (rng.uniform(-size, size, shape).astype(np.float32) for shape in ((3, 4), (4, 4)))
    (want,) = cell.reference(x, r)
    node = Node(cell, ("x", "r"), ("y",))
    assert allowance(node, 0, [x, r], want, -want).all() == allowed
