# SPDX-License-Identifier: Apache-2.0
"""From a route to offsets and the plan: each region is placed on its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.plan import Buffer, Group, Overlap, Plan
from mmcc.ir.regions import Place, Region
from mmcc.planner.fusion.build import Builder, Placed, used_overlaps
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.regions.fetching import Fetching, beside, fetchings, offsets_in_weights, weights_of
from mmcc.planner.regions.routes import Route
from mmcc.planner.regions.stays import Moved, Stays, in_lines
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Spread:
    """A route with its buffers placed; `peaks` are the bytes that it takes of each region.

    It costs more than the route where there was no place for constants that are to be copied: they are read
    where they are.
    """

    route: Route
    plan: Plan
    peaks: tuple[int, ...]
    cost: float

    def within(self, room: Sequence[float]) -> bool:
        """True if each region has room for what is there."""
        return all(peak <= there for peak, there in zip(self.peaks, room, strict=True))


@dataclass(frozen=True, slots=True)
class _Things:
    """Buffers of a route, where each is first, and how they are moved."""

    buffers: tuple[Buffer, ...]
    homes: dict[str, Region]
    moves: tuple[Moved, ...]

    def stays(self, some: Sequence[Fetching], weights: Region) -> Stays:
        """All of these, and constants that are fetched."""
        homes = self.homes | {f.buffer.name: weights for f in some}
        moves = [*self.moves, *(f.move for f in some)]
        return Stays((*self.buffers, *(f.buffer for f in some)), homes, moves)


def spread(space: Space, route: Route, request: PlanRequest, room: Sequence[float], effort: float) -> Spread:
    """The plan of a route, within the room of each region if that can be done."""
    builder = Builder(space, route.path)
    buffers, overlaps = builder.buffers()
    homes, moves = _homes(space, builder, route, request.regions), tuple(_moves(space, route, request))
    things = _Things(in_lines(buffers, homes, moves), homes, moves)
    fetched = fetchings(route.fetched, buffers, request)
    stays = things.stays(fetched, weights_of(request))
    offsets, same = _offsets(stays, overlaps, request, room, effort)
    cost = route.cost
    if fetched and any(p > there for p, there in zip(_peaks(stays, offsets, request), room, strict=True)):
        bare = things.stays((), weights_of(request))
        offsets, same = _offsets(bare, overlaps, request, room, effort)
        places = beside(fetched, bare, offsets, room)
        cost += sum(f.saved for f in fetched if f.buffer.name not in places)
        fetched = [f for f in fetched if f.buffer.name in places]
        stays = things.stays(fetched, weights_of(request))
        offsets |= {stays.at(f.buffer.name, f.step): places[f.buffer.name] for f in fetched}
    peaks = _peaks(stays, offsets, request)
    offsets |= offsets_in_weights(fetched)
    used = stays.of_buffers(used_overlaps(same, stays.buffers, offsets))
    every = (*things.buffers, *(f.buffer for f in fetched))
    homes = {b.name: stays.homes[b.name] for b in every if b.name in stays.homes}
    own = {b.name for b in every}
    moved = tuple(
        (b, Place(stays.homes[b.name], offsets[b.name])) for b in stays.buffers if b.name not in own
    )
    plan = builder.plan(Placed(route.path, every, (), Placement(offsets, max(peaks), 0), homes, moved), 0)
    backward = {o.step for o in used if o.backward is not None}
    groups = tuple(
        replace(group, backward=_backward(group, request, chosen=step in backward))
        for step, group in enumerate(plan.groups)
    )
    own = {f.fetch.node: f.buffer.name for f in fetched}
    plan = replace(plan, groups=groups, overlaps=used, transfers=stays.transfers(offsets), fetched=own)
    return Spread(route, plan, peaks, cost)


def _backward(group: Group, request: PlanRequest, *, chosen: bool) -> bool:
    """Whether the rows of a group are made backward: that saves bytes, or its node knows no other way."""
    return len(group.nodes) == 1 and (chosen or request.runs_backward(group.nodes[0]))


def _offsets(
    stays: Stays, overlaps: Sequence[Overlap], request: PlanRequest, room: Sequence[float], effort: float
) -> tuple[dict[str, int], list[Overlap]]:
    """Offsets in each region of what is there, and the overlaps of things in one region."""
    same = stays.overlaps(overlaps)
    offsets: dict[str, int] = {}
    for region, there in zip(request.regions, room, strict=True):
        inside = [b for b in stays.buffers if stays.homes.get(b.name) == region]
        offsets |= _placed(inside, same, region, there, request, effort).offsets
    return offsets, same


def _peaks(stays: Stays, offsets: Mapping[str, int], request: PlanRequest) -> tuple[int, ...]:
    """Bytes that are taken of each region."""
    size = {b.name: b.size for b in stays.buffers}
    ends = [(stays.homes[name], at + size[name]) for name, at in offsets.items()]
    return tuple(max((end for home, end in ends if home == region), default=0) for region in request.regions)


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
