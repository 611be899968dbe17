# SPDX-License-Identifier: Apache-2.0
"""Sums over sets that are given as bit masks, eight members at a time."""

from __future__ import annotations

from collections.abc import Sequence

_PART = 8  # members that are looked up together


class MaskSums:
    """The sum of the values of a set's members."""

    def __init__(self, values: Sequence[int]) -> None:
        """`values[k]` is that of member k."""
        self._tables: list[list[int]] = []
        for first in range(0, len(values), _PART):
            table = [0]
            for value in values[first : first + _PART]:
                table += [value + smaller for smaller in table]
            self._tables.append(table)

    def __call__(self, mask: int) -> int:
        total = part = 0
        while mask:
            total += self._tables[part][mask & (1 << _PART) - 1]
            mask >>= _PART
            part += 1
        return total
