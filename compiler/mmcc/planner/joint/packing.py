# SPDX-License-Identifier: Apache-2.0
"""Where a group's results and its own things can be, beside what is alive before it at fixed offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_TRIES = 2_000  # things placed in one packing

Offsets = tuple[int, ...]


class GaveUp(Exception):
    """The work allowed was used up."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a group holds, in units: first what is alive before it, then its results, then its own things.

    `barred[a][b]`: thing b may not start strictly between these two, relative to the start of thing a.
    """

    sizes: Offsets
    steps: Offsets  # starts are multiples of these
    before: int
    results: int
    barred: tuple[tuple[tuple[int, int], ...], ...]


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
    for at in range(0, capacity - group.sizes[k] + 1, group.steps[k]):
        if not any(_meets(group, a, offsets[a], k, at) for a in range(k)):
            yield from results(group, (*offsets, at), capacity)


def packed(group: Group, offsets: Offsets, capacity: int) -> Offsets | None:
    """Offsets of a group's own things beside the others, if there is room.

    Two of these are apart or do not meet at all. So if there is room, each can start as low as those
    allow that start below it: taking them in all orders, each as low as it can be, misses nothing.
    """
    first, count = len(offsets), len(group.sizes)
    at = [*offsets, *([-1] * (count - first))]
    alike = {k: _alike(group, k, first) for k in range(first, count)}
    tries = 0

    def rest(waiting: tuple[int, ...]) -> bool:
        nonlocal tries
        tried: set[tuple[object, ...]] = set()
        for k in waiting:
            tries += 1
            if tries > MOST_TRIES:
                raise GaveUp
            start = _lowest(group, at, k)
            if start + group.sizes[k] > capacity:
                return False  # nor is there room beside more
            if alike[k] in tried:
                continue
            tried.add(alike[k])
            at[k] = start
            if len(waiting) == 1 or rest(tuple(j for j in waiting if j != k)):
                return True
            at[k] = -1
        return not waiting

    waiting = sorted(range(first, count), key=lambda k: (-group.sizes[k], k))
    return tuple(at) if rest(tuple(waiting)) else None


def _meets(group: Group, a: int, at: int, b: int, start: int) -> bool:
    """True if thing b may not start at `start` with thing a at `at`."""
    low, high = group.barred[a][b]
    return low < start - at < high


def _lowest(group: Group, at: Sequence[int], k: int) -> int:
    """The lowest start of a thing beside those that have one."""
    barred = sorted(
        (start + group.barred[a][k][0], start + group.barred[a][k][1])
        for a, start in enumerate(at)
        if start >= 0 and a != k
    )
    lowest, step = 0, group.steps[k]
    for low, high in barred:
        if low < lowest < high:
            lowest = -(-high // step) * step
    return lowest


def _alike(group: Group, k: int, first: int) -> tuple[object, ...]:
    """The same for things of a group's own of which one may be taken for the other."""
    apart = ((j, (-group.sizes[j], group.sizes[k])) for j in range(first, len(group.sizes)) if j != k)
    special = frozenset((j, group.barred[k][j]) for j, usual in apart if group.barred[k][j] != usual)
    fixed = tuple(group.barred[a][k] for a in range(first))
    return group.sizes[k], group.steps[k], fixed, special
