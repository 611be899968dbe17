# SPDX-License-Identifier: Apache-2.0
"""Exact placement with CP-SAT; one of four files that import ortools.

Is there a placement within a capacity? One no-overlap of offsets for each set of buffers alive together (or
one of rectangles, where these sets are many and large), and a fixed search in short slices, one branching
order after another. Then bisection on the capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import gcd
from random import Random

from ortools.sat.python import cp_model

from mmcc.planner.cpsat import reproducible_solver
from mmcc.planner.memory.heuristics import orders
from mmcc.planner.memory.problem import Problem, peak_of, sections

SLICE, SLICE_2D = 0.3, 1.0  # effort of the first attempts; doubles with every round
PACE, PACE_2D = (
    0.05,
    0.2,
)  # the solver's deterministic seconds in one second of effort, which is about a second
HEAVY = 10_000  # members of all sets together, from which a slice takes longer
CROWDED = 24  # sets that a buffer is in, on average, from which rectangles propagate faster
FIXED, SHUFFLED = 4, 4  # branching orders a round: by rule, and by rule with noise


@dataclass(frozen=True, slots=True)
class _Model:
    """Offsets of item k are `scale[k] * starts[k]` in units of `unit` bytes."""

    model: cp_model.CpModel
    starts: tuple[cp_model.IntVar, ...]
    scale: tuple[int, ...]
    unit: int
    slice: float
    pace: float
    weight: float  # what a second of effort costs: propagation of large models is slower than it is counted


def search(
    problem: Problem,
    best: Sequence[int],
    bound: int,
    goal: int,
    effort: float,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[int], int]:
    """Better offsets than `best` - none below `goal` is asked for - and a bound on the peak of any.

    `bound` is a lower bound, `goal` the same or a peak that is good enough. Half the effort that is left goes
    into each capacity tried: the lowest not ruled out first, then between it and the best.
    """
    unit = _unit(problem)
    found = list(best)
    low = bound  # below it is ruled out
    trial = unknown = -(-goal // unit) * unit  # below `unknown` is not worth more time
    while trial < (high := peak_of(problem, found)) and effort > SLICE:
        if progress is not None:
            progress(f"placement: {low} <= peak <= {high}, trying {trial}")
        answer, used = _within(problem, trial, effort / 2, seed)
        effort -= used
        if answer:
            found = answer
        elif answer is None:
            unknown = trial + unit
        else:
            low, unknown = trial + unit, max(unknown, trial + unit)
        trial = (unknown + peak_of(problem, found)) // 2 // unit * unit
    return found, min(low, peak_of(problem, found))


def _within(problem: Problem, capacity: int, budget: float, seed: int) -> tuple[list[int] | None, float]:
    """Offsets within the capacity, [] if there are none, None if the budget ran out; and what was used."""
    model = _build(problem, capacity)
    if model is None:
        return [], 0.0
    used, length, branchings = 0.0, model.slice, _branchings(problem, seed)
    while used + length * model.weight <= budget:
        for order in islice(branchings, FIXED + SHUFFLED):
            used += length * model.weight
            answer = _slice(model, order, length, seed)
            if answer is not None:
                return answer, used
            if used + length * model.weight > budget:
                break
        length *= 2
    return None, used


def _slice(model: _Model, order: Sequence[int], length: float, seed: int) -> list[int] | None:
    trial = model.model.clone()
    trial.add_decision_strategy(
        [model.starts[k] for k in order], cp_model.CHOOSE_LOWEST_MIN, cp_model.SELECT_MIN_VALUE
    )
    solver = reproducible_solver(length * model.pace, seed)
    solver.parameters.cp_model_presolve = False
    solver.parameters.linearization_level = 0
    solver.parameters.search_branching = cp_model.FIXED_SEARCH
    status = solver.solve(trial)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = (solver.value(start) for start in model.starts)
        return [v * s * model.unit for v, s in zip(values, model.scale, strict=True)]
    return [] if status == cp_model.INFEASIBLE else None


def _branchings(problem: Problem, seed: int) -> Iterator[list[int]]:
    """Branching orders without end: those by rule first, then the same with places shifted at random."""
    fixed = orders(problem)[:FIXED]
    random = Random(seed)
    while True:
        yield from fixed
        for n in range(SHUFFLED):
            base = fixed[n % FIXED]
            noise = {k: place + random.gauss(0.0, 0.1 * len(base)) for place, k in enumerate(base)}
            yield sorted(base, key=lambda k, noise=noise: noise[k])


def _unit(problem: Problem) -> int:
    """A number of bytes that divides every offset of some best placement.

    In a placement where everything is pushed down, an item starts where another ends or at its distance
    above it, rounded up to its alignment.
    """
    distances = [d for p in problem.pairs for d in (p.distance, p.backward) if d is not None]
    unit = gcd(*(item.size for item in problem.items), *distances)
    aligns = [item.align for item in problem.items]
    return unit if all(unit % align == 0 for align in aligns) else gcd(unit, *aligns)


def cliques(things: Iterable[int], free: Collection[frozenset[int]]) -> list[list[int]]:
    """Sets of things that may not share bytes with each other, so that every two not in `free` are in one."""
    left = list(things)
    place = {thing: k for k, thing in enumerate(left)}
    others: dict[int, set[int]] = {}  # with which a thing may share bytes
    for one, other in (sorted(pair) for pair in free):
        if one in place and other in place:
            others.setdefault(one, set()).add(other)
            others.setdefault(other, set()).add(one)
    some = sorted(others, key=lambda thing: place[thing])
    common = [thing for thing in left if thing not in others]  # they are in every set
    found: list[list[int]] = []
    seated, covered = set[int](), set[frozenset[int]]()  # of the others, and of pairs of them

    def missing(a: int, b: int) -> bool:
        if a in others and b in others:
            return b not in others[a] and frozenset((a, b)) not in covered
        return not found or any(thing in others and thing not in seated for thing in (a, b))

    for k, a in enumerate(left):
        later = left[k + 1 :] if a in others or not found else [b for b in some if place[b] > k]
        for b in later:
            if missing(a, b):
                mine = [thing for thing in (a, b) if thing in others]
                for c in some:
                    if c not in mine and others[c].isdisjoint(mine):
                        mine.append(c)
                seated.update(mine)
                covered.update(frozenset(pair) for pair in combinations(mine, 2))
                found.append(sorted([*common, *mine]))
    return found


def _build(problem: Problem, capacity: int) -> _Model | None:
    """The model, or None if an item alone is too large."""
    unit = _unit(problem)
    sizes = [item.size // unit for item in problem.items]
    room = capacity // unit
    if max(sizes) > room:
        return None
    scale = tuple(max(1, item.align // unit) for item in problem.items)
    model = cp_model.CpModel()
    starts = [model.new_int_var(0, (room - n) // s, "") for n, s in zip(sizes, scale, strict=True)]
    intervals = [
        model.new_fixed_size_interval_var(start * s, n, "")
        for start, s, n in zip(starts, scale, sizes, strict=True)
    ]
    groups = sections(problem)
    entries = sum(map(len, groups))
    crowded = not problem.pairs and entries > CROWDED * len(sizes)
    if crowded:
        lives = [model.new_fixed_size_interval_var(item.lo, item.hi - item.lo, "") for item in problem.items]
        model.add_no_overlap_2d(lives, intervals)
    partners: dict[int, list[frozenset[int]]] = {}
    for pair in problem.pairs:
        partners.setdefault(pair.output, []).append(frozenset((pair.output, pair.input)))
    for section in [] if crowded else groups:
        free = {pair for k in section for pair in partners.get(k, ()) if pair <= section}
        for clique in [sorted(section)] if not free else cliques(sorted(section), free):
            model.add_no_overlap([intervals[k] for k in clique])
    for pair in problem.pairs:
        output, input_ = starts[pair.output] * scale[pair.output], starts[pair.input] * scale[pair.input]
        below = model.new_bool_var("")
        distance = min(pair.distance // unit, sizes[pair.output])
        model.add(input_ - output >= distance).only_enforce_if(below)
        size = sizes[pair.input]
        above = size if pair.backward is None else min(pair.backward // unit, size)
        model.add(output - input_ >= above).only_enforce_if(~below)
    first, pace = (SLICE_2D, PACE_2D) if crowded else (SLICE, PACE)
    return _Model(model, tuple(starts), scale, unit, first, pace, max(1.0, entries / HEAVY))
