# SPDX-License-Identifier: Apache-2.0
"""Which constants of a group are copied to an arena before it runs: those whose bytes are read often.

Constants that are not copied are read where the linker put them. What is copied takes its bytes for the step,
and shares them with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, pairwise

from mmcc.ir.regions import Region
from mmcc.planner.request import Constants

TRIES = 100  # choices looked at for the constants of one group, those that may cost least first


@dataclass(frozen=True, slots=True)
class Fetch:
    """A node's constants: what it costs beyond the `least` to have them in each region; last, to read them
    where they are. They cost least at `home`, and `away` more anywhere else.

    `order` has the regions, the fastest first, and is the same for all constants of a graph. `steps` has for
    each of them what constants cost more at least that are neither there nor in one before it.
    """

    node: int
    size: int
    least: float
    extra: tuple[float, ...]
    home: int
    away: float
    order: tuple[int, ...]
    steps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """For each of some constants a region, or as many as there are regions: read where they are.

    No choice costs less than `bound` beyond the least; this one costs `cost`.
    """

    bound: float
    cost: float
    homes: tuple[int, ...]


def fetch_of(node: int, constants: Constants, share: float, regions: Sequence[Region], byte: float) -> Fetch:
    """The choices for the constants of a node, whose columns are computed `share` times on average.

    `byte` is what a byte costs where they are.
    """
    reads = constants.bytes * constants.passes * share
    costs = [
        reads * region.read_cost + constants.bytes * (byte + (region.write_cost or 0.0)) for region in regions
    ]
    costs.append(reads * byte)
    least = min(costs)
    extra = tuple(cost - least for cost in costs)
    order = tuple(
        sorted(range(len(regions)), key=lambda k: (regions[k].read_cost, regions[k].write_cost or 0.0, k))
    )
    behind = [min(extra[k] for k in (*order[n:], -1)) for n in range(len(regions) + 1)]
    steps = tuple(after - before for before, after in pairwise(behind))
    return Fetch(node, constants.bytes, least, extra, extra.index(0.0), sorted(extra)[1], order, steps)


def in_order(fetches: Iterable[Fetch]) -> tuple[Fetch, ...]:
    """Constants in the order that the functions below want: those whose bytes matter least are first."""
    return tuple(sorted(fetches, key=lambda fetch: fetch.away / fetch.size))


def least_extra(fetches: Sequence[Fetch], room: Sequence[float]) -> float:
    """What constants cost at least beyond the least of each, if regions have so much room for them.

    Where not all fit into the region in which they cost least, some are elsewhere: those that are larger than
    it, and of the others some bytes, as if they could be divided. Either as if elsewhere were room, for each
    region apart; or for the fastest region, for it and the next, and so on, where all that fits into none of
    these pays the step to those behind.
    """
    return max(_by_region(fetches, room), _by_step(fetches, room))


def _by_region(fetches: Sequence[Fetch], room: Sequence[float]) -> float:
    total = 0.0
    for region, there in enumerate(room):
        total += _elsewhere([(f.size, f.away) for f in fetches if f.home == region], there, there)
    return total


def _by_step(fetches: Sequence[Fetch], room: Sequence[float]) -> float:
    total = together = largest = 0.0
    for n, region in enumerate(fetches[0].order if fetches else ()):
        together += room[region]
        largest = max(largest, room[region])
        total += _elsewhere([(f.size, f.steps[n]) for f in fetches if f.steps[n] > 0], together, largest)
    return total


def _elsewhere(some: Sequence[tuple[int, float]], room: float, largest: float) -> float:
    """What it costs at least that not all things of these sizes, each at its cost elsewhere, have room."""
    excess = sum(size for size, _ in some) - room
    if excess <= 0 and all(size <= largest for size, _ in some):
        return 0.0
    total, divided = 0.0, list[tuple[float, int]]()
    for size, cost in some:
        if size > largest:
            total += cost
            excess -= size
        else:
            divided.append((cost / size, size))
    for each, size in sorted(divided):
        if excess <= 0:
            break
        total += each * min(excess, size)
        excess -= size
    return total


def choose_fetches(fetches: Sequence[Fetch], room: Sequence[float]) -> Fetched:
    """The cheapest choice within so much room in each region; best first by a bound on what is left."""
    number, bound = count(), least_extra(fetches, room)
    cost, homes = _greedy(fetches, list(room))
    if cost <= bound:
        return Fetched(cost, cost, homes)
    waiting: list[tuple[float, int, float, tuple[float, ...], tuple[int, ...]]] = []
    heappush(waiting, (bound, next(number), 0.0, tuple(room), ()))
    for _ in range(TRIES):
        bound, _, so_far, left, chosen = heappop(waiting)
        if bound >= cost:
            return Fetched(cost, cost, homes)
        rest = len(fetches) - len(chosen) - 1
        if rest < 0:
            return Fetched(so_far, so_far, chosen[::-1])
        fetch = fetches[rest]
        for home, extra in enumerate(fetch.extra):
            if home < len(left) and left[home] < fetch.size:
                continue
            after = tuple(there - fetch.size * (k == home) for k, there in enumerate(left))
            ahead = so_far + extra + least_extra(fetches[:rest], after)
            if ahead < cost:
                heappush(waiting, (ahead, next(number), so_far + extra, after, (*chosen, home)))
        if not waiting:
            return Fetched(cost, cost, homes)
    return Fetched(min(waiting[0][0], cost), cost, homes)


def _greedy(fetches: Sequence[Fetch], left: list[float]) -> tuple[float, tuple[int, ...]]:
    """Each where it costs least of where there is room, those whose bytes matter most first."""
    total, homes = 0.0, list[int]()
    for fetch in reversed(fetches):
        possible = [k for k in range(len(left)) if left[k] >= fetch.size]
        home = min((*possible, len(left)), key=lambda k, f=fetch: f.extra[k])
        total += fetch.extra[home]
        homes.append(home)
        if home < len(left):
            left[home] -= fetch.size
    return total, tuple(reversed(homes))
