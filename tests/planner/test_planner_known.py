# SPDX-License-Identifier: Apache-2.0
"""Networks whose least peak is known, limits and what the error says, external inputs and outputs."""

from __future__ import annotations

import pytest
from mmcc.checker.plan import check_plan
from mmcc.errors import CompileError, Exit
from mmcc.ir.regions import SRAM, External
from mmcc.planner.request import PlanRequest
from planned_alone import planned_alone
from planner_graphs import FORWARD, KNOWN, Build, kws, unet


@pytest.mark.quick
@pytest.mark.parametrize("name", KNOWN)
def test_known_optimum_is_proved(name: str) -> None:
    make, best = KNOWN[name]
    graph = make()
    made = planned_alone(graph)
    assert (made.peak(SRAM), made.bound, made.proved_optimal) == (best, best, True)
    assert made.seconds < 3.0
    assert check_plan(graph, made) == []


@pytest.mark.quick
@pytest.mark.parametrize("name", FORWARD)
def test_rows_forward_only_cost_more_and_that_is_proved_too(name: str) -> None:
    graph = KNOWN[name][0]()
    made = planned_alone(graph, PlanRequest(backward=False))
    assert not any(group.backward for group in made.groups)
    assert (made.peak(SRAM), made.proved_optimal) == (FORWARD[name], True)
    assert check_plan(graph, made) == []


@pytest.mark.quick
def test_the_same_request_gives_the_same_plan() -> None:
    graph = KNOWN["kws"][0]()
    first, second = (planned_alone(graph, PlanRequest(backward=False)) for _ in range(2))
    assert (first.places, first.groups, first.slots) == (second.places, second.groups, second.slots)


@pytest.mark.quick
def test_skip_connections_are_proved() -> None:
    graph = unet()
    made = planned_alone(graph)
    assert made.proved_optimal
    assert check_plan(graph, made) == []


@pytest.mark.quick
def test_what_does_not_fit_names_the_step_and_what_would_help() -> None:
    with pytest.raises(CompileError) as caught:
        planned_alone(kws(), PlanRequest(limit=8_639))
    error = caught.value
    assert error.exit is Exit.DOES_NOT_FIT
    assert "8,640 bytes is the least possible" in error.message
    assert "8,000  tensor   t0\n" in error.message
    assert error.at[0].node == 1
    assert error.hint == "--ram 8640"


@pytest.mark.quick
def test_help_counts_external_inputs_only_where_they_help() -> None:
    b = Build("wide")
    graph = b.graph(b.conv(b.conv(b.input(32, 32, 16), 1, 1), 1, 3))
    with pytest.raises(CompileError) as caught:
        planned_alone(graph, PlanRequest(limit=4_000))
    assert "--ram 1024 --io external  inputs and outputs in the caller's memory, fits" in caught.value.hint


@pytest.mark.quick
def test_a_limit_that_is_met_raises_nothing() -> None:
    assert planned_alone(kws(), PlanRequest(limit=8_640)).peak(SRAM) == 8_640


@pytest.mark.quick
def test_external_ports_are_outside_the_arena() -> None:
    graph = kws()
    made = planned_alone(graph, PlanRequest(external_inputs=True, external_outputs=True))
    regions = {b.name: made.places[b.name].region for b in made.buffers}
    source, result = graph.inputs[0].tensor, graph.outputs[0].tensor
    assert regions[made.slots[source].buffer] == External(source)
    assert regions[made.slots[result].buffer] == External(result)
    assert check_plan(graph, made) == []


@pytest.mark.quick
def test_scratch_has_a_buffer_of_its_own() -> None:
    graph = kws()
    made = planned_alone(graph, PlanRequest(scratch={1: 500}))
    assert made.scratch is not None
    assert made.peak(SRAM) == 8_640 + 500
    assert check_plan(graph, made) == []
