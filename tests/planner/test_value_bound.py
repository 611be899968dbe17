# SPDX-License-Identifier: Apache-2.0
"""The bound over all layouts and groups: below the best plans of random graphs, and close to them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from brute_layouts import Rules, TooMany
from brute_planner import plan_within
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.ir.traits import Alias
from mmcc.ops.elementwise import Unary
from mmcc.ops.movement import Transpose
from mmcc.ops.topk import TopK
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.value_bound import value_bound
from mmcc.planner.bounds.value_groups import Roles, ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
from mmcc.planner.bounds.value_sets import ValueSets
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.timeline import Timeline
from mmcc.planner.layer_by_layer import choices_of
from mmcc.planner.memory.layout import make_layout, subsets
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from tiny_graphs import parts_graph, tiny_graph

ENOUGH = 1 << 40


def bound_of(graph: Graph, most: int = ENOUGH, align: int = 1) -> int:
    return value_bound(graph, PlanRequest(align=align), most, Spans(graph))


@pytest.mark.parametrize("first", range(2_000, 2_120, 20))
def test_no_plan_is_below_it(first: int) -> None:
    """Plans of graphs so small that nearly all are the least."""
    met = 0
    for seed in range(first, first + 20):
        graph = tiny_graph(seed)
        peak = best_plan(graph, PlanRequest(align=1)).peak(SRAM)
        assert bound_of(graph) <= peak, seed
        met += bound_of(graph) == peak
    assert met


@pytest.mark.parametrize("first", range(4_000, 4_060, 20))
def test_what_is_known_already_changes_only_what_is_below_it(first: int) -> None:
    for seed in range(first, first + 20):
        graph = tiny_graph(seed)
        request, spans, bound = PlanRequest(align=1), Spans(graph), bound_of(graph)
        for floor in (bound // 2, bound - 1, bound, bound + 3):
            assert value_bound(graph, request, ENOUGH, spans, floor) == max(bound, floor), (seed, floor)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_values_that_are_read_in_parts(first: int) -> None:
    """Their tensors stay whole until the last part was read or copied: no plan of any layout needs less."""
    for seed in range(first, first + 20):
        graph = parts_graph(seed)
        for backward in (False, True):
            rules = Rules(groups=True, backward=backward)
            bound = value_bound(graph, PlanRequest(align=1, backward=backward), ENOUGH, Spans(graph))
            try:
                assert not plan_within(graph, rules, bound - 1), (seed, backward)
            except TooMany:
                continue


def steps(count: int, size: int) -> Graph:
    """A sequence of which a step is read at a time, each with what was made of the one before."""
    b = Build("steps")
    x = b.conv(b.input(count, 1, 2), size, 1)
    h = b.conv(b.slice(x, (0, 0, 0), (1, 1, size)), size, 1)
    for k in range(1, count):
        h = b.conv(b.sum(b.slice(x, (k, 0, 0), (1, 1, size)), h), size, 1)
    return b.graph(h)


@pytest.mark.quick
def test_a_sequence_is_whole_until_its_last_step_is_read() -> None:
    """A step is asked for before what it is added to: so all are made first, and all stay until the last."""
    graph = steps(8, 16)
    bound = bound_of(graph)
    assert bound >= 8 * 16
    assert best_plan(graph, PlanRequest(align=1)).peak(SRAM) <= 1.25 * bound


def branches(blocks: int, parts: int) -> Graph:
    """Blocks of branches that end in a Concat: a branch is so many convolutions as its number."""
    b = Build("branches")
    x = b.input(16, 16, 16)
    for _ in range(blocks):
        ends: list[str] = []
        for count in range(parts):
            y = b.conv(x, 8, 1)
            for _ in range(count):
                y = b.conv(y, 4, 3)
            ends.append(y)
        x = b.conv(b.concat(2, *ends), 16, 1)
    return b.graph(x)


def test_branches_of_any_number() -> None:
    """Four blocks need no more than one, whatever the layout; and a plan is found that needs few more."""
    bounds = [bound_of(branches(blocks, 4)) for blocks in (1, 2, 4)]
    assert bounds[0] == bounds[1] == bounds[2] > 16 * 16 * 16
    peak = best_plan(branches(2, 4), PlanRequest(align=1)).peak(SRAM)
    assert bounds[1] <= peak <= 1.05 * bounds[1]


@pytest.mark.quick
def test_a_long_chain_is_proved() -> None:
    """All sets of groups of a graph with many kernels, as far as they fit at all."""
    b = Build("residuals")
    x = b.input(8, 8, 4)
    for _ in range(60):
        x = b.sum(b.conv(b.conv(x, 4, 3), 4, 3), x)
    made = best_plan(b.graph(x), PlanRequest())
    assert made.proved_optimal
    assert len(made.groups) > 50


@pytest.mark.quick
def test_a_transposition_of_pixels_and_channels_has_code_in_every_layout() -> None:
    """So what it reads and what it makes are there together, less a row."""
    b = Build("turned")
    x = b.conv(b.input(8, 1, 1), 32, 1)
    graph = b.graph(b.add(Transpose((1, 0)), b.reshape(x, 8, 32)))
    assert bound_of(graph) >= 2 * 256 - 8


def interleaved() -> Graph:
    """A Concat along the innermost axis, as of the depths of a convolution in three dimensions."""
    b = Build("interleaved")
    x = b.input(8, 8, 4)
    parts = [b.reshape(b.conv(x, 4, 1), 8, 8, 4, 1) for _ in range(4)]
    return b.graph(b.conv(b.reshape(b.concat(3, *parts), 8, 8, 16), 1, 1))


@pytest.mark.quick
def test_a_concat_that_interleaves_its_operands_has_code_in_every_layout() -> None:
    """So a row of each operand is there beside the row that is made of them."""
    graph = interleaved()
    (join,) = (k for k, node in enumerate(graph.nodes) if node.op.traits.alias is Alias.JOIN)
    assert join not in ValueRows(graph, PlanRequest(align=1), Spans(graph)).moves
    assert bound_of(graph) == 480  # the plan found has 488; 384 if the Concat were a view


@pytest.mark.parametrize("make", [tiny_graph, parts_graph])
def test_no_layout_leaves_without_code_what_has_some_in_every_layout(make: Callable[[int], Graph]) -> None:
    seen = 0
    for seed in range(200):
        graph = make(seed)
        rows = ValueRows(graph, PlanRequest(align=1), Spans(graph))
        for copied in islice(subsets(choices_of(graph, frozenset())), 64):
            layout = make_layout(graph, frozenset(), copied)
            in_place = {node for node, _ in layout.in_place}
            assert in_place <= rows.moves, (seed, copied)
            seen += len(in_place)
    assert seen


@pytest.mark.quick
def test_bytes_that_a_slice_leaves_out_need_not_be_there() -> None:
    """One half of the channels lives long, the other does not; a copy needs no more than that half."""
    b = Build("halves")
    x = b.conv(b.input(4, 4, 1), 32, 1)
    kept, used = b.slice(x, (0, 0, 0), (4, 4, 16)), b.slice(x, (0, 0, 16), (4, 4, 16))
    y = b.conv(b.conv(used, 64, 1), 16, 1)
    graph = b.graph(b.sum(y, kept))
    peak = best_plan(graph, PlanRequest(align=1)).peak(SRAM)
    assert bound_of(graph) <= peak


@pytest.mark.quick
def test_a_node_with_several_results_between_others() -> None:
    """It runs alone and makes all its rows in one step; nodes around it are looked at row by row."""
    b = Build("best")
    x, y = b.input(4, 10, dtype=ElementType.F32), b.input(4, 10, dtype=ElementType.F32)
    top, _ = b.add_all(TopK(3), b.add(Unary("tanh"), b.concat(1, x, y)))
    graph = b.graph(b.add(Unary("exp"), top))
    peak = best_plan(graph, PlanRequest(align=1)).peak(SRAM)
    assert bound_of(graph) <= peak


@pytest.mark.parametrize("first", range(3_000, 3_060, 20))
def test_no_plan_in_strips_is_below_it(first: int) -> None:
    """With work done again, too: then groups hold some columns of what only they see."""
    for seed in range(first, first + 20):
        graph = tiny_graph(seed)
        request = PlanRequest(align=1, recompute=4.0, external_inputs=seed % 2 == 0)
        assert value_bound(graph, request, ENOUGH, Spans(graph)) <= best_plan(graph, request).peak(SRAM), seed


@pytest.mark.quick
def test_more_than_enough_is_told_as_one_more() -> None:
    b = Build("small")
    graph = b.graph(b.conv(b.input(8, 8, 8, dtype=ElementType.I8), 8, 3))
    assert bound_of(graph, most=100) == 101


def test_where_a_group_fits_those_that_are_longer_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a deep graph takes as many looks as it has nodes, not as it has groups."""
    looks: list[int] = []
    look = ValueGroups.least

    def counted(self: ValueGroups, last: int, members: int, roles: Roles) -> int:
        looks.append(last)
        return look(self, last, members, roles)

    monkeypatch.setattr(ValueGroups, "least", counted)
    b = Build("deep")
    x = b.input(8, 8, 4)
    for _ in range(40):
        x = b.sum(b.conv(x, 4, 3), x)
    bound = bound_of(b.graph(x))
    assert bound
    assert len(looks) < 400, len(looks)  # of 3,240 groups


def test_schedules_reach_no_further_back_than_groups_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a group that is too long only its end is looked at, so the work grows with the nodes of a graph."""
    sizes: list[int] = []
    timeline = ValueRows.timeline

    def counted(self: ValueRows, last: int, members: int, *options: Any) -> Timeline:
        sizes.append(members.bit_count())
        return timeline(self, last, members, *options)

    monkeypatch.setattr(ValueRows, "timeline", counted)
    looked_at: list[int] = []
    for count in (24, 48):
        b = Build("chain")
        x = b.input(8, 4, 4)
        for _ in range(count):
            x = b.conv(x, 4, 3)
        sizes.clear()
        bound_of(b.graph(x), most=200)
        looked_at.append(sum(sizes))
    assert looked_at[1] < 2.5 * looked_at[0], looked_at


@pytest.mark.parametrize("make", [tiny_graph, parts_graph])
def test_what_is_alive_after_a_group_follows_from_what_was_before(make: Callable[[int], Graph]) -> None:
    """Sets with their movements, and the pieces alive, are those that looking at all nodes finds."""
    for seed in range(30):
        rows = ValueRows(graph := make(seed), PlanRequest(align=1), Spans(graph))
        groups = ValueGroups(rows)
        sets = ValueSets(groups)
        waiting, known = [sets.start()], set[int]()
        while waiting:
            done = waiting.pop()
            if done in known:
                continue
            known.add(done)
            ready = {k for k in rows.moves if not rows.before[k] & ~done}
            assert all(done >> k & 1 for k in ready), seed
            assert sets.alive(done) == groups.alive(done), seed
            waiting += [step.after for step in sets.steps(done)]


def batch(images: int, channels: int, made: int, kept: int) -> Graph:
    """Two convolutions of each image of a batch, and a function of what they make together."""
    b, ends = Build("batch"), list[str]()
    x = b.input(images, 6, 6, channels)
    for k in range(images):
        y = b.reshape(b.slice(x, (k, 0, 0, 0), (1, 6, 6, channels)), 6, 6, channels)
        y = b.conv(b.conv(y, made, 3), kept, 3)
        ends.append(b.reshape(y, 1, *b.shape(y)))
    return b.graph(b.add(Unary("abs"), b.concat(0, *ends)))


def rows_joined() -> Graph:
    """A Concat of rows: the first operand is given up before the last rows are made."""
    b = Build("rows")
    x, y = b.conv(b.input(8, 4, 8), 8, 1), b.conv(b.input(4, 4, 8), 8, 1)
    return b.graph(b.conv(b.concat(0, b.conv(x, 8, 3), b.conv(y, 8, 3)), 8, 1))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("graph", "least"),
    [
        (batch(4, 2, 8, 1), 432),  # the last image is worked on while the first ones' results wait
        (batch(4, 1, 8, 4), 720),
        (rows_joined(), 448),
    ],
)
def test_rows_of_a_value_are_given_up_when_nobody_needs_them(graph: Graph, least: int) -> None:
    """A ring when its last row was read, and not with its reader's last step; an operand of a Concat when its
    rows were copied; an image of a batch when it was worked on. Plans and the bound agree on that."""
    plan = best_plan(graph, PlanRequest(align=1))
    assert check_plan(graph, plan) == []
    assert plan.peak(SRAM) == least
    assert plan.proved_optimal
    assert bound_of(graph) == least


@pytest.mark.quick
def test_steps_of_a_sequence_count_until_they_are_read() -> None:
    """Half of what is computed at once is read at the end, the rest while something else is large."""
    b = Build("steps")
    x = b.conv(b.input(8, 8, 1), 8, 3)
    first, last = (b.slice(x, (row, 0, 0), (4, 8, 8)) for row in (0, 4))
    y = b.conv(b.conv(first, 32, 3), 8, 3)
    graph = b.graph(b.conv(b.sum(y, last), 1, 1))
    asked = PlanRequest(align=1, fuse=False)
    assert bound_of(graph) == 1_072
    assert best_plan(graph, asked).peak(SRAM) == 1_408


@pytest.mark.quick
def test_a_row_is_not_made_over_what_it_is_made_of() -> None:
    """Pooling 4x4 needs 4 rows of its input until the last pixel of one of its own is made."""
    b = Build("pool")
    graph = b.graph(b.conv(b.max_pool(b.input(16, 8, 8), 4, 4), 40, 1))
    plan = best_plan(graph, PlanRequest(align=1))
    assert bound_of(graph) == plan.peak(SRAM) == 16 * 8 * 8 + 2 * 8
