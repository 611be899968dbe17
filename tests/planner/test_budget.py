# SPDX-License-Identifier: Apache-2.0
"""With less budget searches look at less, and what they then say still holds."""

from __future__ import annotations

import pytest
from click import Option
from mmcc.checker.plan import check_plan
from mmcc.cli.compile import compile_command
from mmcc.driver.ask import plan_request
from mmcc.driver.options import TIME_LIMIT, CompileOptions, silent
from mmcc.ir.graph import Graph
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.value_groups import ValueGroups
from mmcc.planner.fusion.figures import GroupFigures
from mmcc.planner.memory.order import _Search
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from planner_graphs import Build

METHODS = (
    (GroupFigures, "least"),
    (ValueGroups, "least"),
    (_Search, "_run"),
)  # where searches spend their time


def layers_of_a_volume(count: int = 5) -> Graph:
    """Each layer of the result is made of three neighbours, twice: wide, with many joins."""
    b = Build("volume")
    layers = [b.input(6, 6, 2) for _ in range(count)]
    for channels in (4, 2):
        near = [layers[max(0, k - 1) : k + 2] for k in range(count)]
        layers = [b.conv(b.concat(2, *some), channels, 3) for some in near]
    return b.graph(b.concat(2, *layers))


def test_with_less_budget_less_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def counting(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def counted(*what: object) -> object:
            nonlocal looked_at
            looked_at += 1
            return method(*what)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in METHODS:
        counting(owner, name)
    graph, work, plans = layers_of_a_volume(), list[int](), []
    for budget in (0.2, 0.02):
        looked_at = 0
        plans.append(best_plan(graph, PlanRequest(effort=1.0, budget=budget)))
        work.append(looked_at)
        assert check_plan(graph, plans[-1]) == []
    assert work[1] < work[0] / 3, work
    more, less = plans
    peaks = [PlanRequest().peak(plan) for plan in plans]
    assert max(plan.bound for plan in plans) <= min(peaks)
    assert peaks[1] <= PlanRequest().peak(best_plan(graph, PlanRequest(effort=1.0, budget=0.02, fuse=False)))
    assert less.bound <= more.bound


@pytest.mark.parametrize(("limit", "part"), [(TIME_LIMIT, 1.0), (TIME_LIMIT / 4, 0.25), (100.0, 1.0)])
def test_the_time_limit_says_how_much(limit: float, part: float) -> None:
    graph, options = layers_of_a_volume(2), CompileOptions(time_limit=limit)
    request = plan_request(options, graph, load_target(options.target), silent)
    assert (request.effort, request.budget) == (limit, part)
    (option,) = (each for each in compile_command.params if each.name == "time_limit")
    assert isinstance(option, Option)
    assert option.default == TIME_LIMIT
