# SPDX-License-Identifier: Apache-2.0
"""What one layout knows of a group is what another would find out."""

from __future__ import annotations

from itertools import islice

import pytest
from mmcc.ir.graph import Graph
from mmcc.ir.nest import LoopKind
from mmcc.planner.fusion.known_groups import KnownGroups, known_groups
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import choices_of
from mmcc.planner.memory.allocations import make_model
from mmcc.planner.memory.layout import make_layout, subsets
from mmcc.planner.memory.mask_sums import MaskSums
from mmcc.planner.memory.order import best_order
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.request import PlanRequest
from planner_graphs import Build
from tiny_graphs import tiny_graph

Group = tuple[int, int, int]  # kernels done before, after, and its last one

ENOUGH = 1 << 40
LAYOUTS = 5


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


def figures(space: Space, group: Group) -> tuple[int, ...]:
    before, after, _ = group
    return (
        space.least(*group),
        space.tight(*group),
        space.floor(*group),
        space.inner(after & ~before, *group[1:]),
    )


def forget(space: Space) -> None:
    space._known, space._newest = KnownGroups(), None
    space._figures.clear()


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


@pytest.mark.parametrize("options", REQUESTS, ids=lambda options: "-".join(options))
def test_what_is_shared_is_what_each_finds_out_alone(options) -> None:
    shared = alone = 0
    for graph in (*map(joined, range(4)), *map(tiny_graph, range(5))):
        known: list[tuple[Space, Group, tuple[int, ...]]] = []
        for more in MORE:
            for space in layouts(graph, PlanRequest(**options, **more)):
                groups = [(c.before, c.after, c.last) for c in space.candidates(ENOUGH)]
                known += [(space, group, figures(space, group)) for group in groups]
        shared += len(known_groups(graph, PlanRequest(**options))._figures)
        alone += len(known)
        for space, group, found in known:
            forget(space)
            assert found == figures(space, group), (graph.name, group)
    assert shared < 0.7 * alone


def test_requests_that_hold_other_bytes_know_nothing_of_each_other() -> None:
    graph = joined(0)
    each = [known_groups(graph, PlanRequest(**options)) for options in REQUESTS]
    assert len(set(map(id, each))) == len(each)
    limited = PlanRequest(limit=1000, **REQUESTS[0])
    assert known_groups(graph, limited) is each[0]
    assert known_groups(joined(0), limited) is not each[0]


@pytest.mark.quick
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
def test_sums_over_masks(count: int) -> None:
    values = [3**k for k in range(count)]
    sums = MaskSums(values)
    for mask in {0, (1 << count) - 1, *(1 << k for k in range(count)), 0x5555 & (1 << count) - 1}:
        assert sums(mask) == sum(value for k, value in enumerate(values) if mask >> k & 1)
