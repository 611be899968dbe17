# SPDX-License-Identifier: Apache-2.0
"""Groups and offsets chosen together by dynamic programming, where few tensors are alive between groups.

A *seating* is a state (a set of finished kernels) with an offset for each whole tensor alive then. A group
leads from one seating to others: those in which its results, and everything that only it holds, find room
within a capacity. All seatings of a state are found before those of larger sets. So a seating of the last
state is a plan, and where there is none, there is no plan. Equal blocks of a graph have equal groups: what
one of them can do is worked out once.

Unlike the solver's model this grows with the number of groups only, so it holds for deep graphs. It is of no
use where many tensors are alive between groups: then it gives up.

Offsets are multiples of a unit. With sizes and distances rounded up to units, what is found is a plan. With
all rounded down, nothing is missed: of a plan, offsets rounded down are as far apart, and end as low. So what
does not fit then does not fit at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, lcm

from mmcc.planner.joint.cpsat import Choice, Selection
from mmcc.planner.joint.packing import GaveUp, Group, Offsets, Work, packed, results
from mmcc.planner.memory.problem import Item

MOST_PACKINGS = 20_000  # of what one group holds beside fixed offsets, in all capacities together
FEW, MANY = 16, 256  # units in the bytes there are


@dataclass(frozen=True, slots=True)
class _Reached:
    """How a seating is reached at the least cost."""

    cost: int
    choice: int
    before: Offsets


def seated(
    whole: Sequence[Item], choices: Sequence[Choice], alive: Sequence[tuple[int, ...]], low: int, high: int
) -> tuple[Selection | None, int]:
    """Groups and offsets with the least peak from `low` on and below `high`, and what no plan is below.

    `alive`: by state, the whole tensors that have bytes then. None with a bound of `high` if there are none;
    if the work allowed was used up, the bound is lower. Units become ever smaller as long as that helps.
    """
    best: Selection | None = None
    left = Work(MOST_PACKINGS)
    for unit in _units(whole, choices, high):
        found, _ = _Seatings(whole, choices, alive, unit, left, up=True).least(low, high)
        if found is not None:
            best, high = found, found.peak
        _, low = _Seatings(whole, choices, alive, unit, left, up=False).least(low, high)
        if low >= high:
            break
    return best, low


class _Seatings:
    """Seatings of all states, for one capacity after another."""

    def __init__(
        self,
        whole: Sequence[Item],
        choices: Sequence[Choice],
        alive: Sequence[tuple[int, ...]],
        unit: int,
        work: Work,
        *,
        up: bool,
    ) -> None:
        """With `up`, sizes and distances are rounded up to the unit, else down. The unit is a multiple of
        every alignment, or fits all of these as it fits all sizes and distances."""
        self._whole, self._choices, self._alive = whole, choices, alive
        self._unit, self._up = unit, up
        self._last = max(c.after for c in choices)
        known: dict[Group, Group] = {}  # equal groups are one, which is told by its identity
        self._groups = [known.setdefault(group, group) for group in map(self._group, choices)]
        self._order = sorted(range(len(choices)), key=lambda k: (choices[k].after, k))
        self._work = work
        self._next: dict[tuple[int, Offsets], list[Offsets]] = {}

    def least(self, low: int, high: int) -> tuple[Selection | None, int]:
        """Groups and offsets in the least units from `low` on and below `high`, and bytes below which there
        are none: `high` if there are none at all, less than there are if the work allowed was used up."""
        unit, best = self._unit, None
        below, above = low // unit - 1, -(-high // unit)  # nothing is known within; surely enough
        if self._up:
            below = -(-low // unit) - 1
        try:
            step = 1
            while above - below > 1:  # small capacities are quickly looked at: up from below, then bisection
                capacity = min(below + step, above - 1) if best is None else (below + above) // 2
                found = self._within(capacity)
                if found is None:
                    below, step = capacity, 2 * step
                else:
                    best, above = found, capacity
        except GaveUp:
            pass
        return best, min(high, max(low, (below + 1) * unit))

    def _within(self, capacity: int) -> Selection | None:
        """The cheapest groups and offsets within a capacity, in units."""
        self._next.clear()
        reached: list[dict[Offsets, _Reached]] = [{} for _ in range(self._last + 1)]
        reached[0] = {offsets: _Reached(0, -1, ()) for offsets in self._start(capacity)}
        for k in self._order:
            choice = self._choices[k]
            if self._round(choice.least) > capacity:
                continue
            for before, way in reached[choice.before].items():
                cost, into = way.cost + choice.cost, reached[choice.after]
                for after in self._following(k, before, capacity):
                    if after not in into or cost < into[after].cost:
                        into[after] = _Reached(cost, k, before)
        if not reached[-1]:
            return None
        return self._read(reached, capacity)

    def _start(self, capacity: int) -> Iterator[Offsets]:
        """Offsets of what is alive before the first group: that may lie wherever it is apart."""
        things = [self._whole[k] for k in self._alive[0]]
        group = self._make([], things, [], {})
        for offsets in results(group, (), capacity):
            self._work.spend()
            yield offsets

    def _following(self, k: int, before: Offsets, capacity: int) -> Iterator[Offsets]:
        """Offsets of what is alive after a group, for those before it."""
        choice, group = self._choices[k], self._groups[k]
        key = id(group), self._own(choice, before)
        if key not in self._next:
            found: list[Offsets] = []
            for offsets in results(group, key[1], capacity):
                self._work.spend()
                if packed(group, offsets, capacity) is not None:
                    found.append(offsets)
            self._next[key] = found
        names = self._named(choice)
        for offsets in self._next[key]:
            at = dict(zip(names, offsets, strict=True))
            yield tuple(at[name] for name in self._alive[choice.after])

    def _own(self, choice: Choice, before: Offsets) -> Offsets:
        """The same offsets in the order in which the group has these things."""
        at = dict(zip(self._alive[choice.before], before, strict=True))
        return tuple(at[name] for name in choice.whole if name in at)

    def _named(self, choice: Choice) -> tuple[int, ...]:
        alive = set(self._alive[choice.before])
        fixed = tuple(name for name in choice.whole if name in alive)
        return fixed + tuple(name for name in choice.whole if name not in alive)

    def _group(self, choice: Choice) -> Group:
        names = self._named(choice)
        count = len(self._alive[choice.before])
        place = {name: n for n, name in enumerate(names)}
        number = [place[name] for name in choice.whole]
        number += range(len(names), len(names) + len(choice.local))
        distances = {(number[a], number[b]): distance for (a, b), distance in choice.apart.items()}
        fixed, results = names[:count], names[count:]
        return self._make(
            [self._whole[k] for k in fixed], [self._whole[k] for k in results], choice.local, distances
        )

    def _make(
        self,
        fixed: Sequence[Item],
        results: Sequence[Item],
        local: Sequence[Item],
        distances: dict[tuple[int, int], int],
    ) -> Group:
        items = [*fixed, *results, *local]
        every = range(len(items))
        barred = tuple(
            tuple(
                (
                    -self._round(distances.get((b, a), items[b].size)),
                    self._round(distances.get((a, b), items[a].size)),
                )
                for b in every
            )
            for a in every
        )
        sizes = tuple(self._round(item.size) for item in items)
        steps = tuple(1 if item.align % self._unit else item.align // self._unit for item in items)
        return Group(sizes, steps, len(fixed), len(results), barred)

    def _round(self, size: int) -> int:
        """Bytes in units."""
        return -(-size // self._unit) if self._up else size // self._unit

    def _read(self, reached: Sequence[dict[Offsets, _Reached]], capacity: int) -> Selection:
        """The cheapest way to the last state."""
        offsets, way = min(reached[-1].items(), key=lambda found: (found[1].cost, found[0]))
        whole = [0] * len(self._whole)
        chosen: list[int] = []
        local: list[Offsets] = []
        state = self._last
        while True:
            for name, at in zip(self._alive[state], offsets, strict=True):
                whole[name] = at * self._unit
            if way.choice < 0:
                break
            choice, group = self._choices[way.choice], self._groups[way.choice]
            at = dict(zip(self._alive[state], offsets, strict=True))
            at |= dict(zip(self._alive[choice.before], way.before, strict=True))
            own = packed(group, tuple(at[name] for name in self._named(choice)), capacity)
            assert own is not None, "the way that was found is packed as it was then"
            chosen.append(way.choice)
            local.append(tuple(x * self._unit for x in own[group.before + group.results :]))
            state, offsets = choice.before, way.before
            way = reached[state][offsets]
        return Selection(tuple(reversed(chosen)), tuple(whole), tuple(reversed(local)), capacity * self._unit)


def _units(whole: Sequence[Item], choices: Sequence[Choice], room: int) -> Iterator[int]:
    """Units that fit the whole tensors, about half as large each time; the last is the one that fits all.

    None is so large that there are fewer than FEW of them in the room there is, nor so small that there are
    more than MANY, unless it is that last one.
    """
    every = [item.size for item in whole] + [item.size for c in choices for item in c.local]
    align = lcm(*(item.align for item in whole), *(item.align for c in choices for item in c.local))
    exact = gcd(*every, align, *(d for c in choices for d in c.apart.values()))
    common = gcd(*(item.size for item in whole))
    last = 2 * room
    for unit in range(room // FEW, max(room // MANY, exact), -1):
        if common % unit == 0 and unit % align == 0 and 2 * unit <= last:
            yield unit
            last = unit
    yield exact
