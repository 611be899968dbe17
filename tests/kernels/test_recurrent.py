# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers through planner, checker and C: rows are made once, in order, whatever the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from fused_c import filled, request, run
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.ir.nest import Span
from mmcc.ir.plan import Group, Place, Plan, Strip
from mmcc.ir.regions import SRAM
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Unary
from mmcc.ops.movement import Slice
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.planner.api import best_plan
from mmcc.target import list_targets
from op_cases_recurrent import recurrent_layers
from planner_graphs import Build
from qemu_bench import QemuBench
from recurrent_models import forms, layer
from toolchains import emulated_on, ready

GRU = (CellFunction("sigmoid"), CellFunction("tanh"))
LSTM = (*GRU, CellFunction("tanh"))
STEPS, UNITS = 9, 6
PLANS = {
    "layers": {},
    "min": {"ram": "min"},
    "external": {"ram": "min", "io": "external"},
    "rows": {"ram": "min", "io": "rows"},
    "staged": {"weights": "staged"},
}
FORMS = {
    "GRU_forward": {},
    "LSTM_both": {"direction": "bidirectional", "initial": True, "given": True, "lengths": [5]},
    "LSTM_three": {"sequences": 3, "peepholes": True, "outputs": ("Y", "Y_c")},
    "RNN_reverse": {"direction": "reverse", "sequences": 2, "outputs": ("Y_h",)},
}
BOARDS = [name for name in list_targets() if name not in ("host", "cortex-m")]


def sample(given, folder):
    """The file of one sample: lengths of sequences cannot be made up."""
    np.savez(folder / "inputs.npz", **{f"input_{k}": value[None] for k, value in enumerate(given.values())})
    return folder / "inputs.npz"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("plan", PLANS)
def test_models_against_onnx_runtime(name, plan, tmp_path):
    """compile runs the C against the references by itself; verify asks ONNX Runtime."""
    model, given = layer(name.split("_")[0], **FORMS[name])
    onnx.save(model, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m", **PLANS[plan])
    assert mmcc.verify(tmp_path / "m", data=sample(given, tmp_path), per_node=True)["ok"]


@pytest.mark.parametrize("name", list(forms())[::13])
def test_every_kind_of_form_in_c(name, tmp_path):
    model, given = layer(**forms()[name])
    onnx.save(model, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m", ram="min")
    assert mmcc.verify(tmp_path / "m", data=sample(given, tmp_path), per_node=True)["ok"]


@pytest.mark.parametrize("target", BOARDS)
def test_on_every_target(target, tmp_path):
    on = emulated_on(ready(target))
    model, _ = layer("LSTM", direction="bidirectional", initial=True, given=True)
    onnx.save(model, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m", target=target, ram="min")
    assert mmcc.verify(tmp_path / "m", on=on)["ok"]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_every_case_on_a_board(target):
    QemuBench(recurrent_layers(), ready(target)).check_all()


def classifier(*, backward: bool = False, several: bool = False) -> Graph:
    """A layer between others; what comes after it reads the last row only."""
    b = Build("classifier")
    x = b.add(Unary("tanh"), b.input(STEPS, 3, dtype=ElementType.F32))

    def dense(x: str, inputs: int, outputs: int) -> str:
        shapes = ((outputs, inputs), (outputs,))
        return b.add(Dense(), x, *(b.constant(np.zeros(shape, np.float32)) for shape in shapes))

    r = b.constant(np.zeros((4 * UNITS, UNITS), np.float32))
    cell = Recurrent("lstm", LSTM, last=("c",) if several else (), backward=backward)
    y, *_ = b.add_all(cell, dense(x, 3, 4 * UNITS), r)
    last = b.add(Slice((0 if backward else STEPS - 1, 0), (1, 1), (1, UNITS)), y)
    return b.graph(dense(last, UNITS, 2))


def plan_of(graph: Graph, **more: object) -> Plan:
    return best_plan(graph, request(graph, **more))


@pytest.mark.quick
def test_a_layer_needs_one_row_of_each_tensor():
    """Input; products and result of a step; h and c; the last row. Products of all steps are 864 bytes."""
    graph = classifier()
    made = plan_of(graph, fuse=True)
    peak = made.peak(SRAM)
    assert check_plan(graph, made) == []
    assert any(len(group.nodes) > 2 for group in made.groups)
    assert peak <= 4 * (STEPS * 3 + 3 + 4 * UNITS + UNITS + 2 * UNITS + UNITS)


@pytest.mark.quick
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_each_plan_gives_the_reference(backward, several, tmp_path: Path):
    graph = filled(classifier(backward=backward, several=several), 3)
    rng = np.random.default_rng(0)
    want: list[np.ndarray] = []
    for _ in range(3):
        given = {p.onnx_name: rng.standard_normal(p.onnx_shape).astype(np.float32) for p in graph.inputs}
        want += evaluate(graph, given).values()
    for fuse in (False, True):
        made = plan_of(graph, fuse=fuse)
        assert check_plan(graph, made) == []
        for mine, theirs in zip(run(graph, made, tmp_path / f"{fuse}"), want, strict=True):
            np.testing.assert_allclose(np.frombuffer(mine, np.float32), theirs.reshape(-1), atol=1e-5)


@pytest.mark.quick
def test_a_layer_that_goes_backward_runs_alone():
    graph = classifier(backward=True)
    made = plan_of(graph, fuse=True)
    (group,) = (group for group in made.groups if cell_of(graph) in group.nodes)
    assert group == Group((cell_of(graph),), backward=True)
    wrong = check_plan(graph, regrouped(made, replace(group, backward=False)))
    assert any("makes its rows backward" in text for text in wrong)


def cell_of(graph: Graph) -> int:
    return next(k for k, node in enumerate(graph.nodes) if isinstance(node.op, Recurrent))


def regrouped(made: Plan, other: Group) -> Plan:
    """The plan with another group in place of the one that has its nodes."""
    groups = tuple(other if group.nodes == other.nodes else group for group in made.groups)
    return replace(made, groups=groups)


@pytest.fixture
def together() -> tuple[Graph, Plan, Group]:
    """A plan whose layer runs together with others."""
    graph = classifier()
    made = plan_of(graph, fuse=True)
    return graph, made, next(group for group in made.groups if cell_of(graph) in group.nodes)


@pytest.mark.quick
def test_what_a_row_hands_on_must_be_there(together: tuple[Graph, Plan, Group]):
    """Where the ring of products lies, or that of the results, it is overwritten between two rows."""
    graph, made, _ = together
    index = cell_of(graph)
    assert made.scratch is not None
    assert check_plan(graph, replace(made, scratch=None))
    for name in (graph.nodes[index].inputs[0], graph.nodes[index].outputs[0]):
        where = made.places[made.slots[name].buffer].offset
        moved = replace(made, places=made.places | {made.scratch[index]: Place(SRAM, where)})
        assert any("hands on is lost" in text for text in check_plan(graph, moved)), name


@pytest.mark.quick
def test_rows_are_made_once_and_in_order(together: tuple[Graph, Plan, Group]):
    graph, made, group = together
    strips = (Strip(Span(0, 1)), Strip(Span(0, 1)))
    wrong = check_plan(graph, regrouped(made, replace(group, strips=strips)))
    assert any("makes each row once" in text for text in wrong)
    alone = plan_of(graph, fuse=False)
    index = cell_of(graph)
    wrong = check_plan(graph, regrouped(alone, Group((index,), backward=True)))
    assert any("makes its rows forward" in text for text in wrong)
