# SPDX-License-Identifier: Apache-2.0
"""What a plan leaves is lent to kernels: never what something else needs, never more than is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Useful
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.lend import lend
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from planner_random import graphs

PLAIN = st.builds(Useful, st.integers(1, 200))
LARGER = st.builds(
    Useful, st.integers(201, 400), st.integers(1, 90), st.booleans(), st.integers(1, 9)
)  # constants that are larger too
OFFERS = st.one_of(PLAIN.map(lambda one: (one,)), st.tuples(LARGER, PLAIN), LARGER.map(lambda one: (one,)))
USEFUL = st.dictionaries(st.integers(0, 9), OFFERS, max_size=6)


@pytest.mark.quick
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    graph=graphs(9),
    useful=USEFUL,
    more=st.integers(0, 400),
    growth=st.integers(0, 200),
    kind=st.sampled_from(["none", "limit", "least"]),
)
def test_what_is_lent_is_free(
    graph: Graph, useful: dict[int, tuple[Useful, ...]], more: int, growth: int, kind: str
) -> None:
    wanted = {node: offers for node, offers in useful.items() if node < len(graph.nodes)}
    request = PlanRequest(useful=wanted, fuse=kind != "none", effort=1.0, growth=growth)
    plan = best_plan(graph, request)
    peak = plan.peak(SRAM)
    if kind == "limit":
        request = replace(request, limit=peak + more)
    lent = lend(plan, request)
    assert check_plan(graph, lent) == []
    assert lent.lent == lent.peak(SRAM) - peak
    size = {buffer.name: buffer.size for buffer in lent.buffers}
    taken = {
        node: next(each for each in wanted[node] if each.bytes <= size[name])
        for node, name in (lent.scratch or {}).items()
    }
    assert lent.grown == sum(each.grows for each in taken.values()) <= growth
    group_of = {node: group for group in plan.groups for node in group.nodes}
    for node, each in taken.items():
        assert not each.alone or (len(group_of[node].nodes) == 1 and not group_of[node].strips)
    match kind:
        case "none":
            small = {node for node, offers in wanted.items() if not offers[-1].grows}
            assert small & group_of.keys() <= taken.keys()
        case "limit":
            assert lent.peak(SRAM) <= peak + more
        case _:
            assert lent.lent == 0


def test_growth_goes_where_it_saves_most() -> None:
    """Three layers that fit two at a time: those that save most cycles a byte."""
    b = Build("chain")
    y = b.input(4, 4, 4)
    for _ in range(3):
        y = b.conv(y, 4, 3)
    graph = b.graph(y)
    offers = {
        0: (Useful(16, 50, cycles=100),),
        1: (Useful(16, 60, cycles=180),),
        2: (Useful(16, 40, cycles=90),),
    }
    request = PlanRequest(useful=offers, fuse=False, growth=100)
    lent = lend(best_plan(graph, request), request)
    assert set(lent.scratch or {}) == {1, 2}
    assert lent.grown == 100
