# SPDX-License-Identifier: Apache-2.0
"""Groups that are taken for equal need equally many bytes, and the list of groups is that of all of them."""

from __future__ import annotations

import gc
import weakref
from itertools import islice
from random import Random

import pytest
from mmcc.ir.graph import Graph
from mmcc.ir.nest import LoopKind
from mmcc.ops.elementwise import Unary
from mmcc.planner.fusion import figures
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.listed import list_groups
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout, choices_of
from mmcc.planner.memory.allocations import make_model
from mmcc.planner.memory.layout import make_layout, subsets
from mmcc.planner.memory.order import best_order
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from tiny_graphs import tiny_graph

ENOUGH = 1 << 40
LAYOUTS = 5


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


def layouts(graph: Graph, request: PlanRequest) -> list[Space]:
    """Spaces of some layouts."""
    offsets = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    operands = choices_of(graph, request.external(graph))
    made, spans = [], Spans(graph)
    for copied in islice(subsets(operands), LAYOUTS):
        layout = make_layout(graph, request.external(graph), copied)
        model = make_model(graph, layout, request, offsets)
        made.append(Space(graph, layout, model, best_order(model).order, request, spans))
    return made


def joined(seed: int) -> Graph:
    """Branches that meet in two Concats and an Add: most groups touch one of these, or none."""
    b = Build("joined")
    x = b.input(6, 5, 4)
    left, right = b.conv(x, 4, 3), b.depthwise(x, 3)
    both = b.concat(2, left, right, b.conv(left, 4, 1))
    last = b.concat(2, b.conv(both, 4, 3), b.sum(left, right)) if seed % 2 else b.conv(both, 8, 3)
    return b.graph(b.conv(last, 4, 3), *((left,) if seed % 3 == 0 else ()))


REQUESTS = ({"align": 1}, {"recompute": 2.0}, {"align": 16, "ordered": {2: LoopKind.FORWARD}})
MORE = (
    {},
    {"external_inputs": True},
    {"external_outputs": True, "scratch": {1: 40, 2: 24}},
    {"pixels": {1: 2}, "scratch": {1: 8}},
)


def differing(space: Space) -> tuple[list[Candidate], int]:
    """Groups of which something else is known than their footprint tells, and how many there are."""
    groups = list(space.candidates(ENOUGH))
    found = []
    for group in groups:
        ends, members = (group.before, group.after, group.last), group.after & ~group.before
        of, mine = space.figures, space._footprint(*ends)
        known = of.least(*ends), of.tight(*ends), of.inner(members, *ends[1:]), of.floor(*ends)
        direct = mine.least, mine.tight, mine.inner, space._floor(mine)
        if known != direct or of.drained(*ends) != bool(mine.group.drained):
            found.append(group)
    return found, len(groups)


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_equal_groups_need_as_much(first: int) -> None:
    """In a net of equal blocks many groups are equal to another."""
    groups = different = 0
    for seed in range(first, first + 4):
        space = space_of(blocks(seed), PlanRequest(align=1 + 3 * (seed % 2)))
        wrong, count = differing(space)
        assert wrong == [], seed
        groups, different = groups + count, different + space.figures.looked_at
    assert different < groups * 7 // 8


@pytest.mark.parametrize("options", REQUESTS, ids=lambda options: "-".join(options))
def test_groups_of_other_layouts_and_requests_need_as_much(options) -> None:
    """What is known from one serves for the next; much is new to none of them."""
    for graph in (*map(joined, range(3)), *map(tiny_graph, range(3)), blocks(1)):
        for more in MORE:
            for space in layouts(graph, PlanRequest(**options, **more)):
                wrong, _ = differing(space)
                assert wrong == [], (graph.name, more)


def test_groups_in_tiles_do_not_depend_on_those_looked_at_before() -> None:
    """They share schedules, and what lies in these: a sum alone has other rows than one in a larger group."""
    b = Build("sum")
    mean = b.mean(b.conv(b.input(6, 5, 4), 4, 3))
    graph = b.graph(b.conv(mean, 3, 1))
    summed = next(k for k, node in enumerate(graph.nodes) if node.outputs[0] == mean)
    request = PlanRequest(accumulators={summed: 64})
    shared = space_of(graph, request)
    groups = [(c.before, c.after, c.last) for c in shared.candidates(ENOUGH)]
    for group in (*groups, *reversed(groups)):
        for tile in (1, 2):
            alone = space_of(graph, request)._footprint(*group, None, tile)
            assert shared._footprint(*group, None, tile).least == alone.least, (group, tile)


def test_what_is_known_goes_with_its_graph() -> None:
    graph = joined(0)
    gone = weakref.ref(graph)
    space_of(graph, PlanRequest()).figures.least(0, 1, 0)
    assert graph in figures._KNOWN
    del graph
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_the_list_is_of_all_groups_within_a_limit(first: int) -> None:
    """From set to set as over all sets; and none is listed that is on no way from the beginning."""
    for seed in range(first, first + 4):
        space = space_of(blocks(seed), PlanRequest(align=1))
        for limit in (100, 150, ENOUGH):
            listed = list_groups(space, limit)
            assert listed is not None
            some, every = (Table(space, limit, groups).below(limit + 1) for groups in (listed, None))
            assert set(some) == set(every), seed
            assert len(some) == len(every), seed
