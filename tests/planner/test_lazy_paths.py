# SPDX-License-Identifier: Apache-2.0
"""Best paths found without a list of all groups are as good as those of a list."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isclose, nextafter
from typing import Any

import pytest
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, Overlap
from mmcc.ir.regions import SRAM
from mmcc.planner import placing
from mmcc.planner.api import best_plan
from mmcc.planner.fusion import sets
from mmcc.planner.fusion.best_first import CheapestSearch, LeastSearch
from mmcc.planner.fusion.lazy import LazyPaths
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from tiny_graphs import tiny_graph

ENOUGH = 1 << 40


def spaces(seed: int) -> tuple[Space, Space]:
    graph, request = tiny_graph(seed), PlanRequest(align=1)
    choice = best_layout(graph, request).choice
    order = choice.ordering.order
    first, second = (Space(graph, choice.layout, choice.model, order, request) for _ in range(2))
    return first, second


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_they_are_as_good_as_those_of_a_list(first: int) -> None:
    compared = 0
    for seed in range(first, first + 20):
        one, other = spaces(seed)
        if not one.model.kernels:
            continue
        lazy, table = LazyPaths(one, ENOUGH), Table(other, ENOUGH)
        least = lazy.least(inf)
        assert lazy.exact
        given = one.shared.bytes(one.alive(0))
        assert least == max(given, table.least(inf)), seed
        for limit in (least, least + least // 4):
            costs = [sum(map(paths.cost, paths.cheapest(limit, inf))) for paths in (lazy, table)]
            assert isclose(*costs), (seed, limit)
            compared += 1
        assert least == given or not lazy.cheapest(least - 1, inf)
    assert compared


def test_between_beginnings_of_an_order_lie_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sets are too many to know all, groups are found as where all are known."""
    compared = 0
    for seed in range(400, 520):
        space, _ = spaces(seed)
        if not space.model.kernels:
            continue
        most = space.shared.bytes(space.alive(0)) + 2 * seed % 97
        with monkeypatch.context() as few:
            few.setattr(sets, "MOST_SETS", 1)
            sets.every_set.cache_clear()
            beginnings, _ = spaces(seed)
        sets.every_set.cache_clear()
        known = {*beginnings.sets}
        for limit in (most, ENOUGH):
            want = {c for c in space.candidates(limit) if {c.before, c.after} <= known}
            assert {*beginnings.candidates(limit)} == want, (seed, limit)
            compared += len(want)
        assert not beginnings.complete
    assert compared > 500


@pytest.mark.parametrize("first", range(120, 180, 20))
def test_what_is_known_already_changes_only_what_is_below_it(first: int) -> None:
    """The least with a floor is the least, or the floor if that is more; exact or not, it is a path's."""
    for seed in range(first, first + 20):
        one, other = spaces(seed)
        least = LazyPaths(one, ENOUGH).least(inf)
        for floor in (least - 1, least, least + 5, 2 * least):
            for exact in (True, False):
                lazy = LazyPaths(other, ENOUGH, floor)
                found = lazy.least(inf, exact=exact)
                assert found == max(least, floor) if lazy.exact else found >= max(least, floor), (seed, floor)
                assert lazy.within(found, inf) or not one.model.kernels


@pytest.mark.quick
def test_a_quick_search_finds_a_path_that_is_one() -> None:
    """Its groups follow each other, and each needs no more than it says."""
    b = Build("chain")
    x = b.input(12, 12, 4)
    for channels in (8, 4, 8, 4):
        x = b.conv(x, channels, 3)
    graph, request = b.graph(x), PlanRequest()
    choice = best_layout(graph, request).choice
    space = Space(graph, choice.layout, choice.model, choice.ordering.order, request)
    lazy = LazyPaths(space, ENOUGH)
    bound = lazy.least(inf, exact=False)
    path = lazy.within(bound, inf)
    assert [c.before for c in path] == [0, *(c.after for c in path[:-1])]
    assert path[-1].after == space.all
    assert max(space.footprint(c).tight for c in path) == bound
    assert lazy.fewest(bound)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """What a method of searches for the cheapest path is called with."""
    calls: list[object] = []
    method = getattr(CheapestSearch, name)

    def called(self: CheapestSearch, *what: object, **how: object) -> None:
        calls.append(what)
        method(self, *what, **how)

    monkeypatch.setattr(CheapestSearch, name, called)
    return calls


def space_of(graph: Graph) -> Space:
    request = PlanRequest(align=1)
    choice = best_layout(graph, request).choice
    return Space(graph, choice.layout, choice.model, choice.ordering.order, request)


def test_groups_that_cost_too_much_for_the_cheapest_path_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every kernel may run alone, hardly a group of several has its bytes found out."""
    looks = counted(monkeypatch, "_look")
    b = Build("chain")
    x = b.input(12, 12, 8)
    for _ in range(30):
        x = b.conv(x, 8, 3)
    path = LazyPaths(space_of(b.graph(x)), ENOUGH).cheapest(ENOUGH, inf)
    assert len(path) == 30
    assert len(looks) < 2 * 30  # of 465 groups


def test_groups_whose_rings_are_too_much_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a deep graph within few bytes only short groups come up, not one for every pair of kernels."""
    offers = counted(monkeypatch, "_offer")
    b = Build("deep")
    x = b.input(12, 12, 8)
    for _ in range(40):
        x = b.sum(b.conv(x, 8, 3), x)
    paths = LazyPaths(space_of(b.graph(x)), ENOUGH)
    assert paths.cheapest(paths.least(inf), inf)
    assert len(offers) < 6 * 80, len(offers)


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_groups_on_cheaper_paths_are_on_whole_ones(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a path costs what is asked for but for a rounding error, which differs along it."""
    whole = Table.cost
    monkeypatch.setattr(Table, "cost", lambda table, group: whole(table, group) * 0.1)  # no sum is exact
    for seed in range(first, first + 40):
        space, _ = spaces(seed)
        table = Table(space, ENOUGH)
        for path in (table.cheapest(ENOUGH, inf), table.fewest(ENOUGH)):
            cost = sum(map(table.cost, path))
            for most in (nextafter(cost, 0), cost, nextafter(cost, inf)):
                groups = table.cheaper(ENOUGH, most, ENOUGH)
                ends, begins = {0, *(c.after for c in groups)}, {space.all, *(c.before for c in groups)}
                assert all(c.before in ends and c.after in begins for c in groups), (seed, most)


def test_a_search_that_was_given_up_bounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan within a limit is said to be no more than it needs, however the search for the least ended."""
    b = Build("chain")
    x = b.input(12, 12, 4)
    for channels in (16, 16, 4):
        x = b.conv(x, channels, 3)
    graph = b.graph(x)
    least = best_plan(graph, PlanRequest())
    limit = (best_plan(graph, PlanRequest(fuse=False)).peak(SRAM) + least.peak(SRAM)) // 2
    monkeypatch.setattr(LeastSearch, "run", lambda search, *_: None)
    monkeypatch.setattr(LeastSearch, "given_up", True)
    made = best_plan(graph, PlanRequest(limit=limit))
    assert len(made.groups) < 3
    assert made.bound <= least.peak(SRAM)


def test_a_path_that_has_the_fewest_groups_already_is_placed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose least path cannot be placed as its bound has it, and has as few groups as any."""
    asked: list[tuple[tuple[str, ...], int]] = []

    def recorded(buffers: Sequence[Buffer], overlaps: Sequence[Overlap], goal: int, **more: Any) -> Placement:
        asked.append((tuple(f"{b.name}: {b.live}" for b in buffers), goal))
        return place(buffers, overlaps, goal, **more)

    monkeypatch.setattr(placing, "place", recorded)
    best_plan(tiny_graph(51), PlanRequest(fuse=True, effort=2.0))
    assert len(asked) > 1
    assert len(asked) == len(set(asked))
