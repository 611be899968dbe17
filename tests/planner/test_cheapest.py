# SPDX-License-Identifier: Apache-2.0
"""Within a limit the plan is the cheapest that is found: more RAM never makes it dearer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.request import PlanRequest
from planner_graphs import Build, kws
from planner_trial import COSTS
from tiny_graphs import tiny_graph

STEPS = 8  # limits between the least and what every node alone needs
FOUND = (
    *(66, 189),  # what the solver found first was kept, whatever it cost
    *(63, 93, 107),  # every node alone was within the limit, but copied what need not be copied
)


def dearer(graph: Graph, request: PlanRequest) -> Iterator[str]:
    """Limits within which the plan costs more than that of a smaller one."""
    alone = best_plan(graph, replace(request, fuse=False)).peak(SRAM)
    least = best_plan(graph, replace(request, recompute=1.0)).peak(SRAM)
    cheapest: tuple[float, int] | None = None
    for limit in sorted({*range(least, alone, max(1, (alone - least) // STEPS)), alone, 2 * alone}):
        asked = replace(request, limit=limit)
        plan = best_plan(graph, asked)
        assert plan.peak(SRAM) <= limit
        assert check_plan(graph, plan) == []
        cost = predicted(graph, plan, asked)
        assert not plan.cheapest or cost == pytest.approx(plan.least_cost)
        if cheapest and cost > cheapest[0] * (1 + 1e-9):
            yield f"{cost} within {limit} bytes, {cheapest[0]} within {cheapest[1]}"
        cheapest = min(cheapest or (cost, limit), (cost, limit))


def request_of(seed: int) -> PlanRequest:
    random = Random(seed)
    outside = random.random() < 0.25
    return PlanRequest(
        align=random.choice([1, 1, 4]),
        backward=random.random() < 0.8,
        external_inputs=outside,
        external_outputs=outside and random.random() < 0.5,
        effort=2.0,
        cost=COSTS,
    )


@pytest.mark.parametrize("seed", [*FOUND, *range(1_000, 1_024)])
@pytest.mark.parametrize("recompute", [1.0, 2.0])
def test_more_ram_is_never_dearer(seed: int, recompute: float) -> None:
    assert list(dearer(tiny_graph(seed), replace(request_of(seed), recompute=recompute))) == []


@pytest.mark.quick
def test_nothing_is_copied_where_there_is_room() -> None:
    """The least plan with every node alone copies an operand of a Concat, which costs much here."""
    b = Build("room")
    x = b.conv(b.input(8, 8, 4), 4, 3)
    y = b.conv(b.conv(b.conv(x, 16, 3), 2, 1), 4, 3)
    graph = b.graph(b.conv(b.concat(2, x, y), 8, 3))
    request = PlanRequest(cost=COSTS | {"concat_element": 100.0})
    alone = best_plan(graph, replace(request, fuse=False))
    assert alone.copied
    room = best_plan(graph, replace(request, limit=2 * alone.peak(SRAM)))
    assert not room.copied
    assert check_plan(graph, room) == []


@pytest.mark.quick
def test_more_bytes_are_not_taken_for_next_to_nothing() -> None:
    """With twice the bytes no rows need be made backward, which would save one call in a thousand."""
    graph, request = kws(), PlanRequest()
    alone = best_plan(graph, replace(request, fuse=False))
    assert any(group.backward for group in alone.groups)
    room = best_plan(graph, replace(request, limit=2 * alone.peak(SRAM)))
    assert room.peak(SRAM) == alone.peak(SRAM)
    assert not room.cheapest


@pytest.mark.quick
def test_rows_backward_are_priced_with_groups_and_offsets() -> None:
    """No cheapest path knows of the calls that rows backward take: which kernels make them so is chosen with
    offsets, and the plan is proved."""
    graph = kws()
    alone = best_plan(graph, PlanRequest(fuse=False)).peak(SRAM)
    made = best_plan(graph, PlanRequest(limit=alone))
    assert sum(group.backward for group in made.groups) == 4
    assert made.cheapest
    assert made.least_cost == pytest.approx(predicted(graph, made, PlanRequest()))
    assert check_plan(graph, made) == []
