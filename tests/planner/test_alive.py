# SPDX-License-Identifier: Apache-2.0
"""What is kept of sets and groups is what was asked for: what is alive, and what groups cost."""

from __future__ import annotations

import random

import pytest
from mmcc.ir.regions import Cache
from mmcc.planner.fusion.alive import Alive
from mmcc.planner.fusion.listed import list_groups
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.request import PlanRequest
from tiny_graphs import tiny_graph

pytestmark = pytest.mark.quick


def space_of(seed: int) -> Space:
    graph, request = tiny_graph(seed), PlanRequest(align=1, caches=(Cache(64, 1.0),))
    choice = best_layout(graph, request).choice
    return Space(graph, choice.layout, choice.model, choice.ordering.order, request)


def test_a_set_is_known_by_the_one_before_it() -> None:
    """After any kernels in any steps, the same is alive as when all is looked at."""
    rng, compared = random.Random(0), 0
    for seed in range(60):
        model = space_of(seed).model
        alive, before = Alive(model), 0
        alive.after(0)
        while before != (1 << len(model.kernels)) - 1:
            ready = [
                k for k, each in enumerate(model.kernels) if not (before >> k & 1 or each.before & ~before)
            ]
            done = before | sum(1 << k for k in rng.sample(ready, rng.randint(1, len(ready))))
            want = sum(
                1 << index
                for index, each in enumerate(model.allocations)
                if (each.from_start or each.writers & done) and (each.to_end or each.users & ~done)
            )
            assert alive.after(done, before) == Alive(model).after(done) == want, seed
            before, compared = done, compared + 1
    assert compared > 100


def test_groups_of_the_same_kernels_cost_the_same() -> None:
    """Whatever ran before them: their cost is found once."""
    again = 0
    for seed in range(40):
        space, seen = space_of(seed), set[int]()
        for candidate in list_groups(space, 1 << 40) or ():
            fresh = Space(space.graph, space.layout, space.model, space.order, space.request)
            assert space.cost(candidate) == fresh.cost(candidate), seed
            members = candidate.after & ~candidate.before
            again += members in seen
            seen.add(members)
    assert again > 20
