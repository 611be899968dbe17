# SPDX-License-Identifier: Apache-2.0
"""What the planner claims of tiny graphs, against a program that tries all plans; faults it once had."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from brute_planner import plan_within
from mmcc.checker.plan import check_plan
from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Overlap
from mmcc.ir.regions import SRAM
from mmcc.ops.elementwise import Unary
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.bound import layout_bound, trivial_bound, value_floor
from mmcc.planner.fusion import sets
from mmcc.planner.memory.lower_bound import cover
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.memory.placement import place
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from planner_graphs import Build
from planner_trial import GRAPHS, Tally, rules_of, try_seed, with_promises
from shared_models import SHARED, needs_shared
from tiny_graphs import KINDS

REPRO = SHARED / "cases" / "trust" / "repro"
FOUND = (
    *(214, 322, 424),  # all nodes are views
    218,  # computed in place of a tensor with gaps between its pixels
    742,  # rows of an input that only steps read which never run
    30182,  # made in a part of a Concat that is there before and after the group
    5249,  # nothing computes: what moving elements costs was counted twice
)
FOUND_OF_KIND = (
    ("sums", 110),  # a mean that is there with the last row kept its bytes away from rows read before
    ("strips", 28),  # a column that nobody needs was work in one place and not in another
    ("strips", 181),  # strips saved bytes of all moments, but not of those that were looked at
    ("strips", 1355),  # what the solver proved held for groups within a bound, not below the plan
    ("strips", 1462),  # strips were cheaper only since they leave out a column that nobody needs
    ("cells", 80),  # a layer that only goes backward was not over its input where others may not go so
    ("cells", 2),  # a layer that only goes backward takes a call for each step, in any plan
)


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_no_bound_is_exceeded_and_nothing_proved_is_beaten(first: int) -> None:
    """A sample of `bench/fuzz_planner.py`."""
    tally = Tally()
    for seed in range(first, first + 20):
        assert list(try_seed(seed, tally)) == [], seed
    assert tally.given_up <= 2
    assert tally.proved > tally.plans // 2


@pytest.mark.parametrize(
    ("kind", "graphs"),
    [("strips", 40), ("sums", 40), ("pixels", 20), ("cells", 12), ("gradients", 7), ("staged", 5)],
)
def test_nor_with_strips_sums_scratch_and_rows_in_an_order(kind: str, graphs: int) -> None:
    tally = Tally()
    for seed in range(graphs):
        assert list(try_seed(seed, tally, kind)) == [], seed
    assert tally.given_up <= 1
    # nothing is claimed of plans with staged constants within a limit
    assert tally.proved > {"cells": 0.7, "staged": 0.3}.get(kind, 0.9) * tally.plans


@pytest.mark.parametrize(("kind", "seed"), [*(("any", seed) for seed in FOUND), *FOUND_OF_KIND])
def test_what_the_campaign_found(kind: str, seed: int) -> None:
    assert list(try_seed(seed, Tally(), kind)) == []


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("seed", range(len(KINDS) * 4))
def test_the_brute_force_finds_what_the_planner_finds(kind: str, seed: int) -> None:
    """Else its silence would mean nothing."""
    graph = GRAPHS[kind](seed)
    usual = PlanRequest(align=1, recompute=2.0 if kind == "strips" else 1.0)
    request = with_promises(graph, usual, kind, Random(seed))
    for groups in (True,) if kind == "staged" else (False, True):
        asked = replace(request, fuse=groups)
        made = best_plan(graph, asked)
        assert plan_within(graph, rules_of(graph, asked), made.peak(SRAM)), groups


@pytest.mark.quick
@needs_shared
@pytest.mark.parametrize(("name", "count"), [("batch_pool", 2), ("batch_conv", 0), ("batch_chain", 3)])
def test_batches_are_planned_with_groups(name: str, count: int) -> None:
    options = CompileOptions(target="host", dims={"N": count} if count else {})
    graph = load_graph(REPRO / f"{name}.onnx", options)
    asked = replace(plan_request(options, graph, load_target("host"), lambda *_: None), fuse=True)
    made = best_plan(graph, asked)
    assert check_plan(graph, made) == []
    assert made.bound <= made.peak(SRAM) <= best_plan(graph, replace(asked, fuse=False)).peak(SRAM)


@pytest.mark.quick
def test_rows_backward_where_forward_does_not_help() -> None:
    """The output of growing rows is above its input, or beside it."""
    b = Build("grow")
    graph = b.graph(b.conv(b.conv(b.input(6, 4, 1), 8, 3), 8, 1))
    alone = best_plan(graph, PlanRequest(fuse=False))
    assert best_plan(graph, PlanRequest()).bound <= alone.peak(SRAM)


@pytest.mark.quick
def test_an_overlap_allows_nothing_at_another_step() -> None:
    """Two tensors live together for two steps; what may be at the second may not be at the first."""
    lives = {"a": Span(0, 3), "b": Span(1, 3)}
    made = [Buffer(n, BufferKind.TENSOR, 8, live, (SRAM,), 1) for n, live in lives.items()]
    found = place(made, [Overlap(2, "a", "b", -8, -8)])
    assert found.peak == found.bound == 16


@pytest.mark.quick
def test_one_more_that_dies_costs_its_bytes_at_most() -> None:
    """The search for an order relies on it: with two that die, one may still be used backward."""
    one = [(10, 10, 2)]
    assert cover(10, one) == 12
    assert cover(10, [*one, (10, 4, None)]) <= 12 + 4


@pytest.mark.quick
def test_outputs_that_are_views_of_each_other_count_once() -> None:
    b = Build("twice")
    x = b.conv(b.input(4, 4, 1), 8, 3)
    graph = b.graph(x, b.reshape(x, 16, 8))
    assert trivial_bound(graph, PlanRequest()) == 128
    made = best_plan(graph, PlanRequest())
    assert made.bound <= made.peak(SRAM)


@pytest.mark.quick
def test_an_input_read_through_a_join_and_a_slice_only_does_not_live_for_ever() -> None:
    """How long its bytes matter is not known, so they do not count."""
    b = Build("unknown")
    x, y = b.input(4, 4, 4), b.input(4, 4, 4)
    part = b.slice(b.concat(2, x, y), (0, 0, 2), (4, 4, 1))
    z = b.conv(b.conv(part, 16, 1), 16, 1)
    graph = b.graph(b.conv(z, 1, 1))
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    peak = best_plan(graph, PlanRequest(fuse=False)).peak(SRAM)
    assert layout_bound(graph, PlanRequest(), table, 10_000) <= peak


@pytest.mark.quick
def test_an_output_that_may_be_a_part_of_an_external_one_counts_nothing() -> None:
    b = Build("outside")
    x = b.conv(b.input(4, 4, 4), 4, 3)
    graph = b.graph(b.concat(0, b.add(Unary("abs"), x), b.conv(x, 4, 1)))
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    outside = PlanRequest(external_inputs=True, external_outputs=True)
    made = best_plan(graph, replace(outside, fuse=False))
    assert value_floor(graph, outside, table) <= made.peak(SRAM) == 64


@pytest.mark.quick
def test_beginnings_of_one_order_prove_nothing_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many sets of finished kernels, the bound is one that needs no list of them."""
    b = Build("branches")
    x = b.input(4, 4, 2)
    y = b.sum(b.conv(b.conv(x, 4, 1), 2, 3), b.conv(b.conv(x, 8, 3), 2, 1))
    graph = b.graph(b.conv(y, 2, 3))
    whole = best_plan(graph, PlanRequest(align=1))
    monkeypatch.setattr(sets, "MOST_SETS", 1)
    sets.every_set.cache_clear()
    made = best_plan(graph, PlanRequest(align=1))
    sets.every_set.cache_clear()
    assert trivial_bound(graph, PlanRequest(align=1)) <= made.bound <= whole.bound


@pytest.mark.quick
def test_the_bound_of_the_cheapest_plan_is_that_of_all_layouts() -> None:
    """The cheapest may be of another layout than the least."""
    graph = _two_layouts()
    least = best_plan(graph, PlanRequest(align=1))
    most = best_plan(graph, PlanRequest(align=1, fuse=False)).peak(SRAM)
    for limit in range(least.peak(SRAM), most, 1 + (most - least.peak(SRAM)) // 6):
        assert best_plan(graph, PlanRequest(align=1, limit=limit)).bound <= least.bound


def _two_layouts() -> Graph:
    b = Build("join")
    x = b.conv(b.input(6, 4, 1), 4, 3)
    y = b.conv(b.conv(x, 8, 3), 2, 1)
    return b.graph(b.conv(b.conv(b.concat(2, x, y), 8, 3), 1, 1))


@pytest.mark.quick
def test_bounds_are_multiples_of_the_alignment() -> None:
    """As every peak is: else a plan is unproved by a byte."""
    b = Build("odd")
    graph = b.graph(b.conv(b.conv(b.conv(b.input(7, 3, 1), 3, 3), 5, 1), 1, 3))
    made = best_plan(graph, PlanRequest(align=4))
    assert made.bound % 4 == 0
    assert made.proved_optimal
