# SPDX-License-Identifier: Apache-2.0
"""The cheapest plan of a tiny graph in several regions, by trying all paths and all regions of all buffers.

Costs are counted on finished plans, placements are exact, and nothing is skipped but what costs more than a
plan that was found. Groups, their buffers and overlaps are the planner's; its choice among them is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, Overlap
from mmcc.ir.regions import External, Region
from mmcc.planner.cost import plan_cost
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.paths import Path, Table
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.layouts import Layouts
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.regions.traffic import Bytes, buffer_traffic
from mmcc.planner.request import PlanRequest

MOST = 2**30


class TooMany(Exception):
    """There are too many choices to try all."""


def cheapest_cost(graph: Graph, request: PlanRequest, *, most: int = 4000) -> float:
    """The least cost of any plan within the sizes of the request's regions; infinite if there is none."""
    asked = replace(request, fuse=True, limit=MOST)
    layouts = Layouts(graph, asked, best_layout(graph, asked).choice)
    best = inf
    for choice in layouts.first:
        table = layouts.table(choice, MOST, asked)
        for path in _paths(table, 0):
            best = min(best, _cheapest_on(graph, request, table, path, best, most))
    return best


def _paths(table: Table, done: int) -> Iterator[Path]:
    if done == table.space.all:
        yield ()
    for candidate in table.below(MOST):
        if candidate.before == done:
            for rest in _paths(table, candidate.after):
                yield (candidate, *rest)


def _cheapest_on(
    graph: Graph, request: PlanRequest, table: Table, path: Path, best: float, most: int
) -> float:
    builder = Builder(table.space, path)
    buffers, overlaps = builder.buffers()
    inside = [b for b in buffers if not isinstance(b.regions[0], External)]
    if len(request.regions) ** len(inside) > most:
        raise TooMany
    plan = builder.plan(Placed(path, buffers, (), Placement({}, 0, 0)), 0)
    traffic: dict[str, Bytes] = {}
    for (name, _), count in buffer_traffic(graph, plan, request.loads).items():
        traffic[name] = traffic.get(name, Bytes()) + count
    work = plan_cost(graph, plan, request.cost)
    priced: list[tuple[float, tuple[Region, ...]]] = []
    for homes in product(request.regions, repeat=len(inside)):
        accesses = (traffic.get(b.name, Bytes()).cost(r) for b, r in zip(inside, homes, strict=True))
        priced.append((work + sum(accesses), homes))
    for cost, homes in sorted(priced, key=lambda item: item[0]):
        if cost >= best:
            break
        if all(_fits(inside, overlaps, homes, region) for region in request.regions):
            return cost
    return best


def _fits(
    inside: Sequence[Buffer], overlaps: Sequence[Overlap], homes: Sequence[Region], region: Region
) -> bool:
    here = [b for b, home in zip(inside, homes, strict=True) if home == region]
    names = {b.name for b in here}
    own = [o for o in overlaps if {o.output, o.input} <= names]
    assert region.size is not None
    found = place(here, own, region.size)
    assert found.peak <= region.size or found.bound > region.size, "the placement is not exact"
    return found.peak <= region.size
