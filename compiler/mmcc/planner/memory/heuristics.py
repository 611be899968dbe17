# SPDX-License-Identifier: Apache-2.0
"""Offsets found quickly: each item in turn at the lowest free offset, in several orders, and a climb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from mmcc.planner.memory.problem import Pair, Problem, peak_of, sections

CLIMBS = 300  # rounds of local search before the exact solver is asked


def greedy(problem: Problem, goal: int, seed: int) -> list[int]:
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


def _shrunk(low: int, high: int, pair: Pair, output_first: bool) -> tuple[int, int]:
    """The barred starts of an item relative to another's, where one may be written over the other."""
    below = pair.distance
    above = pair.backward if pair.backward is not None else max(-low, high)
    return (max(low, -below), min(high, above)) if output_first else (max(low, -above), min(high, below))


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


def _joined(line: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for height, lo, hi in line:
        if joined and joined[-1][0] == height:
            joined[-1] = (height, joined[-1][1], hi)
        else:
            joined.append((height, lo, hi))
    return joined


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


def _promote(problem: Problem, offsets: list[int], order: list[int], random: Random) -> list[int]:
    """The order with an item that ends at the top moved to an earlier turn."""
    peak = peak_of(problem, offsets)
    top = [n for n, k in enumerate(order) if offsets[k] + problem.items[k].size == peak]
    here = random.choice(top)
    there = random.randrange(here + 1)
    trial = order[:here] + order[here + 1 :]
    trial.insert(there, order[here])
    return trial
