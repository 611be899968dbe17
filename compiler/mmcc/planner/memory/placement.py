# SPDX-License-Identifier: Apache-2.0
"""Offsets for buffers with live ranges: heuristics first, then an exact search where they miss the bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from mmcc.ir.plan import Buffer, Overlap

CLIMBS = 300  # rounds of local search before the exact solver is asked


@dataclass(frozen=True, slots=True)
class Item:
    """A buffer as the solvers see it: bytes, alignment, and the steps [lo, hi) of its life."""

    size: int
    align: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Item `output` may start at or below `input - distance`, or at or above `input + backward`.

    Both are alive at `step`, and together at no other.
    """

    step: int
    output: int
    input: int
    distance: int
    backward: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    items: tuple[Item, ...]
    pairs: tuple[Pair, ...] = ()


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
    parts = [p for p in components(Problem(items, pairs)) if p]
    bounds = [lower_bound(_part(items, pairs, part)) for part in parts]
    goal = max(bounds, default=0) if capacity is None else capacity
    bound = max(bounds, default=0)
    offsets = [0] * len(items)
    for part in parts:
        problem = _part(items, pairs, part)
        found, proved = _solve(problem, goal, effort, seed, progress)
        bound = max(bound, min(proved, peak_of(problem, found)))
        goal = max(goal, bound) if capacity is None else goal
        for k, offset in zip(part, found, strict=True):
            offsets[k] = offset
    peak = peak_of(Problem(items), offsets)
    return Placement({b.name: offsets[k] for k, b in enumerate(buffers)}, peak, bound)


def cover(size: int, dying: Sequence[tuple[int, int, int | None]]) -> int:
    """Fewest bytes an output and the inputs dying under it (distance, size, backward) cover together.

    Rows forward: the output starts at 0, and input k may start at `distance[k]` (beside the output: at its
    end). Inputs share no bytes with each other, so this is one machine with release times: taken by distance,
    each starts where the one before ends, or at its distance if that is higher. A start below 0 never helps:
    it adds to what is covered as much as it takes from the end. Rows backward are the mirror image: seen from
    the output's end downward, input k may start at `backward[k] + size - bytes[k]`. The lesser of both also
    holds where, of several inputs, some are beside the output. With an input more it grows by that input's
    bytes at most, which is what the search for an order relies on.
    """
    forward = [(distance, bytes_) for distance, bytes_, _ in dying]
    backward = [
        (size if back is None else min(back, bytes_) + size - bytes_, bytes_) for _, bytes_, back in dying
    ]
    return max(size, min(_stacked(forward, size), _stacked(backward, size)))


def _stacked(dying: Sequence[tuple[int, int]], size: int) -> int:
    """Where the last of some inputs ends: none starts before its distance, or the output's end."""
    end = 0
    for distance, bytes_ in sorted((min(distance, size), bytes_) for distance, bytes_ in dying):
        end = max(end, distance) + bytes_
    return end


def lower_bound(problem: Problem) -> int:
    """Most bytes alive at once, overlaps counted as favourably as they can be."""
    change: dict[int, int] = {}
    for item in problem.items:
        change[item.lo] = change.get(item.lo, 0) + item.size
        change[item.hi] = change.get(item.hi, 0) - item.size
    saved: dict[int, int] = {}
    for (step, output), pairs in _by_output(problem.pairs).items():
        size = problem.items[output].size
        dying = [(p.distance, problem.items[p.input].size, p.backward) for p in pairs]
        together = size + sum(s for _, s, _ in dying) - cover(size, dying)
        saved[step] = saved.get(step, 0) + together
    alive = bound = 0
    steps = sorted({*change, *saved, *(step + 1 for step in saved)})
    for step in steps:
        alive += change.get(step, 0)
        bound = max(bound, alive - saved.get(step, 0))
    return bound


def components(problem: Problem) -> list[list[int]]:
    """Items split wherever nothing is alive across a step; parts can be placed on their own."""
    order = sorted(range(len(problem.items)), key=lambda k: problem.items[k].lo)
    parts: list[list[int]] = []
    end = -1
    for k in order:
        if problem.items[k].lo >= end:
            parts.append([])
        parts[-1].append(k)
        end = max(end, problem.items[k].hi)
    return [sorted(part) for part in parts]


def peak_of(problem: Problem, offsets: Sequence[int]) -> int:
    """Where the highest item ends."""
    return max((o + item.size for o, item in zip(offsets, problem.items, strict=True)), default=0)


def sections(problem: Problem) -> list[frozenset[int]]:
    """The distinct maximal sets of items alive together, in order of time."""
    starts = sorted({item.lo for item in problem.items})
    by_start: dict[int, list[int]] = {}
    for k, item in enumerate(problem.items):
        by_start.setdefault(item.lo, []).append(k)
    alive: set[int] = set()
    found: list[frozenset[int]] = []
    for start in starts:
        alive = {k for k in alive if problem.items[k].hi > start} | set(by_start[start])
        if found and found[-1] <= alive:
            found.pop()
        found.append(frozenset(alive))
    return found


def first_fit(
    problem: Problem, order: Sequence[int], conflicts: Sequence[Sequence[tuple[int, int, int]]]
) -> list[int]:
    """Each item in turn at the lowest offset that the items before it leave free."""
    offsets = [-1] * len(problem.items)
    for k in order:
        item = problem.items[k]
        # Item k may not start strictly between `low` and `high`, for each one that is placed already.
        barred = sorted(
            (offsets[j] + low, offsets[j] + high) for j, low, high in conflicts[k] if offsets[j] >= 0
        )
        at = 0
        for low, high in barred:
            if at <= low:
                break
            if at < high:
                at = -(-high // item.align) * item.align
        offsets[k] = at
    return offsets


def conflicts_of(problem: Problem) -> list[list[tuple[int, int, int]]]:
    """For each item, those alive with it and the starts, relative to theirs, it may not have: ]low, high[."""
    items = problem.items
    over = {(p.output, p.input): p for p in problem.pairs}
    table: list[list[tuple[int, int, int]]] = [[] for _ in items]
    alive: list[int] = []
    for k in sorted(range(len(items)), key=lambda k: items[k].lo):
        alive = [j for j in alive if items[j].hi > items[k].lo]
        for j in alive:
            for a, b in ((j, k), (k, j)):
                low, high = -items[a].size, items[b].size
                for pair, output_first in ((over.get((a, b)), True), (over.get((b, a)), False)):
                    if pair is not None:
                        low, high = _shrunk(low, high, pair, output_first)
                table[a].append((b, low, high))
        alive.append(k)
    return table


def skyline(problem: Problem) -> list[int]:
    """Best fit (Sekiyama et al. 2018): in the lowest, earliest gap the item that lives longest in it."""
    items = problem.items
    waiting = sorted(range(len(items)), key=lambda k: (-(items[k].hi - items[k].lo), -items[k].size, k))
    end = max((item.hi for item in items), default=0)
    line: list[tuple[int, int, int]] = [(0, min((i.lo for i in items), default=0), end)]  # height, lo, hi
    offsets = [0] * len(items)
    while waiting:
        at = min(range(len(line)), key=lambda s: line[s][:2])
        height, lo, hi = line[at]
        fits = next((k for k in waiting if lo <= items[k].lo and items[k].hi <= hi), None)
        if fits is None:
            near = [line[s] for s in (at - 1, at + 1) if 0 <= s < len(line)]
            line[at] = (min(h for h, _, _ in near), lo, hi)
        else:
            item = items[fits]
            offsets[fits] = -(-height // item.align) * item.align
            waiting.remove(fits)
            top = (offsets[fits] + item.size, item.lo, item.hi)
            line[at : at + 1] = [
                s for s in ((height, lo, item.lo), top, (height, item.hi, hi)) if s[1] < s[2]
            ]
        line = _joined(line)
    return offsets


def orders(problem: Problem) -> list[list[int]]:
    """Orders of the items worth trying, greatest first; the exact solver branches in the first four."""
    items = problem.items
    spanned, crowd = [0] * len(items), [0] * len(items)
    for section in sections(problem):
        load = sum(items[k].size for k in section)
        for k in section:
            spanned[k] += 1
            crowd[k] = max(crowd[k], load)
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda k: (-crowd[k] * (items[k].hi - items[k].lo), -items[k].size, k),
        lambda k: (-spanned[k], -items[k].size, k),
        lambda k: (-spanned[k] * items[k].size, k),
        lambda k: (items[k].lo - items[k].hi, -items[k].size, k),
        lambda k: (-items[k].size, items[k].lo - items[k].hi, k),
        lambda k: (-items[k].size * (items[k].hi - items[k].lo), k),
        lambda k: (-crowd[k], -items[k].size, k),
        lambda k: (items[k].lo, -items[k].hi, k),
    ]
    return [sorted(range(len(items)), key=key) for key in keys]


def _shrunk(low: int, high: int, pair: Pair, output_first: bool) -> tuple[int, int]:
    """The barred starts of an item relative to another's, where one may be written over the other."""
    below = pair.distance
    above = pair.backward if pair.backward is not None else max(-low, high)
    return (max(low, -below), min(high, above)) if output_first else (max(low, -above), min(high, below))


def _meet_only_at(step: int, one: Item, other: Item) -> bool:
    """True if a step is the only one at which both are alive; an overlap allows nothing at any other."""
    return max(one.lo, other.lo) == step and min(one.hi, other.hi) == step + 1


def _by_output(pairs: Iterable[Pair]) -> dict[tuple[int, int], list[Pair]]:
    table: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        table.setdefault((pair.step, pair.output), []).append(pair)
    return table


def _part(items: tuple[Item, ...], pairs: tuple[Pair, ...], part: list[int]) -> Problem:
    number = {k: n for n, k in enumerate(part)}
    inside = (p for p in pairs if p.output in number and p.input in number)
    return Problem(
        tuple(items[k] for k in part),
        tuple(replace(p, output=number[p.output], input=number[p.input]) for p in inside),
    )


def _joined(line: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for height, lo, hi in line:
        if joined and joined[-1][0] == height:
            joined[-1] = (height, joined[-1][1], hi)
        else:
            joined.append((height, lo, hi))
    return joined


def _solve(
    problem: Problem, goal: int, effort: float, seed: int, progress: Callable[[str], None] | None
) -> tuple[list[int], int]:
    """Offsets with a peak of `goal` at most, or as little as can be, and the bound proved."""
    best = _greedy(problem, goal, seed)
    bound = lower_bound(problem)
    if peak_of(problem, best) <= max(goal, bound):
        return best, bound
    from mmcc.planner.memory.cpsat import search  # takes a second to import and is seldom needed

    return search(problem, best, bound, max(goal, bound), effort, seed, progress)


def _greedy(problem: Problem, goal: int, seed: int) -> list[int]:
    """The best of several orders and of a climb from the best of these; ends at the goal."""
    conflicts = conflicts_of(problem)
    best, best_order, best_peak = list[int](), list[int](), -1
    for order in orders(problem):
        found = first_fit(problem, order, conflicts)
        if best_peak < 0 or peak_of(problem, found) < best_peak:
            best, best_order, best_peak = found, order, peak_of(problem, found)
        if best_peak <= goal:
            return best
    found = skyline(problem)
    if peak_of(problem, found) < best_peak:
        best, best_peak = found, peak_of(problem, found)
    random = Random(seed)
    climbs = min(CLIMBS, 200_000 // (1 + sum(map(len, conflicts))))
    order = best_order
    for _ in range(climbs):
        if best_peak <= goal:
            break
        trial = _promote(problem, first_fit(problem, order, conflicts), order, random)
        found = first_fit(problem, trial, conflicts)
        if peak_of(problem, found) <= best_peak:
            best, best_peak, order = found, peak_of(problem, found), trial
    return best


def _promote(problem: Problem, offsets: list[int], order: list[int], random: Random) -> list[int]:
    """The order with an item that ends at the top moved to an earlier turn."""
    peak = peak_of(problem, offsets)
    top = [n for n, k in enumerate(order) if offsets[k] + problem.items[k].size == peak]
    here = random.choice(top)
    there = random.randrange(here + 1)
    trial = order[:here] + order[here + 1 :]
    trial.insert(there, order[here])
    return trial
