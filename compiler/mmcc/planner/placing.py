# SPDX-License-Identifier: Apache-2.0
"""From the least paths of a table to placements: what a bound allows is placed, or the solver is asked."""

from __future__ import annotations

from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.paths import Path, Table
from mmcc.planner.memory.placement import Placement, place
from mmcc.planner.request import PlanRequest

TRIES = 5  # paths placed at most where the first cannot be placed as its bound has it
PLACING = 0.1  # of the effort for placing one path; the rest is for groups and offsets together


class Placer:
    """Places paths whose work is `macs` multiplications at most."""

    def __init__(self, request: PlanRequest, macs: float) -> None:
        self._request, self._macs = request, macs

    def within(self, table: Table, limit: int) -> Placed | None:
        """The cheapest path that can be placed within the limit."""
        low, level = table.least(self._macs), limit
        path = table.cheapest(level, self._macs)
        placed = self._place(table, path, limit)
        if placed.placement.peak <= limit:
            return placed
        for _ in range(TRIES):  # paths of smaller groups are easier to place
            level = max(low, level - max(1, (limit - low) // TRIES))
            placed = self._place(table, table.cheapest(level, self._macs), limit)
            if placed.placement.peak <= limit:
                return self._cheaper(table, placed, limit)
        together, _ = self._together(table, placed, low)
        return together if together.placement.peak <= limit else None

    def least(self, table: Table, bound: int) -> tuple[Placed, int]:
        """A path with the least peak, and what no path is below."""
        best = self._place(table, table.cheapest(bound, self._macs), bound)
        proved = bound
        if best.placement.peak > bound:
            best, proved = self._together(table, best, bound)
        low, high = proved, best.placement.peak
        for _ in range(TRIES):  # where the solver gave up: larger groups' bounds, so that placing is easier
            level = (low + high) // 2
            if level <= low:
                break
            placed = self._place(table, table.cheapest(level, self._macs), level)
            best = min(best, placed, key=lambda p: p.placement.peak)
            low, high = (level, high) if placed.placement.peak > level else (low, placed.placement.peak)
        return best, proved

    def _cheaper(self, table: Table, placed: Placed, limit: int) -> Placed:
        """A path that costs less than `placed`, if the solver finds one."""
        from mmcc.planner.joint.search import cheapest  # imports the solver

        cost = sum(map(table.cost, placed.path))
        found = cheapest(table.space, table, limit, cost, self._request)
        if found is None or sum(map(table.macs, found[0])) > self._macs:
            return placed
        return self._placed(table, *found)

    def _placed(self, table: Table, path: Path, offsets: dict[str, int]) -> Placed:
        buffers, overlaps = Builder(table.space, path).buffers()
        peak = max(offsets[b.name] + b.size for b in buffers if b.regions == self._request.regions)
        return Placed(path, buffers, overlaps, Placement(offsets, peak, 0))

    def _place(self, table: Table, path: Path, goal: int) -> Placed:
        request = self._request
        buffers, overlaps = Builder(table.space, path).buffers()
        inside = [b for b in buffers if b.regions == request.regions]
        request.say(f"{len(path)} groups within {goal} bytes; placing {len(inside)} buffers")
        effort = request.effort * PLACING
        placement = place(inside, overlaps, goal, effort=effort, seed=request.seed, progress=request.progress)
        return Placed(path, buffers, overlaps, placement)

    def _together(self, table: Table, placed: Placed, bound: int) -> tuple[Placed, int]:
        """Groups and offsets in one model; and the bound it proves."""
        from mmcc.planner.joint.search import choose  # imports the solver

        goal = max(bound, table.space.request.limit or 0)
        found, proved = choose(table.space, table, goal, placed.placement.peak, self._request)
        if found is None:
            return placed, max(bound, min(proved, placed.placement.peak))
        made = self._placed(table, *found)
        return made, max(bound, min(proved, made.placement.peak))
