# SPDX-License-Identifier: Apache-2.0
"""Sets of kernels that can be done when others are not: between these lie the groups of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from mmcc.planner.memory.allocations import MemoryModel, bits

MOST_SETS = 1_500  # above, only the beginnings of one order


def sets_of(model: MemoryModel, order: tuple[int, ...]) -> tuple[bool, tuple[int, ...]]:
    """The sets as masks, smallest first; True if these are all, else they are the beginnings of the order."""
    every = every_set(tuple(kernel.before for kernel in model.kernels))
    if every is not None:
        return True, every
    prefixes = [0]
    for kernel in order:
        prefixes.append(prefixes[-1] | 1 << kernel)
    return False, tuple(prefixes)


@lru_cache(maxsize=256)  # many layouts of a graph have these sets in common
def every_set(before: tuple[int, ...]) -> tuple[int, ...] | None:
    """Sets of kernels that can be done when others are not, smallest first; None if they are too many.

    `before` is for each kernel the set of those that must have run.
    """
    found, level = [0], [0]
    while level:
        following = dict[int, None]()
        for done in level:
            for k, needed in enumerate(before):
                if not done >> k & 1 and not needed & ~done:
                    following[done | 1 << k] = None
        level = list(following)
        found += level
        if len(found) > MOST_SETS:
            return None
    return tuple(found)


def with_all_before(order: Sequence[int], before: Sequence[int]) -> list[int]:
    """For each kernel, a mask of it and all that come before it, through any number of others.

    `before` are those that come directly before each; in the order they come first.
    """
    found = [1 << k for k in range(len(before))]
    for k in order:
        for b in bits(before[k]):
            found[k] |= found[b]
    return found
