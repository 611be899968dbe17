# SPDX-License-Identifier: Apache-2.0
"""What is alive after sets of finished kernels, as masks of allocations; of each set found once."""

from __future__ import annotations

from collections.abc import Iterable

from mmcc.planner.memory.allocations import MemoryModel, bits


class Alive:
    """Those of one graph under one layout."""

    def __init__(self, model: MemoryModel) -> None:
        self._allocations = model.allocations
        self._found: dict[int, int] = {}
        self._touched: list[list[int]] = [[] for _ in model.kernels]
        for index, allocation in enumerate(model.allocations):
            for kernel in bits(allocation.users | allocation.writers):
                self._touched[kernel].append(index)

    def after(self, done: int, before: int | None = None) -> int:
        """The allocations that hold something after a set of kernels.

        Only what its further kernels touch differs from what is alive after a set `before` that it goes on
        from: in a wide graph sets are many, and each is a kernel or two more than one that was asked for.
        """
        if done not in self._found:
            if before is None or before not in self._found:
                self._found[done] = self._changed(0, done, range(len(self._allocations)))
            else:
                touched = (index for kernel in bits(done & ~before) for index in self._touched[kernel])
                self._found[done] = self._changed(self._found[before], done, touched)
        return self._found[done]

    def _changed(self, alive: int, done: int, some: Iterable[int]) -> int:
        """A mask with some allocations as they are after a set of kernels."""
        for index in some:
            allocation = self._allocations[index]
            begun = allocation.from_start or allocation.writers & done
            if begun and (allocation.to_end or allocation.users & ~done):
                alive |= 1 << index
            else:
                alive &= ~(1 << index)
        return alive
