# SPDX-License-Identifier: Apache-2.0
"""Kernels of a few bytes run as soon as they can, and what is called a bound leaves these bytes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isclose
from random import Random
from typing import ClassVar

import pytest
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.paging import PageIn, PageOut
from mmcc.ops.reduce import Reduce
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.value_bound import value_bound
from mmcc.planner.fusion import lazy as lazy_paths
from mmcc.planner.fusion import scalars
from mmcc.planner.fusion.best_first import AT_A_LEVEL, MOST_GROUPS, FoundPath, LeastSearch
from mmcc.planner.fusion.lazy import LazyPaths
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.space import Space
from mmcc.planner.joint import search as joint
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.layouts import Layouts
from mmcc.planner.placing import Placer
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from planner_trial import Tally, try_seed

ENOUGH = 1 << 40


def scaled(seed: int) -> Graph:
    """Large tensors, each of which is scaled by what is found out of it: chains of scalars that branch."""
    random, b = Random(seed), Build(f"scaled {seed}")
    x = b.input(random.randint(2, 4), random.randint(3, 6), dtype=ElementType.F32)
    for _ in range(random.randint(1, 2)):
        few = [b.add(Reduce("max", (0, 1)), x)]
        for _ in range(random.randint(1, 3)):
            other = random.choice([None, *few])
            y = random.choice(few)
            few.append(b.add(Unary("abs"), y) if other is None else b.add(Binary("add"), y, other))
        kept = x
        for _ in range(random.randint(1, 2)):
            x = b.add(Binary(random.choice(["add", "mul"])), x, random.choice(few))
        if random.random() < 0.4:
            x = b.add(Binary("add"), x, kept)
    return b.graph(x)


def space_of(graph: Graph, recompute: float = 1.0) -> Space:
    request = PlanRequest(align=1, recompute=recompute)
    choice = best_layout(graph, request).choice
    return Space(graph, choice.layout, choice.model, choice.ordering.order, request)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_what_is_found_is_a_path_and_what_is_a_bound_is_one(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All groups of the same graph are listed, with all sets between them. Where paths with scalars like any
    other kernels are looked at, too, nothing is left open."""
    open_by = 0
    for seed in range(first, first + 20):
        every = Table(space_of(scaled(seed)), ENOUGH)
        least = every.least(inf)
        monkeypatch.setattr(scalars, "MANY", 1)
        space = space_of(scaled(seed))
        monkeypatch.undo()
        assert space.scalars.kernels, seed
        monkeypatch.setattr(lazy_paths, "NEAR", 0.0)
        closed = LazyPaths(space, ENOUGH)
        assert (closed.least(inf), closed.slack) == (least, 0), seed
        assert max(group.least for group in closed.within(least, inf)) == least, seed
        monkeypatch.setattr(lazy_paths, "WITH_SCALARS", -1)
        lazy = LazyPaths(space, ENOUGH)
        found = lazy.least(inf)
        monkeypatch.undo()
        assert lazy.exact, seed
        assert found - lazy.slack <= least <= found, seed
        open_by += found - lazy.slack < least
        path = lazy.within(found, inf)
        assert max(space.footprint(c).tight for c in path) <= found, seed
        costs = [sum(map(paths.cost, paths.cheapest(ENOUGH, inf))) for paths in (lazy, every)]
        assert isclose(*costs), seed
    assert open_by  # or leaving out these bytes could not be seen


@pytest.mark.parametrize("recompute", [1.0, 2.0])
def test_a_limit_counts_all_bytes(recompute: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where columns may be computed twice: such paths are looked for in a second search."""
    missed = 0
    monkeypatch.setattr(scalars, "MANY", 1)
    for seed in range(20):
        space = space_of(scaled(seed), recompute)
        least = LazyPaths(space, ENOUGH)
        lowest = least.least(inf)
        for limit in range(lowest - least.slack, lowest + 12, 4):
            paths = LazyPaths(space, limit)
            path = paths.cheapest(limit, inf)
            assert all(space.footprint(group).tight <= limit for group in path), (seed, limit)
            missed += not paths.exact
    assert missed  # or no limit was within what scalars need


def test_nothing_is_called_cheapest_where_scalars_could_run_beside_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scalar in a group of its own leaves the copy to be waited for."""
    monkeypatch.setattr(scalars, "MANY", 1)
    b = Build("paged")
    x = b.input(6, 40, dtype=ElementType.F32)
    y = b.add(Binary("add"), x, b.add(Unary("abs"), b.add(Reduce("max", (0, 1)), x)))
    graph = b.graph(b.add(Unary("abs"), b.add(PageIn(0), b.add(PageOut(0), y))))
    cheaper = set[bool]()
    for cycles in (0.0, 50.0):
        request = PlanRequest(align=1, slow_cycles=cycles)
        choice = best_layout(graph, request).choice
        space = Space(graph, choice.layout, choice.model, choice.ordering.order, request)
        paths, every = LazyPaths(space, ENOUGH), Table(space, ENOUGH)
        cost, least = (sum(map(p.cost, p.cheapest(ENOUGH, inf))) for p in (paths, every))
        cheaper.add(least < cost)
        assert paths.exact == (cost == least)
        plan = best_plan(graph, replace(request, limit=ENOUGH))
        assert plan.cheapest == (cost == least)
    assert cheaper == {False, True}


@pytest.mark.parametrize("first", range(1000, 1080, 20))
def test_brute_force_beats_no_bound(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most tensors of a graph are of so few bytes."""
    monkeypatch.setattr(scalars, "MANY", 1)
    monkeypatch.setattr(scalars, "FEW_BYTES", 12)
    for seed in range(first, first + 20):
        assert list(try_seed(seed, Tally())) == [], seed


def quantized(layers: int) -> Graph:
    """Layers that find their scales while they run: twelve scalars each, of which several are used later."""
    b = Build("dynamic")
    x = b.input(16, 32, dtype=ElementType.F32)
    for _ in range(layers):
        low, high = b.add(Reduce("min", (0, 1)), x), b.add(Reduce("max", (0, 1)), x)
        step = b.add(Binary("sub"), b.add(Unary("abs"), high), b.add(Unary("abs"), low))
        zero = b.add(Binary("div"), low, step)
        for _ in range(3):
            zero = b.add(Unary("abs"), zero)
        scales = [b.add(Binary("mul"), step, zero) for _ in range(3)]
        q = b.add(Binary("add"), b.add(Binary("div"), x, step), zero)
        parts = [b.add(Binary("mul"), b.add(Unary("sqrt"), q), scale) for scale in scales]
        x = b.add(Binary("add"), b.add(Binary("add"), parts[0], parts[1]), parts[2])
    return b.graph(x)


def weighed(layers: int) -> Graph:
    """Tensors that are scaled by what is found while they run, with the tensor before each kept beside it."""
    b = Build("weighed")
    x = b.input(16, 32, dtype=ElementType.F32)
    for _ in range(layers):
        step = b.add(Binary("sub"), b.add(Reduce("max", (0, 1)), x), b.add(Reduce("min", (0, 1)), x))
        for _ in range(4):
            step = b.add(Unary("abs"), step)
        q = b.add(Binary("div"), x, step)
        parts = [b.add(Binary("mul"), b.add(Unary("sqrt"), q), step) for _ in range(3)]
        one = b.add(Binary("mul"), parts[0], b.add(Reduce("max", (0, 1)), parts[1]))
        x = b.add(Binary("add"), b.add(Binary("add"), one, parts[2]), x)
    return b.graph(x)


@pytest.mark.parametrize("make", [quantized, weighed])
def test_a_deep_net_is_bounded_without_listing_groups(
    make: Callable[[int], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of a bound is missing is the bytes of scalars, not all that is in groups."""
    monkeypatch.setattr(Layouts, "listed", None)  # a list of all groups takes minutes
    graph, request = make(4), PlanRequest()
    made = best_plan(graph, request)
    assert request.peak(made) <= 1.01 * made.bound


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_the_bound_over_all_layouts_leaves_out_no_more(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 20):
        graph, request = scaled(seed), PlanRequest(align=1)
        exact = value_bound(graph, request, ENOUGH, Spans(graph))
        monkeypatch.setattr(scalars, "MANY", 1)
        space, bound = space_of(graph), value_bound(graph, request, ENOUGH, Spans(graph))
        monkeypatch.undo()
        assert exact - space.scalars.bytes <= bound <= exact, seed


def test_what_finds_a_scale_runs_as_soon_as_its_tensor_is_whole() -> None:
    """It reads a large tensor, and leaves a few bytes."""
    space = space_of(quantized(2))
    first = {k for k, kernel in enumerate(space.model.kernels) if not kernel.before}
    assert len(first) == 2
    assert space.scalars.ready(0) in first


def small(layers: int) -> Graph:
    """Vectors of a few numbers, and scales of theirs: scalars are most of what there is."""
    b = Build("small")
    x = b.input(1, 6, dtype=ElementType.F32)
    for _ in range(layers):
        x = scaled_by_many(b, x)
    return b.graph(x)


def scaled_by_many(b: Build, x: str) -> str:
    """A vector times a scale of its own that many scalars are needed for."""
    step = b.add(Reduce("max", (0, 1)), x)
    few = [b.add(Unary("abs"), step) for _ in range(4)]
    for _ in range(3):
        few = [b.add(Unary("abs"), each) for each in few]
    total = b.add(Binary("add"), b.add(Binary("add"), few[0], few[1]), b.add(Binary("add"), *few[2:]))
    return b.add(Binary("mul"), x, total)


@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_is_left_open_where_scalars_are_most_of_what_there_is(layers: int) -> None:
    """A layer of a few numbers that finds its scale while it runs needs more for scalars than for these."""
    made = best_plan(small(layers), PlanRequest())
    assert made.proved_optimal


class Recorded(LeastSearch):
    """Searches that note how many groups they may look at with scalars like any other kernels."""

    asked: ClassVar[list[float]] = []

    def run(self, most_groups: float = 0, patience: float = AT_A_LEVEL) -> FoundPath | None:
        if not self._space.scalars.kernels:
            self.asked.append(most_groups)
        return super().run(most_groups or MOST_GROUPS, patience)


def test_layouts_share_the_groups_that_are_looked_at_with_scalars(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of 35 nodes with a join took seconds, as many times as it has layouts."""
    b = Build("joined")
    x = b.input(1, 4, dtype=ElementType.F32)
    graph = b.graph(b.concat(1, *(scaled_by_many(b, x) for _ in range(2))))
    monkeypatch.setattr(lazy_paths, "WITH_SCALARS", 40)
    monkeypatch.setattr(lazy_paths, "LeastSearch", Recorded)
    best_plan(graph, PlanRequest(fuse=True))
    assert len(Recorded.asked) > 1
    assert sum(Recorded.asked) <= 40


def test_few_groups_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no plan needs more for it."""
    graph = quantized(2)
    looked_at, peaks = list[int](), list[int]()
    for many in (scalars.MANY, 1000):
        monkeypatch.setattr(scalars, "MANY", many)
        space = space_of(graph)
        LazyPaths(space, ENOUGH).least(inf)
        looked_at.append(space.figures.looked_at)
        made = best_plan(graph, PlanRequest())
        assert made.bound <= PlanRequest().peak(made)
        peaks.append(PlanRequest().peak(made))
    assert peaks[0] <= 1.01 * peaks[1]
    assert 4 * looked_at[0] < looked_at[1], looked_at


def test_what_the_solver_proves_leaves_these_bytes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It only knows paths on which scalars are early, and where these are in the way of others."""
    monkeypatch.setattr(scalars, "MANY", 1)
    monkeypatch.setattr(joint, "choose", lambda space, paths, goal, high, request: (None, high))
    monkeypatch.setattr(Placer, "_place", _placed_wide)
    for seed in range(20):
        paths = LazyPaths(space_of(scaled(seed)), ENOUGH)
        bound, early = paths.least(inf), paths.space.scalars.bytes
        placer = Placer(paths.space.request, inf)
        placed, proved = placer.least(paths, bound)
        peak = placed.placement.peak
        assert proved == max(bound, peak - early), seed
        for limit in (peak - early, peak - early - 1):
            found, cost = placer.within(paths, placed.path, lambda bound=bound: bound, limit)
            assert found is not None or (cost == inf) == (limit < peak - early), seed


_place = Placer._place


def _placed_wide(self: Placer, *args: object, **options: object) -> object:
    """As if there were holes between buffers that no placement goes without."""
    placed = _place(self, *args, **options)  # type: ignore[arg-type]
    placement = placed.placement
    wide = {name: 2 * offset for name, offset in placement.offsets.items()}
    peak = max(wide[b.name] + b.size for b in placed.buffers if b.name in wide)
    return replace(placed, placement=replace(placement, offsets=wide, peak=peak))
