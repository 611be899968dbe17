# SPDX-License-Identifier: Apache-2.0
"""From candidates to the solver's joint model and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmcc.planner.fusion.best_first import SPLIT
from mmcc.planner.fusion.build import Builder
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.paths import Path, Paths
from mmcc.planner.fusion.space import Space
from mmcc.planner.joint.cpsat import Choice, Selection, select, select_by_cost
from mmcc.planner.joint.dynamic import seated
from mmcc.planner.memory.allocations import bits
from mmcc.planner.memory.problem import Item
from mmcc.planner.request import PlanRequest

MOST_CHOICES = 600  # more make a model that is not solved in the time there is
COST_UNIT = SPLIT  # the solver's costs are whole numbers of these
LEVELS = 16, 8, 4, 1  # seatings are looked for within these parts of what lies between the bound and a plan
MOST_KERNELS = 200  # of a graph whose groups are listed for the solver, and for the last of these levels


@dataclass(frozen=True, slots=True)
class Found:
    """A path, the offsets of its buffers by name, and the bytes of both."""

    path: Path
    offsets: dict[str, int]
    peak: int


def choose(
    space: Space, paths: Paths, goal: int, high: int, request: PlanRequest
) -> tuple[Found | None, int]:
    """A path and offsets with a peak below `high`, and a bound; no better than `goal` is asked for."""
    best, goal = _by_seatings(space, paths, goal, high, request)
    if best is not None:
        high = best.peak
    if goal >= high:
        return best, goal
    large = len(space.model.kernels) > MOST_KERNELS
    candidates = None if large else paths.below(high)
    if candidates is None or len(candidates) > MOST_CHOICES:
        return best, goal
    if not candidates:
        return best, high
    request.say(f"{len(candidates)} groups and offsets together: {goal} <= peak < {high}")
    whole, choices = _model(space, paths, candidates)
    found, bound = select(whole, choices, goal, high, request.effort, request.seed)
    return best if found is None else _found(space, candidates, found), bound


def cheapest(
    space: Space, paths: Paths, limit: int, most_cost: float, request: PlanRequest
) -> tuple[Found | None, float]:
    """The cheapest path that can be placed within the limit, if one costs less than `most_cost`; and what
    none that can costs less than, 0 if that is not known."""
    candidates = paths.cheaper(limit, most_cost, MOST_CHOICES)
    if candidates is None:
        return None, 0.0
    least = most_cost
    found: Found | None = None
    if candidates:
        request.say(f"{len(candidates)} groups and offsets together: least cost within {limit}")
        candidates, whole, choices = _priced_model(space, paths, candidates)
        selection, units = select_by_cost(whole, choices, limit, request.effort, request.seed)
        least = min(least, units * COST_UNIT)
        found = None if selection is None else _found(space, candidates, selection)
    return found, least if paths.exact else 0.0


def _by_seatings(
    space: Space, paths: Paths, goal: int, high: int, request: PlanRequest
) -> tuple[Found | None, int]:
    """The same by seatings, as far as that goes: few groups need little, so small levels are tried first."""
    large = len(space.model.kernels) > MOST_KERNELS
    for part in LEVELS[:-1] if large else LEVELS:
        level = goal + -(-(high - goal) // part)
        candidates = paths.below(level)
        if candidates is None:
            break
        if candidates:
            request.say(f"{len(candidates)} groups with offsets between them: {goal} <= peak < {level}")
            found, bound = _seated(space, paths, candidates, goal, level)
            if found is not None or bound < level:
                return found, bound
        goal = level
    return None, goal


def _seated(
    space: Space, paths: Paths, candidates: list[Candidate], low: int, high: int
) -> tuple[Found | None, int]:
    """The same among some groups."""
    whole, choices = _model(space, paths, candidates)
    sizes = [allocation.size for allocation in space.model.allocations]
    alive = [tuple(a for a in bits(space.alive(done)) if sizes[a]) for done in _states(candidates)]
    found, bound = seated(whole, choices, alive, low, high)
    return (None if found is None else _found(space, candidates, found)), bound


def _model(space: Space, paths: Paths, candidates: list[Candidate]) -> tuple[list[Item], list[Choice]]:
    """Whole tensors and groups as both searches know them."""
    state = {done: k for k, done in enumerate(_states(candidates))}
    whole = [Item(allocation.size, allocation.align, 0, 1) for allocation in space.model.allocations]
    return whole, [_choice(space, paths, candidate, state) for candidate in candidates]


def _priced_model(
    space: Space, paths: Paths, candidates: list[Candidate]
) -> tuple[list[Candidate], list[Item], list[Choice]]:
    """The same where cost counts, with the group of each choice: a kernel that may make its rows backward is
    there once for each direction, since backward it costs more."""
    state = {done: k for k, done in enumerate(_states(candidates))}
    whole, choices = _model(space, paths, candidates)
    groups: list[Candidate] = []
    found: list[Choice] = []
    for candidate, choice in zip(candidates, choices, strict=True):
        forward = _choice(space, paths, candidate, state, backward=False)
        groups.append(candidate)
        found.append(forward)
        if forward.apart != choice.apart:
            more = int(space.backward_cost(candidate.last) / COST_UNIT)
            groups.append(candidate)
            found.append(replace(choice, cost=choice.cost + more))
    return groups, whole, found


def _states(candidates: Sequence[Candidate]) -> list[int]:
    """The sets of finished kernels between groups, smallest first."""
    return sorted({0, *(c.after for c in candidates)}, key=lambda done: (done.bit_count(), done))


def _found(space: Space, candidates: list[Candidate], found: Selection) -> Found:
    path = tuple(candidates[k] for k in found.chosen)
    offsets = {a.name: found.whole[k] for k, a in enumerate(space.model.allocations) if a.size}
    return Found(path, offsets | _local(space, path, found.local), found.peak)


def _choice(
    space: Space, paths: Paths, candidate: Candidate, state: dict[int, int], *, backward: bool = True
) -> Choice:
    """A group as both searches know it; without `backward`, its rows are made from the first to the last."""
    footprint = space.footprint(candidate)
    items = footprint.group.items
    model = space.model
    stay = [a for a in bits(footprint.group.live_through) if model.allocations[a].size]
    inside = _inside(footprint.group)
    rest = [k for k in range(len(items)) if k not in inside]
    place = {k: n for n, k in enumerate([*rest, *inside])}
    shift = len(stay)
    distances: dict[tuple[int, int], int] = {}
    for pair in footprint.apart:
        distances[shift + place[pair.lower], shift + place[pair.upper]] = pair.distance
        if backward and pair.backward is not None:
            distances[shift + place[pair.upper], shift + place[pair.lower]] = pair.backward
    return Choice(
        state[candidate.before],
        state[candidate.after],
        candidate.least,
        int(paths.cost(candidate) / COST_UNIT),
        (*stay, *(items[k].allocation for k in rest)),
        tuple(Item(items[k].size, items[k].align, 0, 1) for k in inside),
        distances,
    )


def _local(space: Space, path: tuple[Candidate, ...], offsets: tuple[tuple[int, ...], ...]) -> dict[str, int]:
    """Offsets of rings and scratch by buffer name."""
    found: dict[str, int] = {}
    for candidate, names, places in zip(path, Builder(space, path).names(), offsets, strict=True):
        inside = _inside(space.footprint(candidate).group)
        found |= {names[k]: place for k, place in zip(inside, places, strict=True)}
    return found


def _inside(group: GroupMemory) -> list[int]:
    """The items of a group that nobody outside sees."""
    return [
        k for k, item in enumerate(group.items) if item.allocation < 0 or group.inside >> item.allocation & 1
    ]
