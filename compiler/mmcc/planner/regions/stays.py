# SPDX-License-Identifier: Apache-2.0
"""Buffers that are moved, as what is placed: one thing for each region that a buffer is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, Overlap, Transfer
from mmcc.ir.regions import Move, Place, Region


@dataclass(frozen=True, slots=True)
class Moved:
    """A buffer goes to another region: before step `start`, complete before step `wait`."""

    buffer: str
    target: Region
    start: int
    wait: int


def in_lines(
    buffers: Sequence[Buffer], homes: Mapping[str, Region], moves: Sequence[Moved]
) -> tuple[Buffer, ...]:
    """The buffers; those that are moved in the background begin and end where lines of the caches do.

    A line that a DMA writes and the processor has changed loses what one of them wrote.
    """
    found: list[Buffer] = []
    for b in buffers:
        own = [move for move in moves if move.buffer == b.name]
        line = 0
        if any(move.start < move.wait for move in own):
            line = max(region.cache_line for region in (homes[b.name], *(move.target for move in own)))
        found.append(replace(b, size=-(-b.size // line) * line, align=max(b.align, line)) if line else b)
    return tuple(found)


class Stays:
    """All buffers of a plan, each in one region from step to step, and what may share bytes."""

    def __init__(
        self, buffers: Sequence[Buffer], homes: Mapping[str, Region], moves: Sequence[Moved]
    ) -> None:
        """`homes` are the regions in which buffers are first."""
        self._moves = moves
        self.homes = dict(homes)
        self.buffers: list[Buffer] = []
        self._names: dict[str, list[str]] = {}
        taken = {b.name for b in buffers}
        for b in buffers:
            lo, found = b.live.lo, [b.name]
            for move in (m for m in moves if m.buffer == b.name):
                self.buffers.append(replace(b, name=found[-1], live=Span(lo, move.wait)))
                name = f"{b.name}@{len(found)}"
                while name in taken:
                    name += "_"
                taken.add(name)
                found.append(name)
                self.homes[name] = move.target
                lo = move.start
            self.buffers.append(replace(b, name=found[-1], live=Span(lo, b.live.hi)))
            self._names[b.name] = found

    def at(self, buffer: str, step: int) -> str:
        """The thing that the nodes of a step find a buffer as."""
        done = sum(move.buffer == buffer and move.wait <= step for move in self._moves)
        return self._names[buffer][done]

    def overlaps(self, overlaps: Sequence[Overlap]) -> list[Overlap]:
        """Those of things in one region, by the names of things."""
        named = (
            replace(o, output=self.at(o.output, o.step), input=self.at(o.input, o.step)) for o in overlaps
        )
        return [o for o in named if self.homes.get(o.output) == self.homes.get(o.input)]

    def of_buffers(self, overlaps: Sequence[Overlap]) -> tuple[Overlap, ...]:
        """The same by the names of buffers."""
        buffer = {name: first for first, names in self._names.items() for name in names}
        return tuple(replace(o, output=buffer[o.output], input=buffer[o.input]) for o in overlaps)

    def transfers(self, offsets: Mapping[str, int]) -> tuple[Transfer, ...]:
        """The moves with their places, in the order in which they start."""
        found: list[Transfer] = []
        for move in sorted(self._moves, key=lambda m: m.start):
            names = self._names[move.buffer]
            n = sum(t.move.buffer == move.buffer for t in found)
            source, target = (Place(self.homes[name], offsets[name]) for name in names[n : n + 2])
            how = Move(move.buffer, source, target, asynchronous=move.start < move.wait)
            found.append(Transfer(how, move.start, move.wait))
        return tuple(found)
