# SPDX-License-Identifier: Apache-2.0
"""Constants that are copied to a region, against all choices: what is called least is least."""

from __future__ import annotations

from itertools import product
from math import inf
from random import Random

import pytest
from mmcc.ir.regions import Region
from mmcc.planner.regions.fetches import Fetch, choose_fetches, fetch_of, in_order, least_extra
from mmcc.planner.request import Constants

pytestmark = pytest.mark.quick
FAST, SLOW = Region("fast"), Region("slow", read_cost=0.5, write_cost=0.5)


def cheapest(fetches: tuple[Fetch, ...], room: list[float]) -> float:
    """The least cost of all choices that fit."""
    best = inf
    for homes in product(range(len(room) + 1), repeat=len(fetches)):
        left = [*room, inf]
        for fetch, home in zip(fetches, homes, strict=True):
            left[home] -= fetch.size
        if min(left) >= 0:
            cost = sum(fetch.extra[home] for fetch, home in zip(fetches, homes, strict=True))
            best = min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(300))
def test_no_choice_costs_less_than_what_is_called_least(seed: int) -> None:
    draw = Random(seed)
    regions = [
        Region(name, read_cost=draw.choice([0.0, 0.5, 2.0]), write_cost=draw.choice([0.0, 0.5, 4.0]))
        for name in "abc"[: draw.choice([1, 2, 2, 3])]
    ]
    byte = draw.choice([0.25, 1.0, 9.0])
    some = [
        fetch_of(
            n, Constants(16 * draw.randint(1, 9), draw.choice([0.5, 1.0, 8.0, 40.0])), 1.0, regions, byte
        )
        for n in range(draw.randint(1, 5))
    ]
    fetches = in_order(some)
    room = [float(draw.randint(0, 200)) for _ in regions]
    least, found = cheapest(fetches, room), choose_fetches(fetches, room)
    assert least_extra(fetches, room) <= least * (1 + 1e-9)
    assert found.cost == pytest.approx(least)
    assert found.bound <= least * (1 + 1e-9)
    assert sum(f.extra[home] for f, home in zip(fetches, found.homes, strict=True)) == pytest.approx(least)


def test_what_fits_into_no_region_pays_for_where_it_is() -> None:
    """Three of a size, a region for one each: the third is read where it is, many times as dear."""
    fetches = in_order(fetch_of(n, Constants(160, 10.0), 1.0, [FAST, SLOW], 9.0) for n in range(3))
    (extra,) = {fetch.extra for fetch in fetches}
    assert extra[2] > 10 * extra[1] > 0
    assert least_extra(fetches, [160.0, 160.0]) == extra[1] + extra[2]
    assert choose_fetches(fetches, [160.0, 160.0]).bound == extra[1] + extra[2]


def test_what_is_larger_than_a_region_is_not_there() -> None:
    """Not even in part: two that are a few bytes too large for the fastest region are in the next."""
    fetches = in_order(fetch_of(n, Constants(160, 10.0), 1.0, [FAST, SLOW], 9.0) for n in range(2))
    extra = fetches[0].extra
    assert least_extra(fetches, [144.0, 320.0]) == 2 * extra[1]
    assert least_extra(fetches, [144.0, 144.0]) == 2 * extra[2]
