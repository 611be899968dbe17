# SPDX-License-Identifier: Apache-2.0
"""Offsets to be found: items with sizes and lives, and which of them may share bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


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
    """Items to be placed, and the pairs of them that may share bytes."""

    items: tuple[Item, ...]
    pairs: tuple[Pair, ...] = ()


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


def part_of(problem: Problem, part: Sequence[int]) -> Problem:
    """The problem of some of the items."""
    number = {k: n for n, k in enumerate(part)}
    inside = (p for p in problem.pairs if p.output in number and p.input in number)
    return Problem(
        tuple(problem.items[k] for k in part),
        tuple(replace(p, output=number[p.output], input=number[p.input]) for p in inside),
    )


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


def peak_of(problem: Problem, offsets: Sequence[int]) -> int:
    """Where the highest item ends."""
    return max((o + item.size for o, item in zip(offsets, problem.items, strict=True)), default=0)
