# SPDX-License-Identifier: Apache-2.0
"""States: a new value is written over the old one, after all have read that; the checker sees where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mmcc.checker.memory_plan import check_memory_plan
from mmcc.checker.plan import check_plan
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Module, check_module
from mmcc.ir.nest import Span
from mmcc.ir.plan import Place, Plan
from mmcc.ir.regions import SRAM, STATE
from mmcc.kernels.contract import contracts
from mmcc.ops.elementwise import Binary
from mmcc.ops.movement import Expand
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan, plan_module
from mmcc.planner.request import PlanRequest
from mmcc.planner.states import ALIGN, state_places
from mmcc.target import load_target
from stateful import BY_HAND, StatefulBuild, accumulator, crossed, old_and_new, random_graph, shift_register

RUNS = 3


def planned(graph: Graph, *, external: bool = False, **asked) -> Plan:
    request = PlanRequest(
        external_inputs=external,
        external_outputs=external,
        states=state_places(graph.states, ALIGN),
        **asked,
    )
    return best_plan(graph, request)


def several_runs(graph: Graph) -> list[dict[str, np.ndarray]]:
    machine, rng = Interpreter(Module.of(graph)), np.random.default_rng(1)
    found = []
    for _ in range(RUNS):
        inputs = {
            port.tensor: rng.standard_normal(graph.tensors[port.tensor].shape).astype(np.float32)
            for port in graph.inputs
        }
        arrays = machine.call("run", inputs)
        found.append({port.onnx_name: arrays[port.tensor] for port in graph.outputs})
    return found


def sound(graph: Graph) -> None:
    """Separated, the graph means what it did, and every plan of it is sound."""
    assert check_module(Module.of(graph)) == []
    for outside in (False, True):
        separate = separate_states(graph, outputs_outside=outside)
        assert check_module(Module.of(separate)) == []
        for one, other in zip(several_runs(graph), several_runs(separate), strict=True):
            for name, array in one.items():
                np.testing.assert_array_equal(array, other[name])
        for recompute in (1.0, 2.0):
            plan = planned(separate, external=outside, recompute=recompute)
            assert check_plan(separate, plan) == [], f"{separate}\n{plan}"
        free = planned(separate, external=outside, fuse=False)
        assert check_plan(separate, free) == []


def copies(graph: Graph) -> int:
    """Nodes more, which copy."""
    made = separate_states(graph).nodes[len(graph.nodes) :]
    assert all(isinstance(node.op, Expand) for node in made)
    return len(made)


@pytest.mark.quick
@pytest.mark.parametrize("name", BY_HAND)
def test_graphs_by_hand(name: str) -> None:
    sound(BY_HAND[name]())


@pytest.mark.parametrize("part", range(8))
def test_random_graphs(part: int) -> None:
    for seed in range(15 * part, 15 * part + 15):
        sound(random_graph(seed))


@pytest.mark.quick
def test_a_copy_is_made_only_where_no_order_does() -> None:
    counts = {name: copies(make()) for name, make in BY_HAND.items()}
    assert counts == {
        "accumulator": 0,
        "old_and_new": 1,
        "shift_register": 1,
        "shifted": 0,
        "swap": 3,  # with a third place
        "crossed": 1,
        "old_output": 3,
        "unchanged": 0,
    }


@pytest.mark.quick
def test_a_state_in_place_takes_no_arena() -> None:
    """The input alone is in the arena: the sum is written over the state, and read there as the output."""
    graph = separate_states(accumulator())
    plan = planned(graph)
    (state,) = graph.states
    assert plan.slots[state.begin] != plan.slots[state.end]
    assert plan.places[plan.slots[state.end].buffer] == Place(STATE, 0)
    assert plan.peak(SRAM) == graph.tensors[graph.inputs[0].tensor].bytes
    assert plan.peak(STATE) == graph.tensors[state.begin].bytes


@pytest.mark.quick
def test_states_lie_one_behind_the_other() -> None:
    graph = separate_states(crossed())
    wanted = [Place(STATE, 0), Place(STATE, graph.tensors["s0"].bytes)]
    assert list(state_places(graph.states, ALIGN).values()) == wanted


@pytest.mark.quick
def test_states_are_aligned_as_all_buffers_of_the_plan_are() -> None:
    """Loops and functions of the user's ask for more than 4 bytes; a second state began in the middle."""
    b = StatefulBuild("two")
    for state in (b.state(3), b.state(3)):
        b.becomes(state, b.add(Binary("add"), state, state))
    module = Module.of(separate_states(b.graph(b.states[0].end)))
    plan = plan_module(module, {"run": PlanRequest(align=16)})
    assert check_memory_plan(module, plan) == []
    assert sorted(place.offset for place in plan.states.values()) == [0, 16]


@pytest.mark.quick
def test_an_early_writer_is_convicted() -> None:
    """The order in which the state's reader comes too late."""
    graph = separate_states(crossed())
    plan = planned(graph, fuse=False)
    wrong = [
        replace(plan, groups=(*plan.groups[:k], plan.groups[k + 1], plan.groups[k], *plan.groups[k + 2 :]))
        for k in range(len(plan.groups) - 1)
    ]
    assert any("overwritten" in text for made in wrong for text in check_plan(graph, made))


@pytest.mark.quick
@pytest.mark.parametrize("make", [accumulator, old_and_new, shift_register])
def test_a_state_that_moves_or_dies_is_convicted(make) -> None:
    graph = separate_states(make())
    plan = planned(graph)
    (state,) = graph.states
    new, old = (plan.slots[name].buffer for name in (state.end, state.begin))
    moved = replace(plan, places=plan.places | {new: Place(STATE, 4096)})
    assert any("but its new value" in text for text in check_plan(graph, moved))
    for name in (new, old):
        gone = tuple(
            replace(b, live=Span(1, 1) if name == old else Span(0, 0)) if b.name == name else b
            for b in plan.buffers
        )
        assert any("lives from run to run" in text for text in check_plan(graph, replace(plan, buffers=gone)))


@pytest.mark.quick
def test_modules_hold_their_entries_together() -> None:
    one, other = accumulator(), accumulator()
    other = replace(other, states=(replace(other.states[0], initial=other.states[0].initial + 1),))
    run, entry = Module.of(one).entries[0], Module.of(other).entries[0]
    faults = check_module(Module("m", (run, replace(entry, name="learn"))))
    assert faults == ["entry learn: state %s0 begins otherwise in another entry"]
    faults = check_module(Module("m", (run, replace(entry, name="reset"), run)))
    assert 'entry "reset" would be another function of the package' in faults
    assert 'entry "run" is there twice' in faults
    for name in ("row", "columns", "input_0", "stream_output_12", "context"):
        (fault,) = check_module(Module("m", (replace(run, name=name),)))
        assert fault == f'entry "{name}" would be another function of the package'
    assert check_module(Module("m", ())) == ["a module has no entries"]


@pytest.mark.quick
def test_an_output_is_written_by_a_node_of_its_own() -> None:
    """Its caller may choose where it is: it cannot be elsewhere too."""
    graph = accumulator()
    (port,) = graph.outputs
    for name in (port.tensor, graph.inputs[0].tensor):
        twice = replace(graph, outputs=(port, replace(port, tensor=name)))
        (fault,) = check_module(Module.of(twice))
        assert f"output %{name} is a constant, an input or an output twice" in fault


@pytest.mark.quick
def test_a_state_without_kernels_is_named() -> None:
    b = StatefulBuild("half")
    x = b.input(4, dtype=ElementType.I4)
    b.becomes(b.state(4), x)
    packed = {name: replace(tensor, dtype=ElementType.I4) for name, tensor in b.tensors.items()}
    states = tuple(replace(state, initial=state.initial.astype(ElementType.I4.numpy)) for state in b.states)
    graph = separate_states(replace(b.graph(), tensors=packed, states=states))
    with pytest.raises(CompileError, match='expand<4> of state "s0" has') as caught:
        contracts(graph, load_target("host"))
    assert caught.value.code == "MM203"
