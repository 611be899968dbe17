# SPDX-License-Identifier: Apache-2.0
"""The fewest bytes kept within some work, by CP-SAT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from ortools.sat.python import cp_model

from mmcc.planner.cpsat import reproducible_solver

SECONDS = 2.0  # deterministic ones of the solver; networks of a hundred values take a few hundredths
ROUNDING = 1e-6  # of the solver's bound, which is a float


@dataclass(frozen=True, slots=True)
class Need:
    """`name` is made again, unless `kept` is (no value: ""), wherever `reader` is made again (always: "")."""

    reader: str
    name: str
    kept: str


@dataclass(frozen=True, slots=True)
class LeastKept:
    """The values that are kept, and the bytes that every choice keeps at least."""

    kept: frozenset[str]
    bytes: int


def fewest_bytes(
    sizes: Mapping[str, int], work: Mapping[str, int], needs: Iterable[Need], most: int
) -> LeastKept:
    """Which values of `sizes` are kept so that what is made again takes at most so much of `work`."""
    model = cp_model.CpModel()
    kept = {name: model.new_bool_var(f"{name} is kept") for name in sizes}
    again = {name: model.new_bool_var(f"{name} is made again") for name in work}
    for need in needs:
        unless = [kept[need.kept]] if need.kept else []
        unless += [again[need.reader].negated()] if need.reader else []
        model.add_bool_or(again[need.name], *unless)
    model.add(sum(work[name] * made for name, made in again.items()) <= most)
    model.minimize(sum(sizes[name] * chosen for name, chosen in kept.items()))
    solver = reproducible_solver(SECONDS, 0)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return LeastKept(frozenset(kept), 0)
    names = frozenset(name for name, chosen in kept.items() if solver.value(chosen))
    return LeastKept(names, max(0, ceil(solver.best_objective_bound - ROUNDING)))
