# SPDX-License-Identifier: Apache-2.0
"""What all groups of a graph under one layout have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mmcc.planner.fusion.rows import Rows
from mmcc.planner.memory.allocations import MemoryModel, bits
from mmcc.planner.memory.mask_sums import MaskSums
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True)
class Shared:
    """The allocations and kernels, the rows that kernels read and write, and what was asked for."""

    model: MemoryModel
    rows: Rows
    request: PlanRequest
    merges: dict[int, int]  # an allocation that may lie in the output of the one kernel that reads it

    def calls_alone(self, kernel: int) -> int:
        """Calls of a kernel alone: one, or one for each row if it can only go from the last to the first."""
        only = self.request.runs_backward(self.model.kernels[kernel].node)
        return self.rows.alone[kernel].steps if only else 1

    def bytes(self, mask: int) -> int:
        """Bytes of a set of allocations."""
        return self._bytes(mask)

    @cached_property
    def _bytes(self) -> MaskSums:
        return MaskSums([allocation.size for allocation in self.model.allocations])


def mergeable(model: MemoryModel, rows: Rows) -> dict[int, int]:
    """Allocations that their only reader reads element by element, so that it may write over them.

    Of several operands of one kernel it is the one made last.
    """
    found: dict[int, int] = {}
    taken: dict[int, int] = {}
    for reader, kernel in enumerate(rows.kernels):
        for read in kernel.reads:
            operand = model.allocations[read.allocation]
            own = [w for w in bits(operand.writers) if w != reader]
            alone = len(own) == 1 and operand.users == operand.writers | 1 << reader
            if not read.elementwise or not alone or operand.from_start or operand.to_end or operand.external:
                continue
            if model.allocations[kernel_allocation(model, reader)].external:
                continue  # the caller's, or in no memory at all
            if rows.kernels[own[0]].steps != kernel.steps or rows.allocations[read.allocation].members > 1:
                continue
            if taken.get(reader, -1) < own[0]:
                found = {r: c for r, c in found.items() if c != reader} | {read.allocation: reader}
                taken[reader] = own[0]
    return found


def kernel_allocation(model: MemoryModel, kernel: int) -> int:
    """The allocation that a kernel writes."""
    return model.kernels[kernel].output
