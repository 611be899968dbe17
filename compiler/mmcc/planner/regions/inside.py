# SPDX-License-Identifier: Apache-2.0
"""Where one group's own things are: the cheapest choice that fits what its regions have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from mmcc.planner.regions.things import Things

TRIES = 200  # choices looked at for one group, the cheapest first


@dataclass(frozen=True, slots=True)
class Inside:
    """Regions of a group's inner items, as far as they are known.

    No choice costs less than `bound`. `homes` is the one that costs `cost`; None, and infinite, if none was
    found. Both infinite: there is none.
    """

    bound: float
    cost: float
    homes: tuple[int, ...] | None


NOWHERE = Inside(inf, inf, None)


def choose_inside(things: Things, outside: Sequence[int], room: Sequence[float]) -> Inside:
    """The cheapest regions of a group's inner items; `outside` is for each region the set of other items that
    are there, a mask, and `room` its bytes, less those of what lives through.

    Choices are looked at in the order of their costs, so the first that fits is the cheapest.
    """
    if any(not _fits(things, own, there) for own, there in zip(outside, room, strict=True)):
        return NOWHERE
    ranked = [sorted(range(len(prices)), key=lambda r, p=prices: p[r]) for prices in things.inner_prices]
    start = (0,) * len(ranked)
    waiting = [(things.cheapest_inside, 0, start)]
    bound = things.cheapest_inside
    for _ in range(TRIES):
        if not waiting:
            return NOWHERE
        bound, first, ranks = heappop(waiting)
        homes = tuple(order[rank] for order, rank in zip(ranked, ranks, strict=True))
        if _all_fit(things, outside, room, homes):
            return Inside(bound, bound, homes)
        for k in range(first, len(ranked)):  # each choice is reached once: by ranks raised from left to right
            if ranks[k] + 1 < len(ranked[k]):
                prices = things.inner_prices[k]
                more = prices[ranked[k][ranks[k] + 1]] - prices[ranked[k][ranks[k]]]
                heappush(waiting, (bound + more, k, (*ranks[:k], ranks[k] + 1, *ranks[k + 1 :])))
    homes = _by_size(things, outside, room, ranked)
    if homes is None:
        return Inside(bound, inf, None)
    return Inside(bound, sum(p[home] for p, home in zip(things.inner_prices, homes, strict=True)), homes)


def _by_size(
    things: Things, outside: Sequence[int], room: Sequence[float], ranked: Sequence[Sequence[int]]
) -> tuple[int, ...] | None:
    """Each item where it costs least, the largest moved on until all fit; None if that never happens."""
    ranks = [0] * len(ranked)
    order = sorted(range(len(ranked)), key=lambda k: -things.size[things.inner[k]])
    for level in range(1, max(map(len, ranked), default=1)):
        for k in order:
            ranks[k] = level
            homes = tuple(by[rank] for by, rank in zip(ranked, ranks, strict=True))
            if _all_fit(things, outside, room, homes):
                return homes
    return None


def _all_fit(
    things: Things, outside: Sequence[int], room: Sequence[float], homes: Sequence[int]
) -> bool:
    masks = list(outside)
    for item, home in zip(things.inner, homes, strict=True):
        masks[home] |= 1 << item
    return all(_fits(things, mask, there) for mask, there in zip(masks, room, strict=True))


def _fits(things: Things, members: int, room: float) -> bool:
    """True if a region has room for some items, as far as a bound can tell."""
    if not members:
        return room >= 0
    total = sum(size for k, size in enumerate(things.size) if members >> k & 1)
    return total <= room or (room > 0 and things.need(members) <= room)
