# SPDX-License-Identifier: Apache-2.0
"""What all groups of a graph under one layout have in common."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.planner.fusion.rows import Rows
from mmcc.planner.memory.allocations import MemoryModel, bits
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Shared:
    """The roots and units, the rows that units read and write, and what was asked for."""

    model: MemoryModel
    rows: Rows
    request: PlanRequest
    merges: dict[int, int]  # a root that may lie in the output of the one unit that reads it

    def bytes(self, mask: int) -> int:
        """Bytes of a set of roots."""
        return sum(self.model.roots[root].size for root in bits(mask))

    def alive(self, done: int) -> int:
        """Roots that hold something after the units in `done`."""
        mask = 0
        for k, root in enumerate(self.model.roots):
            begun = root.from_start or root.writers & done
            if begun and (root.to_end or root.users & ~done):
                mask |= 1 << k
        return mask


def mergeable(model: MemoryModel, rows: Rows) -> dict[int, int]:
    """Roots that their only reader reads element by element, so that it may write over them.

    Of several operands of one unit it is the one made last.
    """
    found: dict[int, int] = {}
    taken: dict[int, int] = {}
    for reader, unit in enumerate(rows.units):
        for read in unit.reads:
            root = model.roots[read.root]
            own = [w for w in bits(root.writers) if w != reader]
            alone = len(own) == 1 and root.users == root.writers | 1 << reader
            if not read.elementwise or not alone or root.from_start or root.to_end or root.external:
                continue
            if model.roots[unit_root(model, reader)].external:
                continue  # the caller's, or in no memory at all
            if rows.units[own[0]].steps != unit.steps or rows.roots[read.root].members > 1:
                continue
            if taken.get(reader, -1) < own[0]:
                found = {r: c for r, c in found.items() if c != reader} | {read.root: reader}
                taken[reader] = own[0]
    return found


def unit_root(model: MemoryModel, unit: int) -> int:
    """The root that a unit writes."""
    return model.units[unit].output
