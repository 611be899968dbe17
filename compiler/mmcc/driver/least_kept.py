# SPDX-License-Identifier: Apache-2.0
"""Of all choices of what a step keeps, the one that keeps the fewest bytes within some work, by CP-SAT."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ortools.sat.python import cp_model

from mmcc.planner.cpsat import reproducible_solver
from mmcc.training.recompute import SavedValues

SECONDS = 2.0  # deterministic ones of the solver; networks of a hundred values take a few hundredths


@dataclass(frozen=True, slots=True)
class LeastKept:
    """The choice found, and the bytes that every choice keeps at least."""

    kept: frozenset[str]
    bytes: int


def least_kept(saved: SavedValues, work: int) -> LeastKept:
    """Which saved values a step keeps so that what is made again takes at most so many multiply-accumulates.

    A value that backward nodes read is kept or made again; so is each that is read to make one again.
    """
    model = cp_model.CpModel()
    kept = {value.name: model.new_bool_var(f"{value.name} is kept") for value in saved.values}
    again: dict[str, cp_model.IntVar] = {}
    waiting = list(saved.read)
    while waiting:
        name = waiting.pop()
        if name not in again and saved.is_forward(name):
            again[name] = model.new_bool_var(f"{name} is made again")
            waiting += saved.graph.producer[name].inputs
    for name in saved.read:
        _made_again_unless_kept(model, saved, kept, again, name, [])
    for reader, made in again.items():
        for name in saved.graph.producer[reader].inputs:
            _made_again_unless_kept(model, saved, kept, again, name, [made])
    model.add(sum(saved.macs(name) * made for name, made in again.items()) <= work)
    model.minimize(sum(value.bytes * kept[value.name] for value in saved.values))
    solver = reproducible_solver(SECONDS, 0)
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return LeastKept(frozenset(kept), 0)
    names = frozenset(name for name, chosen in kept.items() if solver.value(chosen))
    return LeastKept(names, ceil(solver.best_objective_bound - 1e-6))


def _made_again_unless_kept(
    model: cp_model.CpModel,
    saved: SavedValues,
    kept: dict[str, cp_model.IntVar],
    again: dict[str, cp_model.IntVar],
    name: str,
    where: list[cp_model.IntVar],
) -> None:
    if name not in again:
        return
    there = kept.get(saved.source(name))
    unless = [there] if there is not None else []
    model.add_bool_or(again[name], *unless, *(made.negated() for made in where))
