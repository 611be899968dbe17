# SPDX-License-Identifier: Apache-2.0
"""Kernels that leave a few bytes only, which a search runs as soon as they can run.

A model that finds its scales while it runs (DynamicQuantizeLinear) has chains of ten and more such kernels
beside each of its layers, and which of them run in which group is of no use but for these few bytes. Each
chain begins with the least and the greatest element of a large tensor, which leave a few bytes, too.

Take any plan, and a kernel of these that could have run earlier, alone. If the few bytes are not counted,
that is no worse: all that the kernel reads is there, so it demands no rows of others, and it holds nothing
else. Rows of others are made in the same order as before, what it reads is needed no longer than it was, and
each group needs as much or less. So of all sets of finished kernels only those are looked at in which no such
kernel waits; and what is compared, and is a bound, is what a group needs less these bytes. A kernel is no
dearer in a group of its own, but for caches, and for copies to slow memory that it could run beside.

Where offsets are looked for, too, these bytes are in the way of others. In any plan the tensors of these
kernels may lie above all others instead; so what no path that is looked at can be placed within, no plan can
within all of these bytes less.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from mmcc.planner.memory.allocations import MemoryModel, bits
from mmcc.planner.memory.mask_sums import MaskSums

FEW_BYTES = 16  # of each tensor that such a kernel writes
NEAR = 0.01  # above the bound, where these keep that from being exact: so small a gap is left as it is
MANY = 12  # that read no more either: where they are fewer, all groups are looked at, and bounds are exact


class Scalars:
    """Those kernels of a graph under one layout; none where they are not many."""

    def __init__(
        self, model: MemoryModel, touched: Callable[[int, int], int], alive: Callable[[int], int]
    ) -> None:
        """Allocations as masks: those `touched` by a group of kernels with a last one, and those `alive` when
        some kernels have run."""
        self._model, self._touched, self._alive = model, touched, alive
        few = sum(1 << a for a, allocation in enumerate(model.allocations) if allocation.bytes <= FEW_BYTES)
        within = [k for k, kernel in enumerate(model.kernels) if not kernel.scratch]
        many = sum(all(few >> a & 1 for a in model.kernels[k].allocations) for k in within) >= MANY
        leaving = [k for k in within if many and all(few >> a & 1 for a in model.kernels[k].outputs)]
        self.kernels = sum(1 << k for k in leaving)
        self.allocations = 0  # as a mask
        for k in leaving:
            self.allocations |= sum(1 << a for a in model.kernels[k].allocations) & few
        self._sums = MaskSums([allocation.size for allocation in model.allocations])
        self.bytes = self._sums(self.allocations)

    def none(self) -> Scalars:
        """As if no kernel were one of these."""
        made = copy(self)
        made.kernels = made.allocations = made.bytes = 0
        return made

    def ready(self, done: int) -> int | None:
        """One that can run after a set of kernels, if there is one."""
        for k in bits(self.kernels & ~done):
            if not self._model.kernels[k].before & ~done:
                return k
        return None

    def beside(self, before: int, after: int, last: int) -> int:
        """The bytes that are not counted of a group, between the kernels done before it and after it."""
        held = self._alive(before) | self._alive(after) | self._touched(after & ~before, last)
        return self._sums(held & self.allocations)
