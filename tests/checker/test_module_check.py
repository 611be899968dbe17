# SPDX-License-Identifier: Apache-2.0
"""Faults planted into what the entries of a module share: states and their memory, numbers of nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mmcc.checker.memory_plan import check_memory_plan
from mmcc.checker.program import check_program
from mmcc.codegen.lower import lower
from mmcc.ir.module import Module
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, MemoryPlan, Place, Plan
from mmcc.ir.program import Program
from mmcc.ir.regions import STATE
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import plan_module
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from stateful import learner

pytestmark = pytest.mark.quick
MODULE = learner().map(separate_states)


def planned() -> MemoryPlan:
    return plan_module(MODULE, {entry.name: PlanRequest() for entry in MODULE.entries})


def lowered(plan: MemoryPlan) -> Program:
    return lower(MODULE, plan, "net", load_target("host"))


def test_what_is_sound_passes() -> None:
    plan = planned()
    assert check_memory_plan(MODULE, plan) == []
    assert check_program(MODULE, plan, lowered(plan)) == []


def with_learn(plan: MemoryPlan, learn: Plan) -> MemoryPlan:
    return replace(plan, entries=plan.entries | {"learn": learn})


def test_states_that_share_bytes_or_leave_their_memory() -> None:
    plan = planned()
    first, second = plan.states
    close = replace(plan.states[first], offset=plan.states[first].offset + 4)
    wrong = check_memory_plan(MODULE, replace(plan, states=plan.states | {second: close}))
    assert f'states "{first}" and "{second}" share bytes' in wrong
    wrong = check_memory_plan(MODULE, replace(plan, state_bytes={STATE: plan.state_bytes[STATE] - 1}))
    assert any(f'state "{second}" ends at byte' in text for text in wrong)


def test_a_state_that_an_entry_has_elsewhere() -> None:
    plan = planned()
    learn = plan.entries["learn"]
    (state,) = (s for s in MODULE.entries[1].graph.states if s.begin != s.end)
    names = {learn.slots[name].buffer for name in (state.begin, state.end)}
    moved = replace(learn, places=learn.places | {name: Place(STATE, 256) for name in names})
    wrong = check_memory_plan(MODULE, with_learn(plan, moved))
    assert wrong == [f'entry learn: state "{state.begin}" is not where the other entries have it']


def test_a_buffer_among_the_states() -> None:
    """The count is a state that `learn` does not touch: its bytes are nobody's there, and yet not free."""
    plan = planned()
    learn = plan.entries["learn"]
    stray = Buffer("stray", BufferKind.SCRATCH, 4, Span(0, 1), (STATE,))
    place = Place(STATE, max(place.offset for place in plan.states.values()))
    learn = replace(learn, buffers=(*learn.buffers, stray), places=learn.places | {"stray": place})
    wrong = check_memory_plan(MODULE, with_learn(plan, learn))
    assert wrong == ['entry learn: buffer "stray" lies among the states, but is none']


def test_programs_that_begin_otherwise_or_count_otherwise() -> None:
    plan = planned()
    program = lowered(plan)
    state = program.states[0]
    for change in ({"offset": state.offset + 4}, {"data": state.data + 1}, {"memory": "sram"}):
        others = (replace(state, **change), *program.states[1:])
        wrong = check_program(MODULE, plan, replace(program, states=others))
        assert wrong == ["states do not begin with their initial values where the plan has them"]
    run, learn = program.entries
    wrong = check_program(
        MODULE, plan, replace(program, entries=(run, replace(learn, first=learn.first - 1)))
    )
    assert any("nodes of entry learn are numbered from" in text for text in wrong)
    wrong = check_program(MODULE, plan, replace(program, entries=(run,)))
    assert wrong == ["the program has the entries ['run'], the module ['run', 'learn']"]
    small = {region: size - 16 if region == STATE else size for region, size in program.regions.items()}
    wrong = check_program(MODULE, plan, replace(program, regions=small))
    assert any("ends beyond the arena in state" in text for text in wrong)


def test_a_module_has_one_plan_an_entry() -> None:
    alone = Module("alone", MODULE.entries[:1])
    plan = plan_module(alone, {"run": PlanRequest()})
    assert list(plan.entries) == ["run"]
    assert plan.regions()[STATE] % STATE.align == 0
