# SPDX-License-Identifier: Apache-2.0
"""Buffers for constants that are copied to a region for a step: placed with all others, or beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.nest import Span
from mmcc.ir.plan import BLOCK_ALIGN, Buffer, BufferKind
from mmcc.ir.regions import WEIGHTS, Region
from mmcc.planner.regions.fetches import Fetch
from mmcc.planner.regions.stays import Moved, Stays
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Fetching:
    """Constants with a buffer; `region` is a number, `step` that before which they are copied."""

    fetch: Fetch
    buffer: Buffer
    region: int
    step: int
    target: Region

    @property
    def move(self) -> Moved:
        """The copy: it blocks."""
        return Moved(self.buffer.name, self.target, self.step, self.step)

    @property
    def saved(self) -> float:
        """How much less it costs than to read them where they are."""
        return self.fetch.extra[-1] - self.fetch.extra[self.region]


def fetchings(
    fetched: Sequence[Mapping[Fetch, int]], buffers: Sequence[Buffer], request: PlanRequest
) -> list[Fetching]:
    """A buffer for each of the constants that are fetched, by node; `buffers` have their names already."""
    taken = {b.name for b in buffers}
    found: list[Fetching] = []
    for step, some in enumerate(fetched):
        for fetch, region in some.items():
            name = f"constants{fetch.node}"
            while name in taken:
                name += "_"
            regions = (*request.regions, weights_of(request))
            live = Span(step, step + 1)
            buffer = Buffer(name, BufferKind.FETCHED, fetch.size, live, regions, BLOCK_ALIGN)
            found.append(Fetching(fetch, buffer, region, step, request.regions[region]))
    return sorted(found, key=lambda f: f.fetch.node)


def weights_of(request: PlanRequest) -> Region:
    """Where the linker puts constants, with what a byte costs there."""
    return replace(WEIGHTS, read_cost=request.constants_cost)


def offsets_in_weights(some: Sequence[Fetching]) -> dict[str, int]:
    """Where each buffer's constants are among the weights: one behind the other, by node."""
    found: dict[str, int] = {}
    end = 0
    for each in some:
        found[each.buffer.name] = end
        end += each.buffer.size
    return found


def beside(
    some: Sequence[Fetching], stays: Stays, offsets: Mapping[str, int], room: Sequence[float]
) -> dict[str, int]:
    """Offsets for those that fit beside all that is placed: what saves most a byte first."""
    own = {b.name: b for b in stays.buffers}
    found: dict[str, int] = {}
    for each in sorted(some, key=lambda f: -f.saved / f.fetch.size):
        taken = [
            (at, at + own[name].size)
            for name, at in offsets.items()
            if stays.homes[name] == each.target and own[name].live.lo <= each.step < own[name].live.hi
        ]
        taken += [
            (found[other.buffer.name], found[other.buffer.name] + other.buffer.size)
            for other in some
            if other.buffer.name in found and (other.step, other.region) == (each.step, each.region)
        ]
        at = _gap(taken, each.buffer.size, room[each.region])
        if at is not None:
            found[each.buffer.name] = at
    return found


def _gap(taken: Sequence[tuple[int, int]], size: int, room: float) -> int | None:
    """The lowest offset at which so many bytes are free."""
    at = 0
    for begin, end in (*sorted(taken), (None, 0)):
        if at + size <= (room if begin is None else begin):
            return at
        at = -(-max(at, end) // BLOCK_ALIGN) * BLOCK_ALIGN
    return None
