# SPDX-License-Identifier: Apache-2.0
"""Groups, strips and offsets chosen together: known figures, proofs, limits, cost, and graphs of any size."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from mmcc.checker.plan import check_plan
from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.kernels.contract import contracts
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost, plan_macs
from mmcc.planner.joint.cpsat import Choice, select
from mmcc.planner.memory.problem import Item
from mmcc.planner.request import PlanRequest
from mmcc.report.model import count_macs
from mmcc.target import load_target
from planner_graphs import Build, ad, kws, mobilenetv2, resnet8, unet, vww
from shared_models import model_path, needs_shared

ARENA = {
    "kws": (kws, 5_168, 4_836),
    "resnet8": (resnet8, 12_352, 10_784),
    "vww": (vww, 27_792, 13_536),
    "ad": (ad, 768, 768),
    "mobilenetv2-0.35-144": (lambda: mobilenetv2(0.35, 144), 65_664, 26_640),
    "mobilenetv2-1.0-224": (lambda: mobilenetv2(1.0, 224), 196_224, 122_976),
    "unet": (unet, 128_064, 116_064),
}
STRIPS = {  # network, work at most, bytes at most with an input that can be read again
    "vww": (vww, 1.1, 9_216),
    "mobilenetv2-0.35-144": (lambda: mobilenetv2(0.35, 144), 1.03, 18_408),
    "mobilenetv2-1.0-224": (lambda: mobilenetv2(1.0, 224), 1.08, 52_416),
    "mobilenetv2-1.0-224, more": (lambda: mobilenetv2(1.0, 224), 1.3, 47_488),
}


def request(graph: Graph, *, external: bool = False) -> PlanRequest:
    promised = request_from(contracts(graph, load_target("host")))
    return replace(promised, external_inputs=external, external_outputs=external)


@pytest.mark.parametrize("name", ARENA)
def test_least_arenas_are_proved(name: str) -> None:
    make, whole, fed = ARENA[name]
    for graph, external, most in ((make(), False, whole), (stream_ports(make()), True, fed)):
        made = best_plan(graph, request(graph, external=external))
        assert check_plan(graph, made) == []
        assert made.peak(SRAM) <= most
        assert made.proved_optimal
        assert plan_macs(graph, made) == count_macs(graph)


@pytest.mark.parametrize("name", STRIPS)
def test_strips_go_below(name: str) -> None:
    make, work, most = STRIPS[name]
    graph = make()
    made = best_plan(graph, replace(request(graph, external=True), recompute=work))
    assert check_plan(graph, made) == []
    assert made.peak(SRAM) <= most
    assert made.proved_optimal
    assert count_macs(graph) < plan_macs(graph, made) <= work * count_macs(graph)


@pytest.mark.quick
@pytest.mark.parametrize("make", [kws, resnet8, vww], ids=["kws", "resnet8", "vww"])
def test_a_limit_is_met_with_the_least_cost(make) -> None:
    graph = make()
    free = request(graph)
    least, most = (
        best_plan(graph, free).peak(SRAM),
        best_plan(graph, replace(free, fuse=False)).peak(SRAM),
    )
    costs: list[float] = []
    for part in (0.0, 0.25, 0.5, 1.0):
        limit = least + round(part * (most - least))
        made = best_plan(graph, replace(free, limit=limit))
        assert check_plan(graph, made) == []
        assert made.peak(SRAM) <= limit
        costs.append(plan_cost(graph, made, {}))
    for tight, loose in pairwise(costs):
        assert loose <= tight * (1 + 1e-9)
    alone = best_plan(graph, replace(free, fuse=False))
    assert costs[-1] <= plan_cost(graph, alone, {})  # a group of two may save calls for rows made backward


@pytest.mark.quick
def test_below_the_least_the_best_found_is_given() -> None:
    graph = kws()
    made = best_plan(graph, replace(request(graph), limit=4_000))
    assert made.peak(SRAM) == made.bound == 5_168


@pytest.mark.quick
def test_the_same_request_gives_the_same_plan() -> None:
    graph = resnet8()
    first, second = best_plan(graph, request(graph)), best_plan(graph, request(graph))
    assert (first.places, first.groups, first.slots) == (second.places, second.groups, second.slots)


@pytest.mark.quick
def test_groups_and_offsets_in_one_model() -> None:
    """Two ways from start to end; the cheaper bound cannot be placed as low as it says."""
    whole = [Item(4, 1, 0, 1), Item(4, 1, 0, 1), Item(6, 1, 0, 1)]
    choices = [
        Choice(0, 1, 8, 1, (0, 1), (), {}),
        Choice(1, 2, 8, 1, (1,), (Item(4, 1, 0, 1),), {}),
        Choice(0, 2, 9, 1, (0, 2), (Item(3, 1, 0, 1),), {(0, 1): 0, (1, 0): 2}),
    ]
    found, bound = select(whole, choices, 1, 20, 1.0, 0)
    assert found is not None
    assert found.peak == bound == 8
    assert found.chosen == (0, 1)
    only, bound = select(whole, choices[2:], 1, 20, 1.0, 0)
    assert only is not None
    assert only.peak == bound == 9  # the third over the first, the local thing beside them
    assert select(whole, choices[2:], 1, 9, 1.0, 0) == (None, 9)


@pytest.mark.slow
def test_a_thousand_nodes() -> None:
    """A good plan and its gap within a minute."""
    b = Build("long")
    x = b.conv(b.input(32, 32, 8), 8, 3)
    while len(b.nodes) < 1_000:
        y = b.conv(b.depthwise(b.conv(x, 16, 1), 3), 8, 1)
        x = b.sum(x, y)
    graph = b.graph(b.conv(x, 4, 3))
    made = best_plan(graph, request(graph))
    assert check_plan(graph, made) == []
    assert made.bound <= made.peak(SRAM) < best_plan(graph, replace(request(graph), fuse=False)).peak(SRAM)


@needs_shared
def test_more_ram_is_never_worse() -> None:
    """Whatever the limit, above a peak that was reached: groups are cut into strips where they need them."""
    target = load_target("cortex-m4")
    options = CompileOptions(target="cortex-m4")
    graph = load_graph(model_path("digits_cnn_int8_qdq"), options)
    asked = replace(plan_request(options, graph, target, lambda *_: None), fuse=True, recompute=2.0)
    least = best_plan(graph, replace(asked, limit=1)).peak(SRAM)
    costs: list[float] = []
    for limit in range(least, 2 * least, least // 40):
        plan = best_plan(graph, replace(asked, limit=limit))
        assert plan.peak(SRAM) <= limit
        if plan.cheapest:
            costs.append(plan_cost(graph, plan, target.cost))
    assert len(costs) > 20
    assert all(b <= a + 1 for a, b in pairwise(costs))
