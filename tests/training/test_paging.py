# SPDX-License-Identifier: Apache-2.0
"""Values that wait in slow memory: the same bits, copies as reported, and a checker that finds wrong ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import mmcc
import numpy as np
import pytest
from mmcc.api import CompileResult, TrainOptions
from mmcc.checker.plan import check_plan
from mmcc.checker.program_pages import check_pages
from mmcc.codegen.lower import lower_entry
from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Module
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SLOW, Place
from mmcc.ops.paging import PageIn, PageOut
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.cost import node_cost, node_costs
from mmcc.planner.paging import traffic
from mmcc.target import load_target
from mmcc.training import options as training_options
from mmcc.training.module import STEP, training_module
from mmcc.training.recompute import SavedValues
from mmcc.verification.compare import sanitized_program
from test_made_again import RATE, chain, learned, samples
from test_trained_packages import called as run_in_order

LAYERS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain(tmp_path_factory.mktemp("chain"), LAYERS)


@pytest.fixture(scope="module")
def paged(model: Path, tmp_path_factory: pytest.TempPathFactory) -> CompileResult:
    train = TrainOptions(optimizer="momentum", slow_memory=1 << 20)
    folder = tmp_path_factory.mktemp("paged")
    return mmcc.compile_training(model, folder / "net", train, name="net", ram="min")


def test_paged_values_learn_the_same_bits_and_copies_are_those_reported(
    model: Path, paged: CompileResult, tmp_path: Path
) -> None:
    """The test bench's callbacks copy as late as they may, and find sources and targets that were touched."""
    plain = mmcc.compile_training(model, tmp_path / "plain", TrainOptions(optimizer="momentum"), name="net")
    entry, saved = paged.report["entries"][0], paged.report["entries"][0]["saved"]
    assert entry["plan"]["arena"] < 0.5 * plain.report["entries"][0]["plan"]["arena"]
    assert {value["name"] for value in saved["paged"]} >= {"r0"}
    assert saved["bytes_moved"] == 2 * sum(value["bytes"] for value in saved["paged"])
    assert 0 < saved["stalls_predicted"] < saved["copies_predicted"]
    assert "slow memory" in (paged.folder / "report.txt").read_text()
    for one, other in zip(learned(plain), learned(paged), strict=True):
        np.testing.assert_array_equal(one, other)
    host = host_model(paged.folder, load_package(paged.folder))
    image, label = samples(1)[0]
    host.run([image])
    assert host.bytes_paged() == 0, "an inference pages nothing"
    for steps in (1, 2):
        host.run([image, label, RATE], 1)
        assert host.bytes_paged() == steps * saved["bytes_moved"]


def test_sanitizers_see_no_fault(paged: CompileResult, tmp_path: Path) -> None:
    program = sanitized_program(paged.folder, load_package(paged.folder))
    image, label = samples(1)[0]
    known = {"x": image, "label_0": label, "rate": RATE}
    run_in_order(paged, [1, 1, 0], program, "host", tmp_path, known)


@pytest.fixture(scope="module")
def saved(model: Path) -> SavedValues:
    graph = load_graph(model, CompileOptions())
    step = training_module(graph, training_options.TrainOptions(accumulate=2)).entries[1].graph
    return SavedValues(step, {name for node in graph.nodes for name in node.outputs})


@pytest.mark.quick
def test_every_choice_computes_the_same(saved: SavedValues) -> None:
    image, label = samples(1)[0]

    def sums(graph) -> dict[str, np.ndarray]:
        machine = Interpreter(Module.of(graph))
        machine.call("run", {"x": image, "label_0": label})
        return machine.states

    want = sums(saved.graph)
    names = [value.name for value in saved.values]
    gradients = {value.name for value in saved.gradients}
    assert len(gradients) == LAYERS + 1  # and that of the loss
    for ways in product(range(3), repeat=len(names)):
        kept, away = ({n for n, way in zip(names, ways, strict=True) if way == k} for k in (0, 1))
        graph = saved.recomputed(kept, away | (gradients if sum(ways) % 2 else set()))
        assert len(graph.paged) == len(away) + (len(gradients) if sum(ways) % 2 else 0)
        got = sums(graph)
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)


def faults(result: CompileResult, change) -> list[str]:
    """What the checker says of the step's plan with something changed."""
    entry = next(entry for entry in result.module.entries if entry.name == STEP)
    return check_plan(entry.graph, change(result.memory.entries[STEP]))


def test_the_checker_finds_what_a_copy_may_lose(paged: CompileResult) -> None:
    plan = paged.memory.entries[STEP]
    assert faults(paged, lambda plan: plan) == []
    here = [b.name for b in plan.buffers if plan.places[b.name].region == SLOW]
    assert len(here) > 1

    def together(plan: Plan) -> Plan:
        """Two values at one place of slow memory."""
        return replace(plan, places=plan.places | {here[0]: Place(SLOW, plan.places[here[1]].offset)})

    assert any("share bytes of slow" in text for text in faults(paged, together))
    graph = next(entry.graph for entry in paged.module.entries if entry.name == STEP)
    leaving = next(node for node in graph.nodes if isinstance(node.op, PageOut)).inputs[0]

    def shallow(plan: Plan) -> Plan:
        """A ring that loses a row while its copy may still read it."""
        slot = plan.slots[leaving]
        return replace(plan, slots=plan.slots | {leaving: replace(slot, rows=1)})

    assert plan.slots[leaving].rows > 1
    assert any(leaving in text for text in faults(paged, shallow))
    coming = next(k for k, node in enumerate(graph.nodes) if isinstance(node.op, PageIn))
    assert plan.scratch is not None

    def shared(plan: Plan) -> Plan:
        """The next row comes to where a value lies that is in use."""
        other = plan.slots[graph.nodes[coming].output].buffer
        return replace(plan, scratch={**(plan.scratch or {}), coming: other})

    assert faults(paged, shared)


def test_the_program_checker_finds_other_copies(paged: CompileResult) -> None:
    plan = paged.memory.entries[STEP]
    entry = next(entry for entry in paged.module.entries if entry.name == STEP)
    code = lower_entry(entry, plan, load_target("host"))
    assert [*check_pages(entry.graph, plan, code)] == []
    node = next(node for node in code.nodes if node.use.template == "page_in")
    for field, value in (("slow", 16), ("bytes", 4), ("rows", 1), ("page", 1)):
        old = dict(node.use.fields)
        assert isinstance(old[field], int)
        fields = tuple((name, old[name] + value if name == field else old[name]) for name in old)  # type: ignore[operator]

        changed = replace(node, use=replace(node.use, fields=fields))
        nodes = tuple(changed if each is node else each for each in code.nodes)
        assert [*check_pages(entry.graph, plan, replace(code, nodes=nodes))], field


def test_a_copy_goes_on_beside_what_is_computed(saved: SavedValues) -> None:
    """Of plans in as few bytes one that waits less is taken: a copy in a group of its own has nothing beside
    it, and costs no work."""
    target, paged = load_target("host"), [value.name for value in saved.values if value.bytes > 1000]
    graph = separate_states(saved.recomputed((), paged))
    asked = plan_request(CompileOptions("host"), graph, target, silent)
    copies = sum(graph.tensors[name].bytes for name in graph.paged)
    cycles = 0.5 * sum(node_cost(graph, node, target.cost).work for node in graph.nodes) / copies
    plans = [best_plan(graph, replace(asked, fuse=True, slow_cycles=slow)) for slow in (0.0, cycles)]
    blind, seeing = (traffic(graph, plan, target.cost, cycles).stalls for plan in plans)
    assert seeing < 0.8 * blind
    assert asked.peak(plans[1]) <= asked.peak(plans[0])
    alone = [group.nodes for group in plans[1].groups if len(group.nodes) == 1]
    assert not [nodes for nodes in alone if isinstance(graph.nodes[nodes[0]].op, PageOut)]


@pytest.mark.quick
def test_waiting_is_predicted_group_by_group(paged: CompileResult) -> None:
    plan = paged.memory.entries[STEP]
    graph, figures = paged.module.entries[1].graph, load_target("host").cost
    free, slow = (traffic(graph, plan, figures, cycles) for cycles in (0.0, 1e6))
    assert free.cycles == free.stalls == 0
    assert slow.bytes == free.bytes > 0
    beside = sum(node_costs(graph, plan, figures).values())
    assert slow.cycles - beside <= slow.stalls <= slow.cycles
