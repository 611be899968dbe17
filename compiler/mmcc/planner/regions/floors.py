# SPDX-License-Identifier: Apache-2.0
"""What paths cost if every access were where it costs least, and about what they cost within some room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from mmcc.ir.regions import External, Region
from mmcc.planner.regions.things import Prices, Things


def cheapest_floor(
    sets: Iterable[int],
    groups: Mapping[int, Sequence[Things]],
    end: int,
    states: Mapping[int, Region | External],
) -> tuple[float, tuple[Things, ...]]:
    """What any path from the empty set of finished kernels to `end` costs at least, and the path that does.

    `groups` are by the set before them, `sets` in an order in which a set comes after those that lead to it;
    `states` has the memory of each state, by allocation.
    """
    least: dict[int, float] = {0: 0.0}
    came: dict[int, tuple[int, Things]] = {}
    for done in sets:
        for things in groups.get(done, ()) if done in least else ():
            outside = (*things.kept, *things.given, *things.defined)
            cost = things.cost + things.cheapest_inside + sum(min(things.price(a)) for a, _ in outside)
            cost += things.of_states(states)
            after = things.candidate.after
            if least[done] + cost < least.get(after, inf):
                least[after], came[after] = least[done] + cost, (done, things)
    path, at = list[Things](), end
    while at in came:
        at, things = came[at]
        path.append(things)
    return least.get(end, 0.0), tuple(reversed(path))


def about(path: Iterable[Things], sizes: Sequence[int], room: Sequence[float]) -> float:
    """What a path may cost within so much room: what matters most a byte is where it costs least.

    `sizes` are those of allocations. This is no bound: things may share bytes.
    """

    def matters(thing: tuple[int, Prices]) -> float:
        size, prices = thing
        return (max(prices) - min(prices)) / max(1, size)

    total = 0.0
    for things in path:
        some = [(things.size[k], p) for k, p in zip(things.inner, things.inner_prices, strict=True)]
        some += [(sizes[a], things.price(a)) for a, _ in (*things.given, *things.defined)]
        some += [(size, things.price(a)) for a, size in things.kept]
        left = list(room)
        total += things.cost
        for size, prices in sorted(some, key=matters, reverse=True):
            possible = [k for k in range(len(left)) if left[k] >= size]
            home = min(possible, key=lambda k, p=prices: p[k], default=None)
            total += max(prices) if home is None else prices[home]
            if home is not None:
                left[home] -= size
    return total
