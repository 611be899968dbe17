# SPDX-License-Identifier: Apache-2.0
"""Where one group's own things are: the cheapest choice that fits what its regions have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def least_inside(things: Things, outside: Sequence[int], room: Sequence[float]) -> float:
    """What the inner items of a group cost at least, quickly known; see `choose_inside`.

    Where not all fit at a moment into the region in which they cost least, some bytes are elsewhere, those
    that cost least there: as if items could be divided.
    """
    more = 0.0
    for home, (own, there) in enumerate(zip(outside, room, strict=True)):
        dearer = {
            item: min((p for k, p in enumerate(prices) if k != home), default=inf) - prices[home]
            for item, prices in zip(things.inner, things.inner_prices, strict=True)
        }
        some = [item for item, extra in dearer.items() if extra > 0]
        more += max((_moved(row, some, dearer, own, there) for row in things.held if some), default=0.0)
    return things.cheapest_inside + more


def _moved(
    held: Sequence[int], some: Sequence[int], dearer: Mapping[int, float], outside: int, room: float
) -> float:
    """What it costs at one moment to have bytes elsewhere for which a region has no room."""
    excess = sum(held[k] for k in some) - room
    excess += sum(size for k, size in enumerate(held) if outside >> k & 1)
    if excess <= 0:
        return 0.0
    cost = 0.0
    for item in sorted((k for k in some if held[k]), key=lambda k: dearer[k] / held[k]):
        part = min(excess, held[item])
        cost += dearer[item] * part / held[item]
        excess -= part
    return cost if excess <= 0 else inf


def choose_inside(things: Things, outside: Sequence[int], room: Sequence[float]) -> Inside:
    """The cheapest regions of a group's inner items; `outside` is for each region the set of other items that
    are there, a mask, and `room` its bytes, less those of what lives through.

    Choices are looked at in the order of their costs, so the first that fits is the cheapest.
    """
    if any(not things.fits(own, there) for own, there in zip(outside, room, strict=True)):
        return NOWHERE
    ranked: list[list[int]] = []
    for item, prices in zip(things.inner, things.inner_prices, strict=True):
        possible = (r for r in range(len(room)) if things.fits(outside[r] | 1 << item, room[r]))
        ranked.append(sorted(possible, key=lambda r, p=prices: p[r]))
    if not all(ranked):
        return NOWHERE
    bound: float = sum(prices[order[0]] for prices, order in zip(things.inner_prices, ranked, strict=True))
    waiting: list[tuple[float, int, tuple[int, ...]]] = [(bound, 0, (0,) * len(ranked))]
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
    bound = max(bound, least_inside(things, outside, room))
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
            ranks[k] = min(level, len(ranked[k]) - 1)
            homes = tuple(by[rank] for by, rank in zip(ranked, ranks, strict=True))
            if _all_fit(things, outside, room, homes):
                return homes
    return None


def _all_fit(things: Things, outside: Sequence[int], room: Sequence[float], homes: Sequence[int]) -> bool:
    masks = list(outside)
    for item, home in zip(things.inner, homes, strict=True):
        masks[home] |= 1 << item
    return all(things.fits(mask, there) for mask, there in zip(masks, room, strict=True))
