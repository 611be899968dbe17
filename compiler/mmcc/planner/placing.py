# SPDX-License-Identifier: Apache-2.0
"""From the least paths of groups to placements: what a bound allows is placed, or the solver is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from mmcc.planner.fusion.build import Builder, Placed, used_overlaps
from mmcc.planner.fusion.paths import Path, Paths
from mmcc.planner.fusion.scalars import NEAR
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.request import PlanRequest

TRIES = 5  # paths placed at most where the first cannot be placed as its bound has it,
LARGE, TRIES_OF_LARGE = 150, 2  # and in graphs of more than so many kernels
FORWARD = 0.01  # of the effort for placing a path again, without rows backward
PLACING = 0.1  # of the effort for placing one path; the rest is for groups and offsets together


def cost_of(paths: Paths, placed: Placed) -> float:
    """Predicted work of groups in their places: of the path, and of calls for the rows of those that
    are placed so that rows must be made backward."""
    used = used_overlaps(placed.overlaps, placed.buffers, placed.placement.offsets)
    turned = {placed.path[overlap.step].last for overlap in used if overlap.backward is not None}
    return sum(map(paths.cost, placed.path)) + sum(map(paths.space.backward_cost, turned))


class Placer:
    """Places paths whose work is `macs` multiplications at most."""

    def __init__(self, request: PlanRequest, macs: float) -> None:
        self._request, self._macs = request, macs

    def within(
        self, paths: Paths, path: Path, least: Callable[[], int], limit: int
    ) -> tuple[Placed | None, float]:
        """The cheapest path that can be placed within the limit; and what none that can costs less than,
        infinite if none can.

        `path` is the cheapest of all, and no path is below `least()`.
        """
        placed, cost = self._place(paths, path, limit), sum(map(paths.cost, path))
        if placed.placement.peak <= limit:
            forward = self._forward(paths, placed, limit)
            if cost_of(paths, forward) > cost:  # rows backward take calls that the path does not count
                return self._cheaper(paths, forward, limit, cost)
            return forward, cost
        low, level, smaller = least(), limit, path
        for _ in range(TRIES):  # paths of smaller groups are easier to place
            largest = max(group.least for group in smaller)
            level = max(low, min(level - max(1, (limit - low) // TRIES), largest - 1))
            smaller = paths.cheapest(level, self._macs) if low < largest else ()
            if not smaller:
                break
            easier = self.exactly(paths, smaller, limit)
            if easier is not None:
                return self._cheaper(paths, easier, limit, cost)
        together, proved = self._together(paths, placed, low)
        if together.placement.peak <= limit:
            return self._cheaper(paths, together, limit, cost)
        return None, inf if proved > limit + paths.early else cost

    def exactly(self, paths: Paths, path: Path, limit: int) -> Placed | None:
        """A path within the limit, if it can be placed so."""
        placed = self._place(paths, path, limit)
        return self._forward(paths, placed, limit) if placed.placement.peak <= limit else None

    def _forward(self, paths: Paths, placed: Placed, limit: int) -> Placed:
        """The same path, of which rows are made backward, which takes a call for each, only if need be."""
        used = used_overlaps(placed.overlaps, placed.buffers, placed.placement.offsets)
        if any(overlap.backward is not None for overlap in used):
            forward = self._place(paths, placed.path, limit, backward=False)
            return forward if forward.placement.peak <= limit else placed
        return placed

    def least(self, paths: Paths, bound: int) -> tuple[Placed, int]:
        """A path with the least peak, and what no path is below."""
        best, proved = self._place(paths, paths.cheapest(bound, self._macs), bound), bound
        if paths.slack and best.placement.peak <= (1 + NEAR) * bound:
            return best, proved
        large = len(paths.space.model.kernels) > LARGE
        if large and best.placement.peak > bound and not self._request.rough:
            best, proved = self._together(paths, best, bound)
        fewest = paths.fewest(bound) if best.placement.peak > proved else ()
        if fewest and fewest != best.path and sum(map(paths.macs, fewest)) <= self._macs:
            best = min(best, self._place(paths, fewest, bound), key=lambda p: p.placement.peak)
        if self._request.rough:
            return best, max(bound, proved - paths.early)
        if not large and best.placement.peak > bound:
            best, proved = self._together(paths, best, bound)
        low, high = proved, best.placement.peak
        for _ in range(
            TRIES_OF_LARGE if large else TRIES
        ):  # where the solver gave up: larger groups' bounds, so that placing is easier
            level = (low + high) // 2
            if level <= low:
                break
            path = paths.cheapest(level, self._macs)
            if not path:
                break
            placed = self._place(paths, path, level)
            best = min(best, placed, key=lambda p: p.placement.peak)
            low, high = (level, high) if placed.placement.peak > level else (low, placed.placement.peak)
        return best, max(bound, proved - paths.early)

    def _cheaper(self, paths: Paths, placed: Placed, limit: int, least: float) -> tuple[Placed, float]:
        """A path that costs less than `placed`, if the solver finds one; and what none costs less than, which
        is `least` or more."""
        from mmcc.planner.joint.search import cheapest  # imports the solver

        cost = cost_of(paths, placed)
        found, low = cheapest(paths.space, paths, limit, cost, self._request)
        if found is None or sum(map(paths.macs, found.path)) > self._macs:
            return placed, max(least, low)
        made = self._placed(paths, found.path, found.offsets)
        return made if cost_of(paths, made) < cost else placed, max(least, low)

    def _placed(self, paths: Paths, path: Path, offsets: dict[str, int]) -> Placed:
        buffers, overlaps = Builder(paths.space, path).buffers()
        peak = max(offsets[b.name] + b.size for b in buffers if b.regions == self._request.regions)
        return Placed(path, buffers, overlaps, Placement(offsets, peak, 0))

    def _place(self, paths: Paths, path: Path, goal: int, *, backward: bool = True) -> Placed:
        request = self._request
        buffers, overlaps = Builder(paths.space, path).buffers()
        if not backward:
            overlaps = tuple(replace(overlap, backward=None) for overlap in overlaps)
        inside = [b for b in buffers if b.regions == request.regions]
        request.say(f"{len(path)} groups within {goal} bytes; placing {len(inside)} buffers")
        effort = request.effort * (PLACING if backward else FORWARD)
        placement = place(inside, overlaps, goal, effort=effort, seed=request.seed, progress=request.progress)
        return Placed(path, buffers, overlaps, placement)

    def _together(self, paths: Paths, placed: Placed, bound: int) -> tuple[Placed, int]:
        """Groups and offsets in one model; and the bound it proves of the paths that are looked at."""
        from mmcc.planner.joint.search import choose  # imports the solver

        goal = max(bound, paths.space.request.limit or 0)
        found, proved = choose(paths.space, paths, goal, placed.placement.peak, self._request)
        if found is None or sum(map(paths.macs, found.path)) > self._macs:  # the solver counts bytes only
            return placed, max(bound, min(proved, placed.placement.peak))
        made = self._placed(paths, found.path, found.offsets)
        return made, max(bound, min(proved, made.placement.peak))
