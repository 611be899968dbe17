# SPDX-License-Identifier: Apache-2.0
"""What a plan leaves is lent to kernels: never what something else needs, never more than is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.lend import lend
from mmcc.planner.request import PlanRequest
from planner_random import graphs

USEFUL = st.dictionaries(st.integers(0, 9), st.integers(1, 200), max_size=6)


@pytest.mark.quick
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    graph=graphs(9), useful=USEFUL, more=st.integers(0, 150), kind=st.sampled_from(["none", "limit", "least"])
)
def test_what_is_lent_is_free(graph: Graph, useful: dict[int, int], more: int, kind: str) -> None:
    wanted = {node: size for node, size in useful.items() if node < len(graph.nodes)}
    request = PlanRequest(useful=wanted, fuse=kind != "none", effort=1.0)
    plan = best_plan(graph, request)
    peak = plan.peak(SRAM)
    if kind == "limit":
        request = replace(request, limit=peak + more)
    lent = lend(plan, request)
    assert check_plan(graph, lent) == []
    assert lent.lent == lent.peak(SRAM) - peak
    size = {buffer.name: buffer.size for buffer in lent.buffers}
    assert all(size[name] >= wanted[node] for node, name in (lent.scratch or {}).items())
    computed = {node for group in plan.groups for node in group.nodes}
    match kind:
        case "none":
            assert set(lent.scratch or {}) == set(wanted) & computed
        case "limit":
            assert lent.peak(SRAM) <= peak + more
        case _:
            assert lent.lent == 0
