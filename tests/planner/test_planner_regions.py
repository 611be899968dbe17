# SPDX-License-Identifier: Apache-2.0
"""Plans in several regions: what is called least is least, whatever the sizes and costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from brute_regions import TooMany, cheapest_cost
from frontend_models import model_of, save
from mmcc.checker.plan import check_plan
from mmcc.driver.ask import plan_request
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Place, Plan
from mmcc.ir.regions import Cache, Region
from mmcc.passes import optimize
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.regions import search
from mmcc.planner.regions.placing import Spread, spread
from mmcc.planner.regions.search import floor_cost
from mmcc.planner.regions.traffic import access_cost
from mmcc.planner.request import Constants, PlanRequest
from mmcc.target import load_target
from moved_plans import skipping
from onnx import helper
from planner_graphs import Build
from tiny_graphs import tiny_graph

FAST, SLOW = Region("fast", align=16), Region("slow", align=16, read_cost=2.0, write_cost=3.0)


def within(fast: int, slow: int | None, *others: Region, **given: object) -> PlanRequest:
    regions = (replace(FAST, size=fast), replace(SLOW, size=slow), *others)
    return replace(PlanRequest(regions=regions, by_region=True, fuse=False), **given)


def chain(rows: int = 8, cols: int = 6) -> Graph:
    b = Build("chain")
    x = b.input(rows, cols, 4)
    for channels in (8, 4, 8):
        x = b.conv(b.depthwise(x, 3, 1), channels, 1)
    return b.graph(x)


def peaks(plan: Plan) -> dict[str, int]:
    return {region.name: size for region, size in plan.regions().items()}


@pytest.mark.parametrize("seed", range(12))
def test_no_plan_of_a_tiny_graph_costs_less(seed: int) -> None:
    """Sizes between what all in one region takes and too little, costs at random, sometimes three regions."""
    graph, draw = tiny_graph(seed), Random(seed)
    whole = best_plan(graph, PlanRequest(fuse=False)).peak(PlanRequest().regions[0])
    sizes = [draw.randint(0, whole) // 4 * 4 for _ in range(3)]
    request = within(
        sizes[0],
        sizes[1],
        *(
            [Region("far", sizes[2], read_cost=4.0, write_cost=draw.choice([1.0, 9.0]))]
            if seed % 4 == 0
            else []
        ),
        cost={"call": draw.choice([0.0, 40.0]), "element_row": 5.0},
        external_inputs=draw.random() < 0.3,
        caches=(Cache(64, 4.0),) if seed % 3 == 1 else (),
    )
    try:
        least = cheapest_cost(graph, request)
    except TooMany:
        pytest.skip("too many plans to try all")
    try:
        plan = best_plan(graph, request)
    except CompileError as error:
        if error.code == "MM040" and least < float("inf"):
            pytest.fail("called impossible, but there is a plan")
        return
    assert check_plan(graph, plan) == []
    assert all(size <= region.size for region, size in plan.regions().items() if region.size is not None)
    assert plan.least_cost <= least * (1 + 1e-9), "a plan costs less than the bound"
    if len(plan.transfers) < 2:  # the brute force moves one buffer, once
        assert plan.cost >= least * (1 - 1e-9), "the brute force misses a plan"
        assert not plan.cheapest or plan.cost == pytest.approx(least)


@pytest.mark.parametrize("seed", [12, 13, 14, 17, 18, 20, 22, 23, 24, 26, 29])
def test_no_plan_with_constants_costs_less(seed: int) -> None:
    """The constants of two nodes may be copied to a region, or read where they are."""
    graph, draw = tiny_graph(seed), Random(seed)
    whole = best_plan(graph, PlanRequest(fuse=False)).peak(PlanRequest().regions[0])
    run = [k for k, node in enumerate(graph.nodes) if node.op.traits.alias is None]
    nodes = draw.sample(run, min(2, len(run)))
    constants = {k: Constants(16 * draw.randint(1, 6), draw.choice([0.5, 3.0, 20.0])) for k in nodes}
    request = within(
        (whole + draw.randint(0, 128)) // 4 * 4,
        whole // 4 * 4,
        cost={"call": draw.choice([0.0, 40.0]), "element_row": 5.0},
        fetchable=constants,
        constants_cost=draw.choice([1.0, 5.0]),
    )
    try:
        least = cheapest_cost(graph, request)
    except TooMany:
        pytest.skip("too many plans to try all")
    plan = best_plan(graph, request)
    assert check_plan(graph, plan) == []
    assert plan.fetched.keys() <= {*nodes}
    assert plan.least_cost <= least * (1 + 1e-9), "a plan costs less than the bound"
    if not any(t.move.buffer not in plan.fetched.values() for t in plan.transfers):
        assert plan.cost >= least * (1 - 1e-9), "the brute force misses a plan"
        assert not plan.cheapest or plan.cost == pytest.approx(least)


@pytest.mark.quick
def test_constants_that_are_read_often_are_copied_where_bytes_are_free() -> None:
    graph = chain()
    alone = best_plan(graph, PlanRequest(fuse=False, backward=False)).peak(PlanRequest().regions[0])
    constants = {0: Constants(64, 40.0), 1: Constants(64, 30.0), 2: Constants(64, 0.5)}
    request = within(alone + 64, None, fetchable=constants, constants_cost=1.0)
    plan = best_plan(graph, request)
    assert check_plan(graph, plan) == []
    assert (plan.cheapest, {*plan.fetched}) == (True, {0, 1}), "the third would cost more than it saves"
    homes = [t.move.target.region.name for t in plan.transfers]  # pyright: ignore[reportAttributeAccessIssue]
    assert homes == ["fast", "fast"]
    without = best_plan(graph, replace(request, fetchable={}))
    assert plan.cost == without.cost + 64 * (1 + 1 + 0.5), "copied once, and the third read where it is"


def test_most_tiny_graphs_are_proved() -> None:
    proved = 0
    for seed in range(40):
        graph = tiny_graph(seed)
        whole = best_plan(graph, PlanRequest(fuse=False)).peak(PlanRequest().regions[0])
        proved += best_plan(graph, within(whole // 8 * 4, None)).cheapest
    assert proved >= 28


def test_what_the_caller_brings_is_in_no_floor() -> None:
    """Accesses to it cost nothing in a plan, whatever the regions cost."""
    graph = chain()
    dear = replace(FAST, read_cost=0.5, write_cost=0.5)
    for size, outside in ((1 << 20, True), (1 << 20, False), (400, True)):
        asked = within(size, None, external_inputs=outside, external_outputs=outside)
        asked = replace(asked, regions=(replace(dear, size=size), SLOW))
        assert floor_cost(graph, asked) <= best_plan(graph, asked).cost


@pytest.mark.quick
def test_all_is_in_fast_memory_if_that_is_large_enough() -> None:
    graph = chain()
    alone = best_plan(graph, PlanRequest(fuse=False, backward=False))
    plan = best_plan(graph, within(alone.peak(alone.buffers[0].regions[0]), None))  # pyright: ignore[reportArgumentType]
    assert (list(peaks(plan)), plan.cheapest) == (["fast"], True)
    assert plan.groups == alone.groups


@pytest.mark.quick
def test_what_caches_cost_is_in_the_cost() -> None:
    """The search has it: were it not in the plan's cost, too, each would seem to cost less than the least."""
    graph = chain()
    for size in (0, 256, 4096):
        request = within(size, None, caches=(Cache(64, 4.0),))
        plan, without = best_plan(graph, request), best_plan(graph, replace(request, caches=()))
        assert plan.cost == predicted(graph, plan, request) + access_cost(graph, plan, request)
        assert floor_cost(graph, request) <= plan.least_cost <= plan.cost
        assert predicted(graph, without, request) + access_cost(graph, without, request) >= plan.cost
        assert plan.cost > without.cost


@pytest.mark.quick
def test_a_graph_without_code_is_where_it_has_room() -> None:
    b = Build("views")
    graph = b.graph(b.reshape(b.input(5, 2, 3), 30))
    assert [peaks(best_plan(graph, within(*sizes))) for sizes in ((32, 8), (16, 32), (16, None))] == [
        {"fast": 32},
        {"slow": 32},
        {"slow": 32},
    ]
    fewest = best_plan(graph, within(32, 32, least=("fast",)))  # though fast memory has room
    assert (peaks(fewest), fewest.bounds, fewest.proved_optimal) == ({"slow": 32}, {"fast": 0}, True)
    assert peaks(best_plan(graph, within(32, 16, least=("fast",)))) == {"fast": 32}
    assert peaks(best_plan(graph, within(32, 32, least=("slow", "fast")))) == {"fast": 32}
    with pytest.raises(CompileError, match="does not fit in 16 of fast and 16 of slow") as caught:
        best_plan(graph, within(16, 16))
    assert caught.value.code == "MM041"
    assert "fast=32" in caught.value.hint


@pytest.mark.quick
def test_where_there_are_many_ways_to_have_tensors_in_regions_some_are_left_out() -> None:
    """Five tensors in three regions, 243 ways: those that are left out lead nowhere, and less is proved."""
    b = Build("wide")
    first, *others = [b.input(4, 4, 1) for _ in range(4)]
    x = b.sum(b.conv(first, 1, 1), b.conv(first, 1, 3))
    for other in others:
        x = b.sum(x, other)
    graph = b.graph(x)
    plan = best_plan(graph, within(48, None, Region("mid", size=48, read_cost=2.0, write_cost=2.0)))
    assert check_plan(graph, plan) == []
    assert floor_cost(graph, within(48, None)) <= plan.least_cost <= plan.cost
    assert not plan.cheapest


@pytest.mark.quick
def test_the_order_of_regions_does_not_decide() -> None:
    graph = chain()
    ahead = best_plan(graph, within(256, 4096))
    behind = within(256, 4096)
    behind = best_plan(graph, replace(behind, regions=behind.regions[::-1]))
    assert (ahead.cost, peaks(ahead)) == (behind.cost, peaks(behind))
    assert set(peaks(ahead)) == {"fast", "slow"}


@pytest.mark.quick
def test_more_fast_memory_costs_no_more() -> None:
    graph = chain()
    costs = [best_plan(graph, within(size, None)).cost for size in range(0, 1024, 128)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


@pytest.mark.quick
def test_the_least_of_one_region_after_the_other() -> None:
    graph = chain()
    least = best_plan(graph, PlanRequest(fuse=True))
    assert least.proved_optimal
    one = best_plan(graph, within(4096, 4096, least=("fast", "slow")))
    other = best_plan(graph, within(4096, 4096, least=("slow", "fast")))
    assert (peaks(one), one.bounds) == ({"slow": least.bound}, {"fast": 0, "slow": least.bound})
    assert (peaks(other), other.bounds) == ({"fast": least.bound}, {"slow": 0, "fast": least.bound})
    assert one.proved_optimal
    assert other.proved_optimal
    tight = best_plan(graph, within(4096, least.bound // 8 * 4, least=("fast",)))
    assert check_plan(graph, tight) == []
    assert 0 < peaks(tight)["fast"] < least.bound
    assert tight.bounds["fast"] <= peaks(tight)["fast"]


@pytest.mark.parametrize("seed", [3, 6, 7, 8, 9, 12])
def test_no_plan_takes_fewer_bytes_of_one_region_after_the_other(seed: int) -> None:
    """A byte less of the first is impossible, and with as many of the first a byte less of the second."""
    graph, draw = tiny_graph(seed), Random(seed)
    align = draw.choice([1, 4, 8])
    whole = best_plan(graph, PlanRequest(fuse=False, align=align)).peak(PlanRequest().regions[0])
    request = within(2 * whole, draw.randint(0, whole), align=align, least=("fast", "slow"))
    plan = best_plan(graph, request)
    assert check_plan(graph, plan) == []
    taken = peaks(plan)
    fast, slow = taken.get("fast", 0), taken.get("slow", 0)
    assert not plan.proved_optimal or plan.bounds == {"fast": fast, "slow": slow}
    assert plan.bounds["fast"] <= fast
    for sizes in ((fast - 1, request.regions[1].size or 0), (fast, slow - 1)):
        if plan.proved_optimal and min(sizes) >= 0:
            regions = [replace(r, size=size) for r, size in zip(request.regions, sizes, strict=True)]
            asked = replace(request, regions=tuple(regions), least=())
            try:
                assert cheapest_cost(graph, asked, most=3_000) == float("inf")
            except TooMany:
                pytest.skip("too many plans to try all")


@pytest.mark.quick
def test_too_little_of_all_is_said_with_what_is_enough() -> None:
    graph = chain()
    least = best_plan(graph, PlanRequest(fuse=True)).bound
    with pytest.raises(CompileError) as caught:
        best_plan(graph, within(least // 8 * 4, least // 8 * 4 - 64))
    assert caught.value.code == "MM040"
    enough = dict(line.split("  ")[0].split("=") for line in caught.value.hint.splitlines())
    assert set(enough) == {"fast", "slow"}
    plan = best_plan(graph, within(int(enough["fast"]), least // 8 * 4 - 64))
    assert check_plan(graph, plan) == []


@pytest.mark.parametrize("background", [False, True])
def test_what_is_idle_is_moved_out_of_fast_memory(background: bool) -> None:
    """Some sizes of fast memory make moves worth while: they cost less than buffers that stay."""
    graph, sizes, moves = skipping(1), range(500, 1600, 150), 0
    for size in sizes:
        request = within(size, None, cost={"call": 0.0}, background=background)
        plan = best_plan(graph, request)
        assert check_plan(graph, plan) == []
        assert plan.regions()[request.regions[0]] <= size
        assert plan.least_cost <= plan.cost
        assert background or not any(t.move.asynchronous for t in plan.transfers)
        moves += len(plan.transfers)
    assert moves >= 4
    if background:
        with_them = best_plan(graph, within(1550, None, cost={"call": 0.0}, background=True))
        without = best_plan(graph, within(1550, None, cost={"call": 0.0}))
        assert any(t.move.asynchronous for t in with_them.transfers)
        assert with_them.cost < without.cost


@pytest.mark.quick
def test_a_buffer_in_the_wrong_region_is_convicted() -> None:
    graph = chain()
    plan = best_plan(graph, within(256, 4096))
    fast, slow = plan.regions()
    inside = [b for b in plan.buffers if plan.places[b.name].region == slow]
    wrong = [
        name
        for name in (b.name for b in inside)
        if check_plan(graph, replace(plan, places=plan.places | {name: Place(fast, 0)}))
    ]
    assert len(wrong) == len(inside), "each is too large for the fast region, or in the way of what is there"


@pytest.mark.quick
@pytest.mark.parametrize("limits", [{}, {"dtcm": 300, "axi": 4096}, {"dtcm": 0, "axi": 0}])
def test_a_layer_that_runs_backward_does_so_in_any_region(limits: dict[str, int], tmp_path: Path) -> None:
    """A reverse RNN behind a Relu: its rows can be made in no other order."""
    draw = np.random.default_rng(3)
    arrays = {"w": draw.random((1, 4, 4)), "r": draw.random((1, 4, 4)), "b": draw.random((1, 8))}
    nodes = [
        helper.make_node("Relu", ["x"], ["p"]),
        helper.make_node("RNN", ["p", "w", "r", "b"], ["y"], hidden_size=4, direction="reverse"),
    ]
    constants = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = model_of(nodes, {"x": np.ones((5, 1, 4), np.float32)}, ["y"], constants)
    graph = optimize(import_model(save(model, tmp_path)))
    options = CompileOptions(target="stm32h743", regions=limits)
    request = plan_request(options, graph, load_target("stm32h743"), silent)
    plan = best_plan(graph, request)
    assert request.by_region
    assert any(group.backward for group in plan.groups)
    assert check_plan(graph, plan) == []


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_plan_costs_what_its_route_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the search adds up, group by group and region by region, is what the plan is found to cost: else
    the cheapest route is not the cheapest plan, and none can be proved."""
    graph, draw = tiny_graph(seed), Random(seed)
    whole = best_plan(graph, PlanRequest(fuse=False)).peak(PlanRequest().regions[0])
    placed: list[Spread] = []

    def noted(*given: object) -> Spread:
        placed.append(spread(*given))  # pyright: ignore[reportArgumentType]
        return placed[-1]

    monkeypatch.setattr(search, "spread", noted)
    cost = {"call": draw.choice([0.0, 40.0]), "element_row": 5.0}
    plan = best_plan(graph, within(whole // (2 + seed % 3) // 4 * 4, None, cost=cost))
    if placed and not any(group.backward for group in plan.groups):
        assert plan.cost in [pytest.approx(each.cost) for each in placed]
