# SPDX-License-Identifier: Apache-2.0
"""From a route to offsets and the plan: each region is placed on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.plan import Buffer, Overlap, Plan
from mmcc.ir.regions import Region
from mmcc.planner.fusion.build import Builder, Placed, used_overlaps
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.regions.routes import Route
from mmcc.planner.regions.stays import Moved, Stays, in_lines
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Spread:
    """A route with its buffers placed; `peaks` are the bytes that it takes of each region."""

    route: Route
    plan: Plan
    peaks: tuple[int, ...]

    def within(self, room: Sequence[float]) -> bool:
        """True if each region has room for what is there."""
        return all(peak <= there for peak, there in zip(self.peaks, room, strict=True))


def spread(space: Space, route: Route, request: PlanRequest, room: Sequence[float], effort: float) -> Spread:
    """The plan of a route, within the room of each region if that can be done."""
    builder = Builder(space, route.path)
    buffers, overlaps = builder.buffers()
    first, moves = _homes(space, builder, route, request.regions), [*_moves(space, route, request)]
    buffers = in_lines(buffers, first, moves)
    stays = Stays(buffers, first, moves)
    same = stays.overlaps(overlaps)
    offsets: dict[str, int] = {}
    peaks: list[int] = []
    for region, there in zip(request.regions, room, strict=True):
        inside = [b for b in stays.buffers if stays.homes.get(b.name) == region]
        placement = _placed(inside, same, region, there, request, effort)
        offsets |= placement.offsets
        peaks.append(placement.peak)
    used = stays.of_buffers(used_overlaps(same, stays.buffers, offsets))
    homes = {b.name: stays.homes[b.name] for b in buffers if b.name in stays.homes}
    plan = builder.plan(Placed(route.path, buffers, (), Placement(offsets, max(peaks), 0), homes), 0)
    backward = {o.step for o in used if o.backward is not None}
    groups = tuple(
        replace(group, backward=len(group.nodes) == 1 and step in backward)
        for step, group in enumerate(plan.groups)
    )
    plan = replace(plan, groups=groups, overlaps=used, transfers=stays.transfers(offsets))
    return Spread(route, plan, tuple(peaks))


def _placed(
    inside: Sequence[Buffer],
    overlaps: Sequence[Overlap],
    region: Region,
    room: float,
    request: PlanRequest,
    effort: float,
) -> Placement:
    """Offsets in one region. Rows are made backward, which takes a call for each, only if need be."""
    names = {b.name for b in inside}
    own = [o for o in overlaps if o.output in names]
    request.say(f"placing {len(inside)} buffers in {region}")
    capacity = int(room) if room < sum(b.size + b.align for b in inside) else None
    best: Placement | None = None
    ways = [[replace(o, backward=None) for o in own]]
    if any(o.backward is not None for o in own):
        ways.append(own)
    for some in ways:
        found = place(
            inside, some, capacity, effort=effort / len(ways), seed=request.seed, progress=request.progress
        )
        if best is None or found.peak < best.peak:
            best = found
        if capacity is None or best.peak <= capacity:
            break
    assert best is not None
    return best


def _homes(space: Space, builder: Builder, route: Route, regions: Sequence[Region]) -> dict[str, Region]:
    """The region in which each buffer is first, of those that are in any."""
    allocations = space.model.allocations
    homes: dict[str, Region] = {}
    for names, whole, inner, shift in zip(
        builder.names(), route.whole, route.inner, route.shifts, strict=True
    ):
        for a, home in whole.items():
            moved = shift is not None and shift.allocation == a and not shift.asynchronous
            if not moved:  # what is moved before it is ever used is where the caller has filled it
                homes.setdefault(allocations[a].name, regions[home])
        homes |= {names[item]: regions[home] for item, home in inner.items()}
    outside = {a.name for a in allocations if a.external}
    return {name: region for name, region in homes.items() if name not in outside}


def _moves(space: Space, route: Route, request: PlanRequest) -> Iterator[Moved]:
    for step, shift in enumerate(route.shifts):
        if shift is not None:
            name = space.model.allocations[shift.allocation].name
            yield Moved(name, request.regions[shift.target], step, step + shift.asynchronous)
