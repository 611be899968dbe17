# SPDX-License-Identifier: Apache-2.0
"""The cheapest plan of a tiny graph in several regions, by trying all paths and all regions of all buffers.

A buffer may also be moved, once, before any step. Costs are counted on finished plans, placements are exact,
and nothing is skipped but what costs more than a plan that was found. Groups, their buffers and overlaps are
the planner's; its choice among them is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import inf

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import BLOCK_ALIGN, Buffer, BufferKind, Overlap, Plan
from mmcc.ir.regions import External, Region
from mmcc.planner.caches import predicted
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


class Budget:
    """Choices of regions that may still be looked at."""

    def __init__(self, choices: int) -> None:
        self._left = choices

    def take(self, choices: int) -> None:
        """TooMany if there are not so many left."""
        self._left -= choices
        if self._left < 0:
            raise TooMany


def cheapest_cost(graph: Graph, request: PlanRequest, *, most: int = 6_000) -> float:
    """The least cost of any plan within the sizes of the request's regions; infinite if there is none."""
    asked = replace(request, fuse=True, limit=MOST)
    layouts = Layouts(graph, asked, best_layout(graph, asked).choice)
    best, budget = inf, Budget(most)
    for choice in layouts.first:
        table = layouts.table(choice, MOST, asked)
        for path in _paths(table, 0):
            best = min(best, _cheapest_on(graph, request, table, path, best, budget))
    return best


def _paths(table: Table, done: int) -> Iterator[Path]:
    if done == table.space.all:
        yield ()
    for candidate in table.below(MOST):
        if candidate.before == done:
            for rest in _paths(table, candidate.after):
                yield (candidate, *rest)


def _cheapest_on(
    graph: Graph, request: PlanRequest, table: Table, path: Path, best: float, budget: Budget
) -> float:
    builder = Builder(table.space, path)
    buffers, overlaps = builder.buffers()
    inside = [b for b in buffers if not isinstance(b.regions[0], External)]
    whole = [b for b in inside if len(b.live) > 1]
    moves = sum(len(b.live) - 1 for b in whole)
    budget.take(len(request.regions) ** len(inside) * (1 + moves * len(request.regions)))
    plan = builder.plan(Placed(path, buffers, (), Placement({}, 0, 0)), 0)
    traffic = buffer_traffic(graph, plan, request)
    work = predicted(graph, plan, request)
    for fetched, read, more in _constants(request, plan):
        budget.take(len(request.regions) ** len(inside + fetched) if fetched else 0)
        best = _cheapest_homes(request, inside + fetched, overlaps, traffic | read, work + more, best)
    if request.fetchable:
        return best
    for moved in whole:
        for step in range(moved.live.lo + 1, moved.live.hi):
            parts, own, counts = _split(moved, step, inside, overlaps, traffic)
            best = _cheapest_homes(request, parts, own, counts, work, best, copied=moved)
    return best


def _constants(
    request: PlanRequest, plan: Plan
) -> Iterator[tuple[list[Buffer], dict[tuple[str, int], Bytes], float]]:
    """Constants that are copied, or not: buffers, what is read of them there, and what the others cost."""
    steps = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    for some in product((False, True), repeat=len(request.fetchable)):
        buffers, read, more = list[Buffer](), dict[tuple[str, int], Bytes](), 0.0
        for (index, own), copied in zip(request.fetchable.items(), some, strict=True):
            step, name = steps[index], f"constants of {index}"
            times = 1 if copied else own.passes
            more += times * own.bytes * request.constants_cost
            if copied:
                live = Span(step, step + 1)
                buffers.append(
                    Buffer(name, BufferKind.FETCHED, own.bytes, live, request.regions, BLOCK_ALIGN)
                )
                read[name, step] = Bytes(own.bytes * own.passes, own.bytes)
        yield buffers, read, more


def _split(
    moved: Buffer,
    step: int,
    inside: Sequence[Buffer],
    overlaps: Sequence[Overlap],
    traffic: Mapping[tuple[str, int], Bytes],
) -> tuple[list[Buffer], list[Overlap], dict[tuple[str, int], Bytes]]:
    """The buffers with one in two places: its own name until a step, and another from then on."""
    later = f"{moved.name} moved"

    def at(name: str, when: int) -> str:
        return later if name == moved.name and when >= step else name

    parts = [b for b in inside if b is not moved]
    parts.append(replace(moved, live=Span(moved.live.lo, step)))
    parts.append(replace(moved, name=later, live=Span(step, moved.live.hi)))
    own = [replace(o, output=at(o.output, o.step), input=at(o.input, o.step)) for o in overlaps]
    return parts, own, {(at(name, when), when): count for (name, when), count in traffic.items()}


def _cheapest_homes(
    request: PlanRequest,
    inside: Sequence[Buffer],
    overlaps: Sequence[Overlap],
    traffic: Mapping[tuple[str, int], Bytes],
    work: float,
    best: float,
    copied: Buffer | None = None,
) -> float:
    """The least cost of any choice of regions that can be placed, if that is less than `best`."""
    total: dict[str, Bytes] = {}
    for (name, _), count in traffic.items():
        total[name] = total.get(name, Bytes()) + count
    priced: list[tuple[float, tuple[Region, ...]]] = []
    for homes in product(request.regions, repeat=len(inside)):
        cost = work + sum(total.get(b.name, Bytes()).cost(r) for b, r in zip(inside, homes, strict=True))
        if copied is not None:  # the last two are where it was, and where it is then
            if homes[-2] == homes[-1]:
                continue
            cost += Bytes(read=copied.size).cost(homes[-2]) + Bytes(written=copied.size).cost(homes[-1])
        priced.append((cost, homes))
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
