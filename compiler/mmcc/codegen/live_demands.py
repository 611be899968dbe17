# SPDX-License-Identifier: Apache-2.0
"""Which demands of a group find rows to make: the others need no code.

Where a producer has several readers, all ask for its rows, but what one asks for is often there already, or
would be made next anyway: in a residual x + f(x), f asks for at least the rows of x that the sum does. A
group's schedule has no unknowns, so that is not argued but run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmcc.codegen.row_counts import Demand

FAR = 100  # demands one below the other that are followed to find what is made next


@dataclass(frozen=True, slots=True)
class LiveDemands:
    """Demands that a group's code must have, by reader; drained nodes that have rows left at the end."""

    of: dict[int, tuple[Demand, ...]]
    drained: tuple[int, ...]


@dataclass(slots=True)
class _Run:
    """A group as it runs with some demands: who makes a row, one after the other."""

    demands: Mapping[int, Sequence[Demand]]
    tile: int  # rows a call of the last node
    made: dict[int, int] = field(default_factory=dict[int, int])
    order: list[int] = field(default_factory=list[int])
    live: set[Demand] = field(default_factory=set[Demand])  # found rows to make
    needed: set[Demand] = field(default_factory=set[Demand])  # without them, another row would be made next
    drained: list[int] = field(default_factory=list[int])

    def all(self, last: int, steps: Mapping[int, int], drained: Sequence[int]) -> _Run:
        """Run all of it."""
        self.made = dict.fromkeys(self.demands, 0)
        while self.made[last] < steps[last]:
            self._make(last, self.tile)
        for index in drained:
            if self.made[index] < steps[index]:
                self.drained.append(index)
            while self.made[index] < steps[index]:
                self._make(index, 1)
        return self

    def _make(self, index: int, rows: int) -> None:
        """The next rows of a node, and before them, one at a time, all that it asks for."""
        asking = [index]
        while asking:
            node = asking[-1]
            demand = self._first(node)
            if demand is None:
                asking.pop()
                self.order.append(node)
                self.made[node] += 1 if asking else rows
                continue
            self.live.add(demand)
            if demand not in self.needed and not self._comes_next(demand):
                self.needed.add(demand)
            asking.append(demand.producer)

    def _first(self, node: int, behind: Demand | None = None) -> Demand | None:
        """The first demand of a node's next call that finds rows to make, or the first behind another one."""
        row, asked = self.made[node], self.demands[node]
        begin = 0 if behind is None else 1 + next(k for k, d in enumerate(asked) if d is behind)
        return next((d for d in asked[begin:] if self.made[d.producer] < d.counts[row]), None)

    def _comes_next(self, demand: Demand) -> bool:
        """True if, without a demand, all rows that it asks for would be made next because of another."""
        wanted = demand.counts[self.made[demand.reader]]
        node, behind = demand.reader, demand
        for _ in range(FAR):
            found = self._first(node, behind)
            if found is None:
                return False
            if found.producer == demand.producer:
                return found.counts[self.made[node]] >= wanted
            node, behind = found.producer, None
        return False


def live_demands(
    demands: Mapping[int, tuple[Demand, ...]],
    last: int,
    tile: int,
    steps: Mapping[int, int],
    drained: Sequence[int],
) -> LiveDemands:
    """The fewest demands found with which all rows are made in the same order."""
    full = _Run(demands, tile).all(last, steps, drained)
    kept = _only(demands, full.live)
    while True:
        fewer = _only(kept, full.needed)
        run = _Run(fewer, tile).all(last, steps, drained)
        if run.order != full.order:
            return LiveDemands(kept, tuple(full.drained))
        if fewer == kept:
            return LiveDemands(kept, tuple(full.drained))
        kept, full = fewer, run


def _only(demands: Mapping[int, tuple[Demand, ...]], some: set[Demand]) -> dict[int, tuple[Demand, ...]]:
    return {index: tuple(d for d in asked if d in some) for index, asked in demands.items()}
