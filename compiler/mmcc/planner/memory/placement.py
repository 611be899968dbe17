# SPDX-License-Identifier: Apache-2.0
"""Offsets for buffers with live ranges: heuristics first, then an exact search where they miss the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmcc.ir.plan import Buffer, Overlap
from mmcc.planner.memory.heuristics import greedy
from mmcc.planner.memory.lower_bound import lower_bound
from mmcc.planner.memory.problem import Item, Pair, Problem, components, part_of, peak_of


@dataclass(frozen=True, slots=True)
class Placement:
    """Offsets by buffer name; `peak` is where the highest ends, `bound` what no placement is below."""

    offsets: dict[str, int]
    peak: int
    bound: int

    @property
    def proved(self) -> bool:
        return self.peak == self.bound


def place(
    buffers: Sequence[Buffer],
    overlaps: Sequence[Overlap] = (),
    capacity: int | None = None,
    *,
    effort: float = 20.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Placement:
    """The least peak, or with `capacity` any placement within it (the best found, if there is none).

    `effort` is about seconds of the exact solver, counted in its deterministic time: the same call gives
    the same offsets anywhere.
    """
    number = {b.name: k for k, b in enumerate(buffers)}
    items = tuple(Item(b.size, b.align, b.live.lo, b.live.hi) for b in buffers)
    pairs = tuple(
        Pair(o.step, number[o.output], number[o.input], o.distance, o.backward)
        for o in overlaps
        if _meet_only_at(o.step, items[number[o.output]], items[number[o.input]])
    )
    whole = Problem(items, pairs)
    parts = [p for p in components(whole) if p]
    bounds = [lower_bound(part_of(whole, part)) for part in parts]
    goal = max(bounds, default=0) if capacity is None else capacity
    bound = max(bounds, default=0)
    offsets = [0] * len(items)
    for part in parts:
        problem = part_of(whole, part)
        found, proved = _solve(problem, goal, effort, seed, progress)
        bound = max(bound, min(proved, peak_of(problem, found)))
        goal = max(goal, bound) if capacity is None else goal
        for k, offset in zip(part, found, strict=True):
            offsets[k] = offset
    peak = peak_of(whole, offsets)
    return Placement({b.name: offsets[k] for k, b in enumerate(buffers)}, peak, bound)


def _meet_only_at(step: int, one: Item, other: Item) -> bool:
    """True if a step is the only one at which both are alive; an overlap allows nothing at any other."""
    return max(one.lo, other.lo) == step and min(one.hi, other.hi) == step + 1


def _solve(
    problem: Problem, goal: int, effort: float, seed: int, progress: Callable[[str], None] | None
) -> tuple[list[int], int]:
    """Offsets with a peak of `goal` at most, or as little as can be, and the bound proved."""
    best = greedy(problem, goal, seed)
    bound = lower_bound(problem)
    if peak_of(problem, best) <= max(goal, bound):
        return best, bound
    from mmcc.planner.memory.cpsat import search  # takes a second to import and is seldom needed

    return search(problem, best, bound, max(goal, bound), effort, seed, progress)
