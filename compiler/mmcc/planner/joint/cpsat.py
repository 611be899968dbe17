# SPDX-License-Identifier: Apache-2.0
"""Groups and offsets chosen together with CP-SAT, where the best path is placed above its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, inf

from ortools.sat.python import cp_model

from mmcc.planner.cpsat import reproducible_solver
from mmcc.planner.memory.cpsat import cliques
from mmcc.planner.memory.problem import Item

PACE = 0.1  # the solver's deterministic seconds in one second of effort, which is about a second


@dataclass(frozen=True, slots=True)
class Choice:
    """One group that could run: from one state to another, what is alive then, and what may share bytes.

    `things` are whole tensors (numbers into the problem's) and then `local` sizes. `apart[a, b]` is how far
    thing b must start above thing a, if it starts above; where there is none, the size of a.
    """

    before: int
    after: int
    least: int
    cost: int
    whole: tuple[int, ...]
    local: tuple[Item, ...]
    apart: Mapping[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Selection:
    """Choices in order, offsets of whole tensors and of each choice's local things; and what was proved."""

    chosen: tuple[int, ...]
    whole: tuple[int, ...]
    local: tuple[tuple[int, ...], ...]
    peak: int


def select(
    whole: Sequence[Item],
    choices: Sequence[Choice],
    low: int,
    high: int,
    effort: float,
    seed: int,
) -> tuple[Selection | None, int]:
    """The path from state 0 to the last with the least peak in [low, high), and a bound on all of them.

    None with a bound of `high` means that there is none; with a lower bound, that the effort ran out.
    """
    joint = _Joint(whole, choices, low, high)
    joint.model.minimize(joint.peak)
    found, bound = joint.solve(effort, seed)
    return found, high if bound == inf else max(low, joint.unit * -int(-bound // 1))


def select_by_cost(
    whole: Sequence[Item], choices: Sequence[Choice], limit: int, effort: float, seed: int
) -> tuple[Selection | None, float]:
    """The path of least cost from state 0 to the last with a peak of at most `limit`, and a bound on the cost
    of all of them, infinite if there is none. None with a finite bound means that the effort ran out."""
    joint = _Joint(whole, choices, 0, limit + 1)
    joint.model.minimize(joint.cost)
    return joint.solve(effort, seed)


class _Joint:
    """Which groups, and where everything is, in one model."""

    def __init__(self, whole: Sequence[Item], choices: Sequence[Choice], low: int, high: int) -> None:
        self._whole, self._choices = whole, choices
        sizes = [item.size for item in whole] + [item.size for c in choices for item in c.local]
        aligns = [item.align for item in whole] + [item.align for c in choices for item in c.local]
        self.unit = gcd(*sizes, *aligns, *(d for c in choices for d in c.apart.values()))
        self._room = (high - 1) // self.unit
        self.model = cp_model.CpModel()
        self.peak = self.model.new_int_var(min(-(-low // self.unit), self._room), self._room, "")
        self._starts = [self._start(item) for item in whole]
        self._locals: list[list[cp_model.IntVar]] = []
        self._taken = [self.model.new_bool_var("") for _ in choices]
        self._flow()
        for taken, choice in zip(self._taken, choices, strict=True):
            self._add(taken, choice)

    @property
    def cost(self) -> cp_model.LinearExprT:
        """Of all groups taken."""
        return sum(choice.cost * taken for taken, choice in zip(self._taken, self._choices, strict=True))

    def solve(self, effort: float, seed: int) -> tuple[Selection | None, float]:
        """The best path that is found, and what none is below: infinite if there is none."""
        solver = reproducible_solver(effort * PACE, seed)
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            return None, inf
        found = self._read(solver) if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None
        return found, solver.best_objective_bound

    def _read(self, solver: cp_model.CpSolver) -> Selection:
        """The solver's answer."""
        order = sorted((k for k, taken in enumerate(self._taken) if solver.value(taken)), key=self._place)
        whole = tuple(self._offset(solver, s, i) for s, i in zip(self._starts, self._whole, strict=True))
        local = tuple(
            tuple(
                self._offset(solver, s, i)
                for s, i in zip(self._locals[k], self._choices[k].local, strict=True)
            )
            for k in order
        )
        return Selection(tuple(order), whole, local, solver.value(self.peak) * self.unit)

    def _place(self, choice: int) -> int:
        return self._choices[choice].before

    def _scale(self, item: Item) -> int:
        return max(1, item.align // self.unit)

    def _offset(self, solver: cp_model.CpSolver, start: cp_model.IntVar, item: Item) -> int:
        return solver.value(start) * self._scale(item) * self.unit

    def _start(self, item: Item) -> cp_model.IntVar:
        return self.model.new_int_var(
            0, max(0, (self._room - item.size // self.unit) // self._scale(item)), ""
        )

    def _flow(self) -> None:
        """Exactly one path."""
        last = max(c.after for c in self._choices)
        for state in sorted({0, *(c.after for c in self._choices)}):
            into = [t for t, c in zip(self._taken, self._choices, strict=True) if c.after == state]
            out = [t for t, c in zip(self._taken, self._choices, strict=True) if c.before == state]
            if state == 0:
                self.model.add_exactly_one(out)
            elif state == last:
                self.model.add_exactly_one(into)
            else:
                self.model.add(sum(into) == sum(out))

    def _add(self, taken: cp_model.IntVar, choice: Choice) -> None:
        """All that holds if this group is taken."""
        items = [*(self._whole[k] for k in choice.whole), *choice.local]
        local = [self._start(item) for item in choice.local]
        self._locals.append(local)
        starts = [
            start * self._scale(item)
            for start, item in zip([*(self._starts[k] for k in choice.whole), *local], items, strict=True)
        ]
        sizes = [item.size // self.unit for item in items]
        self.model.add(self.peak >= -(-choice.least // self.unit)).only_enforce_if(taken)
        for start, size in zip(starts, sizes, strict=True):
            self.model.add(start + size <= self.peak).only_enforce_if(taken)
        special = {frozenset(pair) for pair in choice.apart}
        intervals = [
            self.model.new_optional_fixed_size_interval_var(start, size, taken, "")
            for start, size in zip(starts, sizes, strict=True)
        ]
        for clique in cliques(range(len(items)), special):
            self.model.add_no_overlap([intervals[k] for k in clique])
        for pair in special:
            a, b = sorted(pair)
            above, below = self._distance(choice, a, b, sizes), self._distance(choice, b, a, sizes)
            if above <= -sizes[b] or below <= -sizes[a]:
                continue  # one is gone before the other begins
            first = self.model.new_bool_var("")
            self.model.add(starts[b] - starts[a] >= above).only_enforce_if(taken, first)
            self.model.add(starts[a] - starts[b] >= below).only_enforce_if(taken, ~first)

    def _distance(self, choice: Choice, a: int, b: int, sizes: Sequence[int]) -> int:
        return choice.apart[a, b] // self.unit if (a, b) in choice.apart else sizes[a]
