# SPDX-License-Identifier: Apache-2.0
"""Groups that are taken for equal need equally many bytes, and the list of groups is that of all of them."""

from __future__ import annotations

from random import Random

import pytest
from mmcc.ir.graph import Graph
from mmcc.ops.elementwise import Unary
from mmcc.planner.fusion.equal import EqualGroups
from mmcc.planner.fusion.listed import list_groups
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.request import PlanRequest
from planner_graphs import Build

ENOUGH = 1 << 40


def blocks(seed: int) -> Graph:
    """Some random block five times, or with one of them a bit different: what is almost equal is not."""
    random = Random(seed)
    b = Build(f"blocks {seed}")
    x = first = b.input(random.randint(5, 8), 3, 2)
    steps = [random.choice(["conv", "point", "unary", "split", "skip"]) for _ in range(2)]
    odd = random.choice([-1, 3])
    for block in range(5):
        begin = x
        for k, step in enumerate(steps):
            x = _step(b, x, begin if random.random() < 0.9 else first, step, odd=k == 0 and block == odd)
    return b.graph(x, *([begin] if random.random() < 0.3 else []))


def _step(b: Build, x: str, begin: str, step: str, *, odd: bool) -> str:
    match step:
        case "unary":
            return b.add(Unary("abs"), x)
        case "split":
            h, w, c = b.shape(x)
            left = b.conv(b.slice(x, (0, 0, 0), (h, w, c // 2)), c // 2, 3)
            return b.concat(2, left, b.slice(x, (0, 0, c // 2), (h, w, c - c // 2)))
        case "skip":
            return b.sum(b.conv(x, 2, 1 if odd else 3), begin)
        case _:
            return b.conv(x, 2, 3 if (step == "conv") is not odd else 1)


def space_of(graph: Graph, request: PlanRequest) -> Space:
    choice = best_layout(graph, request).choice
    return Space(graph, choice.layout, choice.model, choice.ordering.order, request)


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_equal_groups_need_as_much(first: int) -> None:
    """Each asked for itself, and as one of its kind; many are equal to another."""
    groups = alike = 0
    for seed in range(first, first + 4):
        request = PlanRequest(align=1 + 3 * (seed % 2))
        graph = blocks(seed)
        one, equal = space_of(graph, request), EqualGroups(space_of(graph, request))
        for group in one.candidates(ENOUGH):
            ends = group.before, group.after, group.last
            members = group.after & ~group.before
            assert equal.least(*ends) == one.least(*ends), (seed, ends)
            assert equal.tight(*ends) == one.tight(*ends), (seed, ends)
            assert equal.inner(members, *ends[1:]) == one.inner(members, *ends[1:]), (seed, ends)
            groups, alike = groups + 1, alike + (equal.first(*ends) != ends)
    assert alike > groups // 8


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_the_list_is_of_all_groups_within_a_limit(first: int) -> None:
    """From set to set as over all sets; and none is listed that is on no way from the beginning."""
    for seed in range(first, first + 4):
        space = space_of(blocks(seed), PlanRequest(align=1))
        for limit in (100, 150, ENOUGH):
            listed = list_groups(EqualGroups(space), limit)
            assert listed is not None
            some, every = (Table(space, limit, groups).below(limit + 1) for groups in (listed, None))
            assert set(some) == set(every), seed
            assert len(some) == len(every), seed
