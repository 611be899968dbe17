# SPDX-License-Identifier: Apache-2.0
"""From a route to offsets: each region is placed on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmcc.ir.plan import Buffer, Overlap
from mmcc.ir.regions import Region
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.regions.routes import Route
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Spread:
    """A route with its buffers placed; `peaks` and `bounds` are bytes of each region: those it takes, and
    those that no placement of what is there takes fewer than."""

    route: Route
    placed: Placed
    peaks: tuple[int, ...]
    bounds: tuple[int, ...]

    def within(self, room: Sequence[float]) -> bool:
        """True if each region has room for what is there."""
        return all(peak <= there for peak, there in zip(self.peaks, room, strict=True))


def spread(space: Space, route: Route, request: PlanRequest, room: Sequence[float], effort: float) -> Spread:
    """Offsets for all buffers of a route, within the room of each region if that can be done."""
    builder = Builder(space, route.path)
    buffers, overlaps = builder.buffers()
    homes = homes_of(space, builder, route, request.regions)
    same = tuple(o for o in overlaps if homes.get(o.output) == homes.get(o.input))
    offsets: dict[str, int] = {}
    found: list[Placement] = []
    for region, there in zip(request.regions, room, strict=True):
        inside = [b for b in buffers if homes.get(b.name) == region]
        placement = _placed(inside, same, region, there, request, effort)
        offsets |= placement.offsets
        found.append(placement)
    peaks = tuple(placement.peak for placement in found)
    placed = Placed(route.path, buffers, same, Placement(offsets, max(peaks), 0), homes)
    return Spread(route, placed, peaks, tuple(placement.bound for placement in found))


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


def homes_of(space: Space, builder: Builder, route: Route, regions: Sequence[Region]) -> dict[str, Region]:
    """The region of each buffer by name, of those that are in any."""
    allocations = space.model.allocations
    homes = {allocations[a].name: regions[home] for a, home in route.whole.items()}
    for names, inner in zip(builder.names(), route.inner, strict=True):
        homes |= {names[item]: regions[home] for item, home in inner.items()}
    outside = {a.name for a in allocations if a.external}
    return {name: region for name, region in homes.items() if name not in outside}
