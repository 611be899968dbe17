# SPDX-License-Identifier: Apache-2.0
"""The regions of a plan while it is replayed: numbers for bytes, where buffers are, which moves go on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray

from mmcc.ir.plan import Plan, Slot
from mmcc.ir.regions import External, Move, Place, Region

Numbers = NDArray[Any]  # int32 or int64, one for each grain
UNWRITTEN = -1
MOVING = -(2**31)  # what a move writes to while it goes on holds MOVING + its number


def memory_bytes(plan: Plan) -> dict[Region | External, int]:
    """Bytes that the buffers of a plan reach to, by region and caller's memory."""
    ends: dict[Region | External, int] = {}
    stays = plan.stays()
    for b in plan.buffers:
        for place in (stay.place for stay in stays[b.name]):
            ends[place.region] = max(ends.get(place.region, 0), place.offset + b.size)
    return ends


def early_constants(plan: Plan) -> list[tuple[int, int, int]]:
    """Nodes whose constants are on the way before their group runs: since which step, and the group's."""
    live = {b.name: b.live for b in plan.buffers}
    found: dict[str, tuple[int, int, int]] = {}
    for step, group in enumerate(plan.groups):
        for index in group.nodes:
            name = plan.staged[index].buffers[0] if index in plan.staged else ""
            if name and live[name].lo < step:
                found.setdefault(name, (index, live[name].lo, step))
    return list(found.values())


class Memory:
    """All regions, at a grain of `unit` bytes; `wrong` is what went wrong with moves."""

    def __init__(self, plan: Plan, unit: int, kind: DTypeLike) -> None:
        self._plan, self._unit = plan, unit
        self._size = {b.name: b.size // unit for b in plan.buffers}
        sizes = memory_bytes(plan).items()
        self._regions = {region: np.full(n // unit, UNWRITTEN, kind) for region, n in sizes}
        self._place = dict(plan.places)  # where buffers are now
        self._at = {name: self._from(place) for name, place in plan.places.items()}
        self._going: dict[int, Numbers] = {}  # by number of a transfer: its bytes as it started
        self.wrong: list[str] = []

    def behind(self, buffer: str) -> Numbers:
        """Memory from the first byte of a buffer on."""
        return self._at[buffer]

    def place(self, buffer: str) -> Place:
        """Where a buffer is now."""
        return self._place[buffer]

    def of(self, buffer: str) -> Numbers:
        """The bytes of a buffer."""
        return self.behind(buffer)[: self._size[buffer]]

    def window(self, slot: Slot, begin: int, shape: tuple[int, int, int]) -> Numbers:
        """Rows, columns and grains of a tensor in its slot, from so many bytes behind its first on."""
        memory = self.behind(slot.buffer)[(slot.offset + begin) // self._unit :]
        strides = (slot.row_stride, slot.col_stride, self._unit)
        return as_strided(memory, shape, tuple(s // self._unit * memory.itemsize for s in strides))

    def bytes(self, buffer: str) -> int:
        """How long a buffer is."""
        return self._size[buffer] * self._unit

    def move(self, step: int) -> None:
        """Before a step: moves that go on are waited for if they must be, then others start, in their order.

        A move may read and write at any moment from its start to its wait. So nothing of its target is of use
        in between, and what its source was at the start it must still be at the end.
        """
        timed = list(enumerate(self._plan.transfers))
        for number, transfer in timed:
            if transfer.start < step == transfer.wait:
                self._complete(number, transfer.move)
        for number, transfer in timed:
            if transfer.start == step:
                self._going[number] = self._part(transfer.move, transfer.move.source).copy()
                self._part(transfer.move, transfer.move.target)[...] = MOVING + number
                if transfer.wait == step:
                    self._complete(number, transfer.move)

    def _complete(self, number: int, move: Move) -> None:
        moved, target = self._going.pop(number), self._part(move, move.target)
        if (self._part(move, move.source) != moved).any():
            self.wrong.append(f"the source of the move of {move}, changes before it is complete")
        if (target != MOVING + number).any():
            self.wrong.append(f"the target of the move of {move}, is written to before it is complete")
        target[...] = moved
        self._place[move.buffer], self._at[move.buffer] = move.target, self._from(move.target)

    def _part(self, move: Move, place: Place) -> Numbers:
        return self._from(place)[: self._size[move.buffer]]

    def _from(self, place: Place) -> Numbers:
        return self._regions[place.region][place.offset // self._unit :]
