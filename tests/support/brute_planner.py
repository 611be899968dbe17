# SPDX-License-Identifier: Apache-2.0
"""Plans by trying all: layouts, orders, groups with one row an iteration, also in strips, and placements. For
tiny graphs only.

Shares no code with the planner: views are arrays of element addresses from the ops' own references, rows come
from Nests, distances from the calls of a group one by one, and placements from branching on which of two
things is lower. `plan_within` says whether a plan exists that needs no more than so many bytes, and costs
less than so much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Any

from brute_group import FREE, Group, InBlocks, Thing, group_of
from brute_laid import Known, Laid, bits
from brute_layouts import Rules, TooMany, layouts
from brute_strips import Cut, InStrips, cuts, may_be_cut
from mmcc.ir.graph import Graph


@dataclass(frozen=True)
class NodeCosts:
    """What a node costs: for its work, for each row that it makes or takes in, and for each call."""

    work: float
    row: float
    call: float


Costs = Mapping[int, NodeCosts]  # by node
ROUNDING = 1e-9  # of a count of multiplications

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


@dataclass(frozen=True)
class _Way:
    """A group as it may run: what it costs, and its multiplications."""

    group: Group
    cost: float
    macs: float


class _Search:
    """Every path of groups of one layout within so many bytes, with every placement."""

    def __init__(self, laid: Laid, placer: Placer, costs: Costs, capacity: int) -> None:
        self._laid, self._placer, self._costs, self._capacity = laid, placer, costs, capacity
        self._known: dict[tuple[int, int, int], list[_Way]] = {}
        self._macs = [laid.nest(kernel.node).macs for kernel in laid.kernels]

    def finds(self, most_cost: float) -> bool:
        """True if some plan of this layout costs less."""
        nodes = range(len(self._laid.graph.nodes))
        macs = self._laid.rules.recompute * sum(self._laid.nest(index).macs for index in nodes)
        return self._from(0, [], most_cost, macs * (1 + ROUNDING))

    def _from(self, done: int, path: list[Group], most_cost: float, most_macs: float) -> bool:
        if done == self._laid.all:
            return self._placed(path)
        return any(
            self._from(done | mask, [*path, way.group], most_cost - way.cost, most_macs - way.macs)
            for mask, last in self._laid.groups(done)
            for way in self._ways(done, mask, last)
            if way.cost < most_cost and way.macs <= most_macs
        )

    def _ways(self, done: int, mask: int, last: int) -> list[_Way]:
        """How a group may run, as far as it can be placed alone."""
        key = (done, mask, last)
        if key not in self._known:
            every = [
                _Way(group_of(self._laid, *key, backward=backward), *self._prices(mask, None, backward))
                for backward in self._directions(mask)
            ]
            if mask == 1 << last and self._laid.kernels[last].node in self._laid.rules.constants:
                every.append(_Way(InBlocks(every[0].group), *self._prices(mask, None, False)))
            if self._laid.rules.recompute > 1 and may_be_cut(every[0].group, last):
                every += [
                    _Way(InStrips(every[0].group, cut), *self._prices(mask, cut, False))
                    for cut in cuts(self._laid, mask, last)
                ]
            self._known[key] = [way for way in every if self._placed([way.group])]
        return self._known[key]

    def _directions(self, mask: int) -> tuple[bool, ...]:
        """Whether a kernel alone may make its rows backward: where that costs more, without it, too."""
        only = any(mask == 1 << k and last_first for k, last_first in self._laid.ordered.items())
        return (False, True) if self._costs and mask.bit_count() == 1 and not only else (True,)

    def _prices(self, mask: int, cut: Cut | None, backward: bool) -> tuple[float, float]:
        """What a group costs, and its multiplications."""
        laid, several, strips = self._laid, mask.bit_count() > 1, cut.count if cut else 1
        total = macs = 0.0
        for k in bits(mask):
            share = cut.share(k) if cut else 1.0
            macs += self._macs[k] * share
            cost = self._costs.get(laid.kernels[k].node)
            if cost is not None:
                steps = laid.steps(k) if several else laid.height(k)
                calls = steps if several or backward else 1
                total += cost.work * share + (cost.row * steps + cost.call * calls) * strips
        return total, macs

    def _placed(self, path: Sequence[Group]) -> bool:
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
        return self._placer.fits(list(things.values()), pairs, self._capacity)


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
        _Search(Laid(graph, lies, rules, known), placer, costs or {}, capacity).finds(most_cost)
        for lies in layouts(graph, rules)
    )
