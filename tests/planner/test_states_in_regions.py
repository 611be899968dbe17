# SPDX-License-Identifier: Apache-2.0
"""Which region each state is in: no other choice costs less; the checker sees what takes too much."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import inf
from random import Random

import numpy as np
import pytest
from mmcc.checker.memory_plan import check_memory_plan
from mmcc.errors import CompileError
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module
from mmcc.ir.plan import MemoryPlan
from mmcc.ir.regions import Region, states_in
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Concat
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan, plan_module
from mmcc.planner.regions.states import MOST_CHOICES, choices
from mmcc.planner.regions.traffic import Bytes
from mmcc.planner.request import KeptTogether, PlanRequest
from mmcc.planner.states import state_bytes, state_places
from stateful import BY_HAND, StatefulBuild, crossed, learner

pytestmark = pytest.mark.quick

FAST, SLOW = Region("fast", align=16), Region("slow", align=16, read_cost=2.0, write_cost=3.0)
NEAR = 1e-6


def asked(fast: int, slow: int | None = None, **given: object) -> PlanRequest:
    regions = (replace(FAST, size=fast), replace(SLOW, size=slow))
    return replace(PlanRequest(regions=regions, by_region=True, fuse=False), **given)


def cheapest_of_all(graph: Graph, request: PlanRequest) -> float:
    """The least cost over all regions of all states, each planned with them where they are."""
    found = []
    for homes in product(request.regions, repeat=len(graph.states)):
        memories = {state.begin: states_in(home) for state, home in zip(graph.states, homes, strict=True)}
        places = state_places(graph.states, request.align, memories)
        taken = state_bytes(graph.states, places)
        within = {
            region.name: region.size // 16 * 16 - -(-taken.get(states_in(region), 0) // 16) * 16
            for region in request.regions
            if region.size is not None
        }
        if min(within.values()) < 0:
            continue
        try:
            found.append(best_plan(graph, replace(request, states=places, within=within)).cost)
        except CompileError:
            continue
    return min(found)


CASES = {"crossed": BY_HAND["crossed"], "swap": BY_HAND["swap"], "old output": BY_HAND["old_output"]}


@pytest.mark.parametrize("name", CASES)
def test_no_other_choice_costs_less(name: str) -> None:
    """Fast memory for some, and for all."""
    graph = separate_states(CASES[name]())
    draw = Random(name)
    states = sum(state.initial.nbytes for state in graph.states)
    whole = states + best_plan(graph, PlanRequest(fuse=False)).peak(PlanRequest().regions[0])
    for fast in (draw.randrange(16, whole, 16), whole + 64):
        request = asked(fast)
        plan = plan_module(Module.of(graph), {"run": request})
        assert check_memory_plan(Module.of(graph), plan) == []
        (own,) = plan.entries.values()
        least = cheapest_of_all(graph, request)
        assert own.least_cost <= least * (1 + NEAR)
        assert own.cost <= least * (1 + NEAR), f"{own.cost} in {fast} of {whole} bytes, {least} is there"


def test_states_give_way_where_fast_memory_is_to_be_least() -> None:
    graph = separate_states(crossed())
    plan = plan_module(Module.of(graph), {"run": asked(1 << 20, least=("fast",))})
    assert {place.region.name for place in plan.states.values()} == {"slow_state"}
    (own,) = plan.entries.values()
    assert (own.bounds, own.proved_optimal) == ({"fast": 0}, True)


def test_what_is_read_most_is_in_fast_memory() -> None:
    """Room for one of two states: that of which more is read and written a byte."""
    kept = [KeptTogether((name,), 64) for name in ("hot", "cold")]
    found = choices(kept, [Bytes(640, 64), Bytes(64, 64)], (FAST, SLOW), (64.0, 1024.0))
    assert {choice.homes for choice in found.some} == {(0, 1), (1, 1)}
    best = min(found.some, key=lambda choice: choice.cost)
    assert (best.homes, best.cost) == ((0, 1), 64 * 2.0 + 64 * 3.0)


def test_of_many_choices_some_are_left_out_and_bounded() -> None:
    kept = [KeptTogether((str(k),), 16 * 2**k) for k in range(11)]
    found = choices(kept, [Bytes(each.bytes, 0) for each in kept], (FAST, SLOW), (4e4, 1e6))
    assert 100 < len(found.some) <= MOST_CHOICES
    assert min(choice.cost for choice in found.some) == 0.0
    assert 0 < found.others < inf


def test_entries_have_states_where_they_are_best_for_the_dearest() -> None:
    module = learner().map(separate_states)
    plan = plan_module(module, {entry.name: asked(1 << 20) for entry in module.entries})
    assert check_memory_plan(module, plan) == []
    assert {place.region.name for place in plan.states.values()} == {"fast_state"}
    (size,) = plan.state_bytes.values()
    few = {entry.name: asked(size - 16) for entry in module.entries}
    plan = plan_module(module, few)
    assert check_memory_plan(module, plan) == []
    assert "slow_state" in {place.region.name for place in plan.states.values()}


@pytest.mark.parametrize("slow", [16, 32, 48, 64])
def test_fast_memory_is_least_where_neither_states_nor_arenas_end_at_multiples(slow: int) -> None:
    """12 bytes of each; both parts of a region are rounded, so a level between two multiples is none."""
    b = StatefulBuild("small")
    x, s = b.input(3, 1, 1, dtype=ElementType.F32), b.state(3, 1, 1)
    y = b.add(Binary("add"), x, s)
    b.becomes(s, y)
    module = Module.of(separate_states(b.graph(y)))
    plan = plan_module(module, {"run": asked(1 << 20, slow, least=("fast",))})
    assert check_memory_plan(module, plan) == []
    (own,) = plan.entries.values()
    assert (own.bounds, own.proved_optimal) == ({"fast": 16 if slow == 16 else 0}, True)


def test_states_with_two_alignments_have_no_gaps() -> None:
    """4 and 8 bytes by turns, in just so much fast memory."""
    b = StatefulBuild("two")
    for k in range(8):
        dtype = ElementType.I64 if k % 2 else ElementType.F32
        s = b.state(1)
        b.tensors[s] = replace(b.tensors[s], dtype=dtype)
        b.states[-1] = replace(b.states[-1], initial=np.zeros(1, np.int64 if k % 2 else np.float32))
        b.becomes(s, b.add(Binary("add"), s, s))
    module = Module.of(separate_states(b.graph(b.states[0].end)))
    plan = plan_module(module, {"run": asked(48, 0)})
    assert check_memory_plan(module, plan) == []
    assert plan.regions() == dict.fromkeys(plan.state_bytes, 48)


@pytest.mark.parametrize("fast", range(20, 64, 4))
def test_entries_beside_states_end_at_multiples_too(fast: int) -> None:
    """12 bytes of state and of arena: each takes 16 of a memory that has so many, whatever its size."""

    def begun(name: str) -> tuple[StatefulBuild, str, str]:
        b = StatefulBuild(name)
        return b, b.input(3, 1, dtype=ElementType.F32), b.state(3, 1)

    b, x, s = begun("run")
    run = b.graph(b.add(Binary("add"), b.add(Unary("tanh"), x), s))
    b, x, s = begun("learn")
    b.becomes(s, b.add(Binary("add"), s, x))
    learn = b.graph(b.add(Unary("abs"), x))
    module = Module("small", (Entry("run", run), Entry("learn", learn))).map(separate_states)
    plan = plan_module(module, {entry.name: asked(fast) for entry in module.entries})
    assert check_memory_plan(module, plan) == []


def test_a_copy_of_a_state_may_be_read_in_faster_memory() -> None:
    """The state has its place. What it is joined with is read many times, and costs least in fast memory."""
    b = StatefulBuild("joined")
    x, s = b.input(8, 8, dtype=ElementType.F32), b.state(8, 8)
    joined = b.add(Concat(1), s, x)
    weights, bias = (b.constant(np.ones(shape, np.float32)) for shape in ((64, 16), (64,)))
    graph = separate_states(b.graph(b.add(Dense(), joined, weights, bias)))
    request = asked(1 << 16, 1 << 16)
    slow = states_in(request.regions[1])
    plan = best_plan(graph, replace(request, states=state_places(graph.states, request.align, {s: slow})))
    assert 0 < plan.least_cost <= plan.cost
    assert plan.cost < best_plan(graph, replace(request, regions=request.regions[1:])).cost


def planned() -> tuple[Module, MemoryPlan]:
    module = Module.of(separate_states(crossed()))
    return module, plan_module(module, {"run": asked(1 << 20)})


def test_memories_that_are_too_small_are_convicted() -> None:
    module, plan = planned()
    (memory,) = plan.state_bytes
    large = replace(memory, size=plan.regions()[memory] + 16)
    places = {name: replace(place, region=large) for name, place in plan.states.items()}
    (own,) = plan.entries.values()
    there = {
        name: replace(place, region=large) if place.region == memory else place
        for name, place in own.places.items()
    }
    buffers = tuple(replace(b, regions=(there[b.name].region,)) for b in own.buffers)
    own = replace(own, places=there, buffers=buffers)
    small = MemoryPlan({"run": own}, places, {large: plan.state_bytes[memory]})
    assert any("bytes of fast, and the arena" in text for text in check_memory_plan(module, small))


def test_a_state_in_another_memory_is_convicted() -> None:
    module, plan = planned()
    name = next(iter(plan.states))
    slow = states_in(replace(SLOW, size=None))
    moved = replace(plan, states=plan.states | {name: replace(plan.states[name], region=slow)})
    wrong = check_memory_plan(module, moved)
    assert any(f'state "{name}" ends at byte' in text for text in wrong)
    assert any(f'state "{name}" is not where the other entries have it' in text for text in wrong)
    arena = replace(plan, states=plan.states | {name: replace(plan.states[name], region=SLOW)})
    assert any("nothing lives from run to run" in text for text in check_memory_plan(module, arena))
