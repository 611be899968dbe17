# SPDX-License-Identifier: Apache-2.0
"""Plans by trying all: layouts, orders, groups with one row an iteration, placements. For tiny graphs only.

Shares no code with the planner: views are arrays of element addresses from the ops' own references, rows come
from Nests, distances from the calls of a group one by one, and placements from branching on which of two
things is lower. `plan_within` says whether a plan exists that needs no more than so many bytes, and costs
less than so much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf
from typing import Any

from brute_group import FREE, Group, Thing, group_of
from brute_laid import Known, Laid, bits
from brute_layouts import Rules, TooMany, layouts
from mmcc.ir.graph import Graph

# by node, what it costs in one call, and in a call for each row: in a group of several, or with rows backward
Costs = Mapping[int, tuple[float, float]]

MOST_TRIED = 20_000  # branches of one graph's placements; beyond it gives up


class Placer:
    """Are there offsets within a capacity? Branches on which of two things that collide is lower."""

    def __init__(self) -> None:
        self.tried = 0

    def fits(
        self, things: Sequence[Thing], apart: Mapping[tuple[int, int], tuple[int, int]], capacity: int
    ) -> bool:
        """`apart[a, b]` is how far b must start above a, or else a above b."""
        if any(t.size > capacity for t in things):
            return False
        return self._settle([0] * len(things), [], things, apart, capacity)

    def _settle(
        self,
        at: list[int],
        fixed: list[tuple[int, int, int]],
        things: Sequence[Thing],
        apart: Mapping[tuple[int, int], tuple[int, int]],
        capacity: int,
    ) -> bool:
        self.tried += 1
        if self.tried > MOST_TRIED:
            raise TooMany
        for (a, b), (up, down) in apart.items():
            if at[b] - at[a] >= up or at[a] - at[b] >= down:
                continue
            for rule in ((a, b, up), (b, a, down)):
                rules = [*fixed, rule]
                pushed = self._pushed(list(at), rules, things, capacity)
                if pushed is not None and self._settle(pushed, rules, things, apart, capacity):
                    return True
            return False
        return True

    def _pushed(
        self, at: list[int], rules: Sequence[tuple[int, int, int]], things: Sequence[Thing], capacity: int
    ) -> list[int] | None:
        changed = True
        while changed:
            changed = False
            for low, high, distance in rules:
                least = at[low] + distance
                if at[high] < least:
                    align = things[high].align
                    at[high] = -(-least // align) * align
                    if at[high] + things[high].size > capacity:
                        return None
                    changed = True
        return at


class _Search:
    """Every path of groups of one layout, with every placement."""

    def __init__(self, laid: Laid, placer: Placer, costs: Costs) -> None:
        self._laid, self._placer, self._costs = laid, placer, costs
        self._local: dict[tuple[int, int, int, int, bool], Group | None] = {}

    def within(self, capacity: int, most_cost: float) -> bool:
        """True if some plan of this layout needs no more, and costs less."""
        return self._from(0, [], capacity, most_cost)

    def _from(self, done: int, path: list[Group], capacity: int, most_cost: float) -> bool:
        if done == self._laid.all:
            return self._placed(path, capacity)
        for mask, last in self._laid.groups(done):
            for backward in self._directions(mask):
                left = most_cost - self._cost(mask, backward=backward)
                group = self._possible(done, mask, last, capacity, backward=backward) if left > 0 else None
                if group is not None and self._from(done | mask, [*path, group], capacity, left):
                    return True
        return False

    def _directions(self, mask: int) -> tuple[bool, ...]:
        """Whether a kernel alone may make its rows backward: where that costs more, without it, too."""
        return (False, True) if self._costs and mask.bit_count() == 1 else (True,)

    def _cost(self, mask: int, *, backward: bool) -> float:
        nodes = [self._laid.kernels[k].node for k in bits(mask)] if self._costs else []
        return sum(self._costs[node][backward or len(nodes) > 1] for node in nodes)

    def _possible(self, done: int, mask: int, last: int, capacity: int, *, backward: bool) -> Group | None:
        """A group, if it can be placed alone."""
        key = (done, mask, last, capacity, backward)
        if key not in self._local:
            group = group_of(self._laid, done, mask, last, backward=backward)
            self._local[key] = group if self._placed([group], capacity) else None
        return self._local[key]

    def _placed(self, path: Sequence[Group], capacity: int) -> bool:
        things: dict[Any, Thing] = {}
        apart: dict[tuple[Any, Any], tuple[int, int]] = {}
        for step, group in enumerate(path):
            here = [(t.key if t.key in self._laid.allocations else (step, t.key[1]), t) for t in group.things]
            for (a, one), (b, other) in combinations(here, 2):
                up, down = group.apart(one.key, other.key)
                a_b = (a, b) if (b, a) not in apart else (b, a)
                up, down = (up, down) if a_b == (a, b) else (down, up)
                old = apart.get(a_b, (FREE, FREE))
                apart[a_b] = max(up, old[0]), max(down, old[1])
            things |= dict(here)
        if not path:
            for allocation in self._laid.alive(0):
                things[allocation] = Thing(
                    allocation, self._laid.size(allocation), self._laid.align(allocation)
                )
            for a, b in combinations(list(things), 2):
                apart[a, b] = things[a].size, things[b].size
        number = {key: k for k, key in enumerate(things)}
        pairs = {(number[a], number[b]): d for (a, b), d in apart.items()}
        return self._placer.fits(list(things.values()), pairs, capacity)


def plan_within(
    graph: Graph, rules: Rules, capacity: int, costs: Costs | None = None, most_cost: float = inf
) -> bool:
    """True if some plan needs no more than `capacity` bytes, and costs less than `most_cost`. Raises TooMany
    where that takes too long."""
    placer = Placer()
    if capacity < 0:
        return False
    known: Known = {}, {}
    return any(
        _Search(Laid(graph, lies, rules, known), placer, costs or {}).within(capacity, most_cost)
        for lies in layouts(graph, rules)
    )
