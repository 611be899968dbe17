# SPDX-License-Identifier: Apache-2.0
"""Where one group's own things are: the cheapest choice that fits what its regions have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf

from mmcc.planner.regions.things import Things

TRIES = 100  # choices looked at for some or all items of one group, those that may cost least first
MORE_TRIES = 4000  # where the cheapest path goes through a group, and the first were not enough


@dataclass(frozen=True, slots=True)
class Inside:
    """Regions of a group's inner items and of its constants, as far as they are known.

    No choice costs less than `bound`. `homes` and `fetched` are the one that costs `cost`; None, and
    infinite, if none was found. Both infinite: there is none.
    """

    bound: float
    cost: float
    homes: tuple[int, ...] | None
    fetched: tuple[int, ...] = ()


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
    return things.cheapest_inside + more + _least_of_constants(things, outside, room)


def _least_of_constants(things: Things, outside: Sequence[int], room: Sequence[float]) -> float:
    """What constants cost at least beyond the least of each, wherever inner items are."""
    if not things.fetches:
        return 0.0
    needs = map(things.need, outside)
    return things.least_of_constants([there - need for need, there in zip(needs, room, strict=True)])


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


def choose_inside(
    things: Things, outside: Sequence[int], room: Sequence[float], tries: int = TRIES
) -> Inside:
    """The cheapest regions of a group's inner items and constants; `outside` is for each region the set of
    other items that are there, a mask, and `room` its bytes, less those of what lives through."""
    ranked: list[list[int]] = []
    for item, prices in zip(things.inner, things.inner_prices, strict=True):
        possible = (r for r in range(len(room)) if things.fits(outside[r] | 1 << item, room[r]))
        ranked.append(sorted(possible, key=lambda r, p=prices: p[r]))
    fit = all(things.fits(own, there) for own, there in zip(outside, room, strict=True))
    return _chosen(things, outside, room, ranked, tries) if fit and all(ranked) else NOWHERE


def _chosen(
    things: Things, outside: Sequence[int], room: Sequence[float], ranked: Sequence[Sequence[int]], tries: int
) -> Inside:
    """The cheapest choice of those regions for each item, the cheapest of which is first.

    Branch and bound, best first: the largest items are given a region first, so that what does not fit, and
    what room is left for constants, is soon known.
    """
    order = sorted(range(len(ranked)), key=lambda k: -things.size[things.inner[k]])
    ahead = [0.0]  # what the items that have no region yet cost at least
    for k in reversed(order):
        ahead.insert(0, ahead[0] + things.inner_prices[k][ranked[k][0]])
    floor = max(ahead[0] + _least_of_constants(things, outside, room), least_inside(things, outside, room))
    # by bounds, then those with fewer items left first; what is paid, regions so far, all items by region
    waiting: list[tuple[float, int, int, float, tuple[int, ...], tuple[int, ...]]] = []
    waiting.append((floor, 0, 0, 0.0, (), tuple(outside)))
    number, best = 0, NOWHERE
    for _ in range(tries):
        if not waiting or waiting[0][0] >= best.bound:  # no choice from here on costs less
            return best
        bound, _, _, cost, homes, masks = heappop(waiting)
        depth = len(homes)
        if depth == len(order):
            by_item = tuple(home for _, home in sorted(zip(order, homes, strict=True)))
            found = _with_constants(things, masks, room, by_item, cost, best.cost)
            lowest = min(found.bound, best.bound)
            best = replace(found if found.cost < best.cost else best, bound=lowest)
            continue
        item = things.inner[order[depth]]
        for home in ranked[order[depth]]:
            mask = masks[home] | 1 << item
            if things.fits(mask, room[home]):
                number += 1
                there = (*masks[:home], mask, *masks[home + 1 :])
                paid = cost + things.inner_prices[order[depth]][home]
                least = max(bound, paid + ahead[depth + 1] + _least_of_constants(things, there, room))
                heappush(waiting, (least, -depth, number, paid, (*homes, home), there))
    bound = min((entry[0] for entry in waiting), default=inf)
    if best.homes is not None or not waiting:
        return replace(best, bound=min(best.bound, bound))
    homes = _by_size(things, outside, room, ranked)
    if homes is None:
        return Inside(bound, inf, None)
    cost = sum(p[home] for p, home in zip(things.inner_prices, homes, strict=True))
    return replace(
        _with_constants(things, _masks(things, outside, homes), room, homes, cost, inf), bound=bound
    )


def _with_constants(
    things: Things,
    masks: Sequence[int],
    room: Sequence[float],
    homes: tuple[int, ...],
    cost: float,
    most: float,
) -> Inside:
    """A choice that fits and costs so much, with the cheapest of constants beside it; none is looked for that
    costs more than `most` in all. `masks` are all items by region."""
    if not things.fetches:
        return Inside(cost, cost, homes)
    left = [there - things.need(mask) for mask, there in zip(masks, room, strict=True)]
    least = cost + things.least_of_constants(left)
    if least >= most:
        return Inside(least, inf, None)
    found = things.fetched(left)
    return Inside(cost + found.bound, cost + found.cost, homes, found.homes)


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
    masks = _masks(things, outside, homes)
    return all(things.fits(mask, there) for mask, there in zip(masks, room, strict=True))


def _masks(things: Things, outside: Sequence[int], homes: Sequence[int]) -> list[int]:
    """For each region the set of all items that are there."""
    masks = list(outside)
    for item, home in zip(things.inner, homes, strict=True):
        masks[home] |= 1 << item
    return masks
