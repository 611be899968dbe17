# SPDX-License-Identifier: Apache-2.0
"""Random graphs: every plan passes the checker, keeps its bound, and a proved peak is the true least one."""

from __future__ import annotations

from itertools import combinations, permutations
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Overlap
from mmcc.ir.regions import SRAM
from mmcc.planner.bounds.bound import layout_bound, value_floor
from mmcc.planner.memory.allocations import MemoryModel, make_model
from mmcc.planner.memory.cpsat import cliques
from mmcc.planner.memory.layout import make_layout
from mmcc.planner.memory.lower_bound import lower_bound
from mmcc.planner.memory.order import STEPS_OF_STATE, best_order
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.memory.placement import place
from mmcc.planner.memory.problem import Item, Problem
from mmcc.planner.request import PlanRequest
from planned_alone import planned_alone
from planner_graphs import Build
from planner_random import graphs, requests, usable

ROWS, COLS = 6, 4


@pytest.mark.quick
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(12), request=requests)
def test_plans_of_random_graphs_are_sound(graph: Graph, request: PlanRequest) -> None:
    request = usable(graph, request)
    made = planned_alone(graph, request)
    assert check_plan(graph, made) == [], f"{graph}\n{made}\n{made.slots}"
    assert made.peak(SRAM) >= made.bound
    assert made.proved_optimal == (made.peak(SRAM) == made.bound)


@pytest.mark.quick
@settings(max_examples=100, deadline=None, derandomize=True)
@given(free=st.sets(st.frozensets(st.integers(0, 9), min_size=2, max_size=2)), count=st.integers(0, 9))
def test_every_two_that_share_no_bytes_are_in_a_set(free: set[frozenset[int]], count: int) -> None:
    found = cliques(range(count), free)
    apart = {frozenset(pair) for pair in combinations(range(count), 2)} - free
    assert {frozenset(pair) for some in found for pair in combinations(some, 2)} == apart


@pytest.mark.quick
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(6))
def test_the_order_found_is_the_best_of_all(graph: Graph) -> None:
    request = PlanRequest()
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    model = make_model(graph, make_layout(graph, frozenset(), frozenset()), request, table)
    orders = [
        order
        for order in permutations(range(len(model.kernels)))
        if all(not model.kernels[k].before & ~sum(1 << j for j in order[:n]) for n, k in enumerate(order))
    ]
    found = best_order(model)
    assert found.peak == max(found.bound, max(model.profile(found.order), default=found.peak))
    assert found.peak == min(max(model.profile(order), default=found.peak) for order in orders)
    assert best_order(model, max_states=1).bound <= found.peak <= best_order(model, max_states=1).peak


@pytest.mark.quick
def test_wide_graphs_are_searched_in_as_many_steps_as_others() -> None:
    """After each of few states 60 kernels can run; states alone would be 60 times as many steps."""
    b = Build("wide")
    x = b.input(4, 4, 8)
    graph = b.graph(b.concat(2, *(b.conv(x, 2, 1) for _ in range(60))))
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    model = make_model(graph, make_layout(graph, frozenset(), frozenset()), PlanRequest(), table)
    states, kernels = 200, len(model.kernels)
    found = best_order(model, max_states=states)
    assert sorted(found.order) == list(range(kernels))
    assert found.bound <= found.peak == max(model.profile(found.order))
    assert found.looked_at <= 2 * STEPS_OF_STATE * states + kernels**2


@pytest.mark.quick
def test_what_a_kernel_adds_is_counted_once_for_equal_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which others have run matters only of those that share an allocation with it."""
    b = Build("branches")
    x = b.input(4, 4, 4)
    ends = [b.conv(b.conv(b.conv(x, 4, 1), channels, 3), 4, 3) for channels in range(6, 12)]
    while len(ends) > 1:
        ends = [b.sum(*ends[k : k + 2]) for k in range(0, len(ends) - 1, 2)] + ends[len(ends) & ~1 :]
    graph = b.graph(ends[0])
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    model = make_model(graph, make_layout(graph, frozenset(), frozenset()), PlanRequest(), table)
    counted, step = list[int](), MemoryModel.step

    def counting(self: MemoryModel, index: int, done: int, alive: int) -> tuple[int, int]:
        counted.append(index)
        return step(self, index, done, alive)

    monkeypatch.setattr(MemoryModel, "step", counting)
    found = best_order(model, max_states=200)
    calls = len(counted)
    assert found.peak == max(model.profile(found.order))
    assert calls < found.looked_at / 5, (calls, found.looked_at)


@st.composite
def buffers(draw: st.DrawFn) -> tuple[list[Buffer], list[Overlap]]:
    """Few buffers, so that all placements can be tried, with overlaps where one ends as another starts."""
    made: list[Buffer] = []
    for k in range(draw(st.integers(2, 5))):
        lo = draw(st.integers(0, 3))
        live = Span(lo, draw(st.integers(lo + 1, 5)))
        made.append(Buffer(f"b{k}", BufferKind.TENSOR, draw(st.integers(1, 6)), live, (SRAM,), align=1))
    overlaps: list[Overlap] = []
    for a in made:
        under = [b for b in made if b is not a and b.live.hi == a.live.lo + 1 and b.live.lo < a.live.lo]
        writes = not any(o.step == a.live.lo for o in overlaps)
        if under and writes and draw(st.booleans()):
            back = draw(st.integers(0, 6)) if len(under) == 1 and draw(st.booleans()) else None
            overlaps += [Overlap(a.live.lo, a.name, b.name, draw(st.integers(0, 6)), back) for b in under]
    return made, overlaps


def least_peak(made: list[Buffer], overlaps: list[Overlap]) -> int:
    """By trying every offset of every buffer."""
    over = {(o.output, o.input): o for o in overlaps}

    def apart(a: Buffer, at: int, b: Buffer, bt: int) -> bool:
        if at + a.size <= bt or bt + b.size <= at or a.live.hi <= b.live.lo or b.live.hi <= a.live.lo:
            return True
        for o, out, in_ in ((over.get((a.name, b.name)), at, bt), (over.get((b.name, a.name)), bt, at)):
            if o is not None and (
                in_ - out >= o.distance or (o.backward is not None and out - in_ >= o.backward)
            ):
                return True
        return False

    def fits(offsets: list[int], peak: int) -> bool:
        if len(offsets) == len(made):
            return True
        b = made[len(offsets)]
        return any(
            all(apart(a, at, b, bt) for a, at in zip(made, offsets, strict=False))
            and fits([*offsets, bt], peak)
            for bt in range(peak - b.size + 1)
        )

    peak = max(b.size for b in made)
    while not fits([], peak):
        peak += 1
    return peak


@pytest.mark.quick
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(problem=buffers())
def test_placement_agrees_with_brute_force(problem: tuple[list[Buffer], list[Overlap]]) -> None:
    made, overlaps = problem
    best = least_peak(made, overlaps)
    found = place(made, overlaps)
    assert found.bound <= best <= found.peak
    assert found.proved
    assert found.peak == best


@pytest.mark.quick
def test_exact_search_beats_every_heuristic_here() -> None:
    """Sizes that fill two steps completely, so that no greedy order closes the gaps."""
    spans = [
        (3, 0, 4),
        (2, 0, 2),
        (4, 0, 1),
        (1, 1, 6),
        (3, 1, 2),
        (2, 2, 6),
        (3, 2, 4),
        (6, 4, 6),
        (5, 1, 1),
    ]
    made = [
        Buffer(f"b{k}", BufferKind.TENSOR, size, Span(lo, hi), (SRAM,), align=1)
        for k, (size, lo, hi) in enumerate(spans)
        if hi > lo
    ]
    items = tuple(Item(b.size, b.align, b.live.lo, b.live.hi) for b in made)
    found = place(made)
    assert found.peak == least_peak(made, []) >= lower_bound(Problem(items))


@pytest.mark.quick
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(8), backward=st.booleans(), external=st.booleans())
def test_the_bound_over_all_layouts_is_below_each(graph: Graph, backward: bool, external: bool) -> None:
    request = PlanRequest(backward=backward, external_inputs=external, external_outputs=external)
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    bound = layout_bound(graph, request, table, 10_000)
    choices = [(k, n) for k, node in enumerate(graph.nodes) for n in range(len(node.inputs))][:6]
    outside = request.external(graph)
    for count in range(len(choices) + 1):
        for copied in combinations(choices, count):
            layout = make_layout(graph, outside, frozenset(copied))
            model = make_model(graph, layout, request, table)
            assert bound <= best_order(model).peak
            assert value_floor(graph, request, table) <= best_order(model).peak


@pytest.mark.quick
def test_a_long_graph_with_many_joins_is_planned_in_seconds() -> None:
    """150 nodes of dense blocks: too many layouts to try all, and every block reads all before it."""
    b = Build("dense blocks")
    x = b.conv(b.input(16, 16, 4), 8, 3)
    for _ in range(4):
        for _ in range(12):
            x = b.concat(2, x, b.conv(b.conv(x, 8, 1), 4, 3))
        x = b.conv(x, 8, 1)
    graph = b.graph(x)
    began = process_time()  # of the processor: others may use the machine, too
    made = planned_alone(graph)
    assert process_time() - began < 20.0
    assert made.peak(SRAM) <= 1.1 * made.bound  # all in place needs half as much again
    assert check_plan(graph, made) == []
