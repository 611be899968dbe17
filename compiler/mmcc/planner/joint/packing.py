# SPDX-License-Identifier: Apache-2.0
"""Where a group's results and its own things can be, beside what is alive before it at fixed offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

MOST_TRIES = 2_000  # things placed in one packing

Offsets = tuple[int, ...]


class GaveUp(Exception):
    """The work allowed was used up."""


@dataclass(frozen=True)
class Group:
    """What a group holds, in units: first what is alive before it, then its results, then its own things.

    `barred[a][b]`: thing b may not start strictly between these two, relative to the start of thing a.
    """

    sizes: Offsets
    steps: Offsets  # starts are multiples of these
    before: int
    results: int
    barred: tuple[tuple[tuple[int, int], ...], ...]

    @cached_property
    def alike(self) -> tuple[tuple[object, ...], ...]:
        """For each thing of the group's own the same, if one may be taken for the other."""
        first = self.before + self.results
        return tuple(self._kind(k, first) for k in range(first, len(self.sizes)))

    def _kind(self, k: int, first: int) -> tuple[object, ...]:
        apart = ((j, (-self.sizes[j], self.sizes[k])) for j in range(first, len(self.sizes)) if j != k)
        special = frozenset((j, self.barred[k][j]) for j, usual in apart if self.barred[k][j] != usual)
        fixed = tuple(self.barred[a][k] for a in range(first))
        return self.sizes[k], self.steps[k], fixed, special


@dataclass(slots=True)
class Work:
    """Packings that may still be looked at."""

    left: int

    def spend(self) -> None:
        """One was looked at."""
        self.left -= 1
        if self.left < 0:
            raise GaveUp


def results(group: Group, offsets: Offsets, capacity: int) -> Iterator[Offsets]:
    """All offsets of a group's results beside what is alive before it."""
    k = len(offsets)
    if k == group.before + group.results:
        yield offsets
        return
    barred, step = _barred(group, offsets, k), group.steps[k]
    at = _lowest(barred, step)
    while at + group.sizes[k] <= capacity:
        yield from results(group, (*offsets, at), capacity)
        at = _lowest(barred, step, at + step)


def packed(group: Group, offsets: Offsets, capacity: int) -> Offsets | None:
    """Offsets of a group's own things beside the others, if there is room.

    Two of these are apart or do not meet at all. So if there is room, each can start as low as those
    allow that start below it: taking them in all orders, each as low as it can be, misses nothing.
    """
    first, count = len(offsets), len(group.sizes)
    at = [*offsets, *([-1] * (count - first))]
    alike = group.alike
    tries = 0

    def rest(waiting: tuple[int, ...]) -> bool:
        nonlocal tries
        tried: set[tuple[object, ...]] = set()
        for k in waiting:
            tries += 1
            if tries > MOST_TRIES:
                raise GaveUp
            start = _lowest(_barred(group, at, k), group.steps[k])
            if start + group.sizes[k] > capacity:
                return False  # nor is there room beside more
            if alike[k - first] in tried:
                continue
            tried.add(alike[k - first])
            at[k] = start
            if len(waiting) == 1 or rest(tuple(j for j in waiting if j != k)):
                return True
            at[k] = -1
        return not waiting

    waiting = sorted(range(first, count), key=lambda k: (-group.sizes[k], k))
    return tuple(at) if rest(tuple(waiting)) else None


def _barred(group: Group, at: Sequence[int], k: int) -> list[tuple[int, int]]:
    """Between what a thing may not start, beside those that have a start."""
    return sorted(
        (start + group.barred[a][k][0], start + group.barred[a][k][1])
        for a, start in enumerate(at)
        if start >= 0 and a != k
    )


def _lowest(barred: Sequence[tuple[int, int]], step: int, start: int = 0) -> int:
    """The lowest start of a thing, from some start on."""
    for low, high in barred:
        if low < start < high:
            start = -(-high // step) * step
    return start
