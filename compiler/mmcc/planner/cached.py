# SPDX-License-Identifier: Apache-2.0
"""Groups where none are needed: they cost less where a target's caches do not hold whole tensors.

Groups are runs of the order that every node alone is best in. What a group costs depends on its nodes only,
so the cheapest way to cut the order is found exactly, in one pass. Groups that need more bytes than there may
be are left out, and it is cut again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.paths import Path
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import LayoutChoice
from mmcc.planner.memory.placement import place
from mmcc.planner.request import PlanRequest

WORTH = 0.01  # of the predicted cost: what saves less is not done, since predictions are no better
GROUPS_WORTH = 0.05  # of groups: on a machine other than the fitted one, 3 to 4 % predicted was a loss
LONGEST = 24  # kernels of a group
EFFORT = 0.1  # of the effort for exact placement


def in_caches(graph: Graph, request: PlanRequest, choice: LayoutChoice, alone: Plan) -> Plan | None:
    """A plan with groups that costs less than `alone`, every node alone, and needs no more bytes than it or
    than the limit; None if there is none that is worth it."""
    least = request.fuse and request.limit is None
    elsewhere = request.staging is not None or request.by_region or bool(graph.states)
    if not request.caches or least or elsewhere or request.rough or request.threads > 1:
        return None
    most = request.peak(alone) if request.limit is None else request.limit
    asked = replace(request, fuse=True, limit=most, recompute=1.0)
    order = choice.ordering.order
    space = Space(graph, choice.layout, choice.model, order, asked)
    single = [_group(order, k, k + 1) for k in range(len(order))]
    before, beyond = sum(map(space.cost, single)), sum(map(space.avoidable, single))
    if beyond <= GROUPS_WORTH * before:
        return None
    path = _fitting(space, order, most)
    if sum(map(space.cost, path)) >= (1 - GROUPS_WORTH) * before:
        return None
    builder = Builder(space, path)
    buffers, overlaps = builder.buffers()
    inside = [b for b in buffers if b.regions == request.regions]
    request.say(f"{len(path)} groups for the caches; placing {len(inside)} buffers")
    placement = place(inside, overlaps, effort=request.effort * EFFORT, seed=request.seed)
    if placement.peak > most:
        return None
    found = builder.plan(Placed(path, buffers, overlaps, placement), trivial_bound(graph, request))
    return replace(found, over_groups=True, for_caches=True)


def _fitting(space: Space, order: Sequence[int], most: int) -> Path:
    """The cheapest cut whose groups of several kernels need at most `most` bytes, as far as bounds tell."""
    too_large: set[Candidate] = set()
    while True:
        path = cheapest_cut(space, order, too_large)
        found = {c for c in path if _several(c) and space.figures.tight(c.before, c.after, c.last) > most}
        if not found:
            return path
        too_large |= found


def cheapest_cut(space: Space, order: Sequence[int], without: Collection[Candidate] = ()) -> Path:
    """The path of least cost whose groups are runs of an order, none of those in `without`."""
    best: list[tuple[float, Path]] = [(0.0, ())]
    for end in range(1, len(order) + 1):
        costs: list[tuple[float, int, Candidate]] = []
        for begin in range(end - 1, max(-1, end - 1 - LONGEST), -1):
            group = _group(order, begin, end)
            if space.allowed(group.after & ~group.before, group.last) and group not in without:
                costs.append((best[begin][0] + space.cost(group), -begin, group))
        cost, begin, group = min(costs, key=lambda each: each[:2])
        best.append((cost, (*best[-begin][1], group)))
    return best[-1][1]


def _group(order: Sequence[int], begin: int, end: int) -> Candidate:
    """The kernels at [begin, end) of an order."""
    before = sum(1 << k for k in order[:begin])
    return Candidate(before, before | sum(1 << k for k in order[begin:end]), order[end - 1], 0)


def _several(group: Candidate) -> bool:
    return (group.after & ~group.before).bit_count() > 1
