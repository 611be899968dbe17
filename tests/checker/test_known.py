# SPDX-License-Identifier: Apache-2.0
"""A replay that remembers what it found says what one says that looks again each time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from fused_c import request
from mmcc.checker.known import Extent, Known
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Plan, Slot
from mmcc.ir.regions import Place, Region
from mmcc.planner.api import best_plan
from one_group import one_group, random_dag, two_halos
from planner_graphs import Build

SRAM = Region("sram")


def wrong_somewhere(plan: Plan, draw: random.Random) -> Plan:
    """The same with one number changed: a place, a slot's offset, strides or rows, an overlap's life."""
    what = draw.choice(["place", "offset", "row_stride", "col_stride", "rows"])
    if what == "place":
        name = draw.choice(sorted(plan.places))
        place = plan.places[name]
        moved = max(0, place.offset + draw.choice([-64, -16, -4, 4, 16, 64, 256]))
        return replace(plan, places=plan.places | {name: Place(place.region, moved)})
    name = draw.choice(sorted(plan.slots))
    slot = plan.slots[name]
    value = max(0 if what != "rows" else 1, getattr(slot, what) + draw.choice([-8, -4, -2, -1, 1, 4]))
    return replace(plan, slots=plan.slots | {name: replace(slot, **{what: value})})


def plans() -> list[tuple[Graph, Plan]]:
    b = Build("views")
    x = b.conv(b.input(12, 6, 4), 8, 3)
    both = b.concat(2, b.conv(x, 4, 3), x, b.slice(x, (0, 0, 2), (12, 6, 4)))
    flat = b.reshape(both, 6, 12, b.shape(both)[2])
    views = b.graph(b.conv(b.sum(flat, b.conv(flat, b.shape(flat)[2], 3)), 4, 3), b.mean(x))
    graphs = [views, two_halos(2), *(random_dag(random.Random(seed)) for seed in range(3))]
    found: list[tuple[Graph, Plan]] = [(graph, best_plan(graph, request(graph))) for graph in graphs]
    found += [(graph, best_plan(graph, request(graph, external=True, recompute=6.0))) for graph in graphs[:2]]
    return [*found, (graphs[1], one_group(graphs[1]))]


def test_the_same_faults_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    trials = [(graph, wrong_somewhere(plan, draw)) for graph, plan in plans() for _ in range(25)]
    remembered = [check_plan(graph, plan) for graph, plan in trials]
    monkeypatch.setattr(Known, "found", lambda *_: None)
    looked = [check_plan(graph, plan) for graph, plan in trials]
    assert remembered == looked
    assert sum(any("was overwritten by" in text for text in wrong) for wrong in looked) > 25
    assert sum(not wrong for wrong in looked) > 10


@pytest.mark.quick
def test_less_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Reshape that copies asks for all rows for each of its own."""
    b = Build("reshape")
    x = b.reshape(b.conv(b.input(300, 1, 4), 4, 1), 150, 2, 4)
    graph = b.graph(b.conv(x, 4, 3))
    looked: list[int] = []
    right = Known.found
    monkeypatch.setattr(
        Known, "found", lambda s, name, rows: (looked.append(len(rows)), right(s, name, rows))
    )
    assert check_plan(graph, one_group(graph)) == []
    read = [*(node.inputs[0] for node in graph.nodes), graph.outputs[0].tensor]
    assert sum(looked) == sum(graph.tensors[name].shape[0] for name in read)


def bytes_of(extent: Extent, row: int, columns: Span) -> set[int]:
    begin = extent.begin + row % extent.rows * extent.stride
    starts = [begin + (c - extent.columns.lo) * extent.col_stride for c in range(columns.lo, columns.hi)]
    return {at for start in starts for at in range(start, start + extent.pixel)}


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_known_whose_bytes_were_written(seed: int) -> None:
    """Against sets of bytes: rings, gaps between rows, rows that lie in each other."""
    draw = random.Random(seed)

    def extent() -> Extent:
        slot = Slot(
            "b", draw.randint(0, 9), draw.choice([3, 7, 12, 20]), draw.choice([1, 2, 4]), draw.randint(1, 5)
        )
        first = draw.randint(0, 3)
        return Extent.of(Place(SRAM, draw.randint(0, 40)), slot, Span(first, first + draw.randint(1, 4)), 2)

    names = "abcd"
    extents = {(name, False): extent() for name in names} | {
        ("a", True): Extent.buffer(Place(SRAM, draw.randint(0, 60)), draw.randint(1, 20))
    }
    known = Known()
    known.begin(extents, set(names))
    good: dict[tuple[str, int], bool] = {}
    for _ in range(300):
        name = draw.choice(names)
        own = extents[name, False]
        lo = draw.randint(0, 8)
        if draw.random() < 0.5:
            rows = Span(lo, lo + draw.randint(1, own.rows))
            known.found(name, rows)
            good |= {(name, row): True for row in range(rows.lo, rows.hi)}
        else:
            columns = Span(own.columns.lo, draw.randint(own.columns.lo + 1, own.columns.hi))
            known.written(name, lo, columns)
            hit = bytes_of(own, lo, columns)
            if draw.random() < 0.2:
                known.filled("a")
                whole = extents["a", True]
                hit |= set(range(whole.begin, whole.begin + whole.pixel))
            for other, row in list(good):
                place = extents[other, False]
                if hit & bytes_of(place, row, place.columns):
                    good[other, row] = False
        for other in names:
            missing = {row for part in known.missing(other, Span(0, 14)) for row in range(part.lo, part.hi)}
            assert all(good.get((other, row)) for row in set(range(14)) - missing), (other, seed)
