# SPDX-License-Identifier: Apache-2.0
"""Groups within some bytes, from the empty set of finished kernels on.

A graph falls apart where few tensors are alive: from a set of finished kernels only some groups are small
enough, and these lead to few sets. Others are not looked at, so there may be any number of them.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.group_timelines import WINDOW
from mmcc.planner.fusion.sets import with_all_before
from mmcc.planner.fusion.space import Space

MOST_LISTED = 4_000  # groups that are listed, but for those that are equal to others
EQUAL = 1 / 16  # of the work that a group takes which is equal to none


class Growth:
    """What may run next after a set of kernels, as far as rings are within a limit."""

    def __init__(self, space: Space, limit: int) -> None:
        self._space, self._limit = space, limit
        self._all = space.all
        self._feeds = with_all_before(space.order, [kernel.before for kernel in space.model.kernels])
        self._long: list[list[int]] = [[] for _ in self._feeds]
        self._short: list[list[int]] = [[] for _ in self._feeds]

    def following(self, done: int) -> list[tuple[int, int]]:
        """Groups that are not known to be too long: how many kernels, and the last one."""
        left, long = self._all & ~done, self._long
        found: list[tuple[int, int]] = []
        for last, feeds in enumerate(self._feeds):
            if long[last] and not long[last][0] & done:
                continue  # the set has none of the kernels of which the group must not have all
            members = feeds & left
            if members:
                found.append((members.bit_count(), last))
        return found

    def members(self, done: int, last: int) -> int:
        """The kernels of the group after a set that ends in kernel `last`: all that must run before it."""
        return self._feeds[last] & ~done

    def known_too_long(self, members: int, last: int) -> bool:
        """True if a group holds one that is too long."""
        return any(not long & ~members for long in self._long[last])

    def too_long(self, after: int, members: int, last: int) -> bool:
        """True if the rings of a group need too much: a longer one that ends there holds these too."""
        if any(not members & ~longer for longer in self._short[last]):
            return False
        size = WINDOW
        while True:
            near = self._space.timelines.nearest(last, members, size)
            inner = self._space.figures.inner(near, after, last)
            if inner > self._limit + self._space.scalars.bytes:
                self._long[last].append(near)
                return True
            if near == members:
                self._short[last].append(members)
                return False
            size *= 2


def list_groups(space: Space, limit: int) -> list[Candidate] | None:
    """The groups within a limit after sets that such groups lead to, smallest sets first; None if they are
    too many.

    A group that may be cut into column strips is one of them if what strips cannot make smaller is within.
    Scalars run as soon as they can (`Scalars`).
    """
    figures, growth = space.figures, Growth(space, limit)
    strips = space.request.recompute > 1
    found: list[Candidate] = []
    waiting, seen, work = [(0, 0)], {0}, 0.0
    while waiting:
        _, done = heappop(waiting)
        if (scalar := space.scalars.ready(done)) is not None:
            after = done | 1 << scalar
            found.append(_group(space, done, after, scalar))
            if after not in seen:
                seen.add(after)
                heappush(waiting, (after.bit_count(), after))
            continue
        for _, last in growth.following(done):
            members, known = growth.members(done, last), figures.looked_at
            after = done | members
            if growth.known_too_long(members, last) or not space.allowed(members, last):
                continue
            if space.counted_alive(after, done) > limit:
                continue
            if strips or not growth.too_long(after, members, last):
                group = _group(space, done, after, last)
                if group.floor <= limit:
                    found.append(group)
                    if after not in seen:
                        seen.add(after)
                        heappush(waiting, (after.bit_count(), after))
            work += 1.0 if strips or figures.looked_at > known else EQUAL
            if work > MOST_LISTED * space.request.budget:
                return None
    return found


def _group(space: Space, before: int, after: int, last: int) -> Candidate:
    least, floor = space.figures.least(before, after, last), space.figures.floor(before, after, last)
    return Candidate(before, after, last, least, 1, floor)
