# SPDX-License-Identifier: Apache-2.0
"""Entries that may run at the same time: each has its own part of one arena, others may share theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mmcc.ir.module import Module
from mmcc.ir.plan import Place, Plan
from mmcc.ir.regions import Region
from mmcc.planner.request import PlanRequest

Best = Callable[[str, PlanRequest], Plan]
ALIGN = 16  # of every part: no element or vector wants more
MOST_ORDERS = 50_000  # of entries that are looked at
SHARES = 6  # ways to share a limit that are tried: each halves what is not known


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the part of each entry begins, how long all are, and whether no other places need less."""

    begins: Mapping[str, int]
    size: int
    proved: bool


def plan_concurrent(
    module: Module, requests: Mapping[str, PlanRequest], best: Best
) -> tuple[dict[str, Plan], Parts]:
    """Plans of entries of which some may run at the same time, and where their parts of the arena begin.

    The limit of the requests is that of the arena of all. Where the plans that one would choose alone are
    together beyond it, entries give way in the same measure, each between its least arena and the one it
    would choose. If even the least are beyond it, these are the answer, as they are without a limit.
    """
    plans = {name: best(name, request) for name, request in requests.items()}
    parts = _parts(module, plans, requests)
    limits = [request.limit for request in requests.values() if request.limit is not None]
    if not limits or parts.size <= min(limits):
        return plans, parts
    wanted = {name: requests[name].peak(plan) for name, plan in plans.items()}
    alone = {name: replace(request, limit=None, fuse=True) for name, request in requests.items()}
    plans = {name: best(name, request) for name, request in alone.items()}
    parts, least = _parts(module, plans, requests), {n: requests[n].peak(plan) for n, plan in plans.items()}
    if parts.size > min(limits):
        return plans, parts
    low, high = 0.0, 1.0
    for _ in range(SHARES):
        share = (low + high) / 2
        allowed = {name: round(least[name] + share * (wanted[name] - least[name])) for name in least}
        tried = {name: best(name, replace(alone[name], limit=allowed[name])) for name in alone}
        found = _parts(module, tried, requests)
        if found.size <= min(limits):
            low, plans, parts = share, tried, found
        else:
            high = share
    return plans, parts


def _parts(module: Module, plans: Mapping[str, Plan], requests: Mapping[str, PlanRequest]) -> Parts:
    return place_parts(module, {name: requests[name].peak(plan) for name, plan in plans.items()})


def moved_up(plan: Plan, by: int) -> Plan:
    """The plan with its arena `by` bytes further up; only of plans that move nothing between regions."""
    assert not plan.transfers
    places = {
        name: Place(place.region, place.offset + by) if _in_arena(place) else place
        for name, place in plan.places.items()
    }
    return replace(plan, places=places)


def _in_arena(place: Place) -> bool:
    region = place.region
    return isinstance(region, Region) and not region.keeps and region.write_cost is not None


def place_parts(module: Module, sizes: Mapping[str, int]) -> Parts:
    """The shortest arena in which the parts of entries that may run at the same time are apart.

    In some order of the entries each lies as low as it can beside those before it, and the arena is least:
    the order of their places in a least one. So orders are searched, until one is as short as the bound, the
    largest sum over entries that may all run at the same time.
    """
    padded = {name: -(-size // ALIGN) * ALIGN for name, size in sizes.items()}
    search = _Orders(module, padded, max(sum(padded[name] for name in clique) for clique in module.cliques))
    search.extend({}, 0)
    return Parts(search.best, search.size, search.size == search.bound or search.left > 0)


class _Orders:
    """Depth first over orders of entries, the largest first; no further than the best that is known."""

    def __init__(self, module: Module, sizes: Mapping[str, int], bound: int) -> None:
        self._module, self._sizes, self.bound = module, sizes, bound
        self._names = sorted(sizes, key=lambda name: -sizes[name])
        self.best: dict[str, int] = {}
        self.size = sum(sizes.values()) + 1
        self.left = MOST_ORDERS

    def extend(self, begins: dict[str, int], size: int) -> None:
        """Look at all orders that begin with the entries that have a place."""
        if size >= self.size or self.size == self.bound or (self.left <= 0 and self.best):
            return
        if len(begins) == len(self._names):
            self.best, self.size = begins, size
            return
        self.left -= 1
        for name in self._names:
            if name not in begins:
                begin = self._lowest(name, begins)
                self.extend({**begins, name: begin}, max(size, begin + self._sizes[name]))

    def _lowest(self, name: str, begins: Mapping[str, int]) -> int:
        """The first gap that is wide enough beside those that may run at the same time."""
        beside = [other for other in begins if self._module.may_meet(name, other)]
        at = 0
        for other in sorted(beside, key=lambda other: begins[other]):
            if begins[other] >= at + self._sizes[name]:
                break
            at = max(at, begins[other] + self._sizes[other])
        return at
