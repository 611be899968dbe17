# SPDX-License-Identifier: Apache-2.0
"""Groups for caches: what they cost by hand, that no cut costs less, and when there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, combinations, pairwise

import pytest
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.regions import Cache
from mmcc.planner.api import best_plan
from mmcc.planner.cached import cheapest_cut
from mmcc.planner.caches import Caches, predicted
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from tiny_graphs import tiny_graph

KIB = 1024
FREE = {"conv_mac": 0.0, "conv_output": 0.0, "conv_input": 0.0, "conv_row": 0.0, "call": 0.0}


def _chain(channels: int = 8) -> Graph:
    """[32, 32, c], 3x3 to as much, 3x3 to as much: tensors of 1024 c bytes, rows of 32 c, weights of 9 c * c
    and a bias of 4 c."""
    b = Build("chain")
    x = b.input(32, 32, channels)
    return b.graph(b.conv(b.conv(x, channels, 3), channels, 3))


def _wide() -> Graph:
    """8 KiB to 32 KiB to 8 KiB: every node alone needs more than both together."""
    b = Build("wide")
    return b.graph(b.conv(b.conv(b.input(32, 32, 8), 32, 3), 8, 3))


def _bias(graph: Graph) -> int:
    """Bytes of a layer's constants beside its weights."""
    node = graph.nodes[0]
    constants = [graph.tensors[n].bytes for n in node.inputs if graph.is_constant(n)]
    return sum(constants) - max(constants)


@pytest.mark.quick
def test_whole_tensors_that_do_not_fit() -> None:
    """A layer reads 8 KiB and writes 8 KiB: a cache of 4 KiB has a quarter of that when it is used again. Its
    constants and four rows, below 2 KiB, stay in it. Both layers together have what is outside only."""
    graph = _chain()
    caches = Caches(graph, (), [Cache(4 * KIB, 0.5)])
    assert caches.cost([0]) == caches.cost([1]) == 0.5 * 16 * KIB * 0.75
    assert caches.cost([0, 1]) == 0.5 * 16 * KIB * 0.75
    assert Caches(graph, (), [Cache(16 * KIB, 0.5)]).cost([0]) == 0
    both = Caches(graph, (), [Cache(4 * KIB, 0.5), Cache(8 * KIB, 2.0)])
    assert both.cost([0]) == 0.5 * 16 * KIB * 0.75 + 2.0 * 16 * KIB * 0.5


@pytest.mark.quick
def test_constants_that_do_not_fit_are_read_again_for_each_row() -> None:
    """Each layer has 9,216 bytes of weights and rows of 1 KiB; in a group, 31 of 32 rows read them again."""
    graph = _chain(32)
    constants, rows = 9 * 32 * 32 + _bias(graph), 4 * KIB
    caches = Caches(graph, (), [Cache(16 * KIB, 1.0)])
    assert constants + rows < 16 * KIB < 2 * (constants + rows)
    again = 2 * constants * 31 + 2 * 32 * KIB  # and what is made inside is written and read
    outside = 64 * KIB * (1 - 16 / 64)
    assert caches.cost([0]) == outside
    assert caches.cost([0, 1]) == pytest.approx(outside + again * (1 - 16 * KIB / (2 * (constants + rows))))
    assert caches.least(0) == 0
    assert Caches(graph, (), [Cache(KIB, 1.0)]).least(0) == pytest.approx(
        31 * constants * (1 - KIB / constants)
    )


@pytest.mark.quick
def test_views_are_looked_through() -> None:
    """A Reshape needs no code: who reads it reads what it sees."""
    b = Build("view")
    x = b.conv(b.input(16, 16, 4), 4, 3)
    graph = b.graph(b.conv(b.reshape(x, 8, 32, 4), 4, 3))
    caches = Caches(graph, (1,), [Cache(256, 1.0)])
    assert caches.cost([0, 1, 2]) == caches.cost([0, 2])
    assert Caches(graph, (1,), [Cache(1200, 1.0)]).cost([0, 2]) == 2 * KIB - 1200


@pytest.mark.quick
def test_groups_are_chosen_without_a_limit_where_tensors_do_not_fit() -> None:
    graph = _wide()
    for size, together in ((16 * KIB, True), (64 * KIB, False)):
        request = PlanRequest(fuse=False, cost=FREE, caches=(Cache(size, 1.0),))
        alone, plan = best_plan(graph, replace(request, caches=())), best_plan(graph, request)
        assert len(alone.groups) == 2
        assert plan.for_caches is together
        assert len(plan.groups) == 2 - together
        assert not check_plan(graph, plan)
        assert request.peak(plan) <= request.peak(alone)
        assert predicted(graph, plan, request) <= predicted(graph, alone, request)
        assert plan == replace(alone, seconds=plan.seconds) or together


@pytest.mark.quick
def test_large_weights_keep_layers_apart() -> None:
    """Of three layers the last two have weights that do not fit together."""
    b = Build("late")
    x = b.conv(b.conv(b.input(64, 64, 8), 8, 3), 8, 3)
    graph = b.graph(b.conv(b.conv(x, 32, 3, 2), 32, 3))
    plan = best_plan(graph, PlanRequest(fuse=False, cost=FREE, caches=(Cache(12 * KIB, 1.0),)))
    assert plan.for_caches
    assert plan.groups[-1].nodes == (3,)
    assert len(plan.groups) < 4
    assert not check_plan(graph, plan)


@pytest.mark.quick
def test_when_there_are_no_groups_for_caches() -> None:
    """With several threads chunks are of kernels alone; with --ram min bytes decide."""
    graph, caches = _wide(), (Cache(16 * KIB, 1.0),)
    request = PlanRequest(fuse=False, cost=FREE, caches=caches)
    assert not best_plan(graph, replace(request, threads=2)).for_caches
    least = replace(request, fuse=True)
    assert replace(best_plan(graph, least), seconds=0) == replace(
        best_plan(graph, replace(least, caches=())), seconds=0
    )
    dear = {**FREE, "call": 1e6}  # a call for each row costs more than is saved
    assert not best_plan(graph, replace(request, cost=dear)).for_caches
    enough = request.peak(best_plan(graph, replace(request, caches=())))
    within = best_plan(graph, replace(request, fuse=True, limit=enough))
    assert within.for_caches
    assert request.peak(within) <= enough


@pytest.mark.parametrize("seed", range(24))
def test_no_cut_costs_less(seed: int) -> None:
    """Against every cut of the order; a plan within a large limit has the best of them, and is right."""
    graph = tiny_graph(seed)
    request = PlanRequest(align=1, caches=(Cache(40, 3.0), Cache(100, 11.0)))
    choice = best_layout(graph, request).choice
    order = choice.ordering.order
    space = Space(graph, choice.layout, choice.model, order, request)
    best = min(sum(map(space.cost, path)) for path in _cuts(space, order))
    assert sum(map(space.cost, cheapest_cut(space, order))) == pytest.approx(best)
    kernel_of = {kernel.node: k for k, kernel in enumerate(choice.model.kernels)}
    for limit in (None, 10**6):
        plan = best_plan(graph, replace(request, fuse=False, limit=limit))
        assert not check_plan(graph, plan)
        if plan.for_caches and limit is not None:
            groups = [[kernel_of[node] for node in group.nodes] for group in plan.groups]
            assert sum(map(space.cost, _path(groups))) == pytest.approx(best)


def _path(groups: Sequence[Sequence[int]]) -> list[Candidate]:
    masks = list(accumulate((sum(1 << k for k in group) for group in groups), initial=0))
    return [Candidate(a, b, group[-1], 0) for (a, b), group in zip(pairwise(masks), groups, strict=True)]


def _cuts(space: Space, order: tuple[int, ...]) -> list[list[Candidate]]:
    """All ways to cut an order into groups that are allowed."""
    found: list[list[Candidate]] = []
    for count in range(len(order)):
        for inner in combinations(range(1, len(order)), count):
            path = _path([order[a:b] for a, b in pairwise((0, *inner, len(order)))])
            if all(space.allowed(c.after & ~c.before, c.last) for c in path):
                found.append(path)
    return found
