# SPDX-License-Identifier: Apache-2.0
"""What a training step keeps of its forward pass, and what it makes again, so that it needs less RAM.

Each choice is a graph of its own, in which nodes of the forward pass are there twice; groups, rows and
offsets of it are the planner's. Choices are planned in the order in which an estimate has them. No plan of a
choice has fewer bytes than what it keeps, since all of that is there when the loss is known: so most need not
be planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mmcc.ir.graph import Graph
from mmcc.ir.made_again import MadeAgain, SavedValue
from mmcc.ir.plan import Plan
from mmcc.ir.types import geometry
from mmcc.report.model import count_macs
from mmcc.training.recompute import SavedValues

FEW = 12  # saved values of which every choice is looked at
BEAM = 12  # else as many choices for each count of kept values
SMALL = 64  # a value that is so many times smaller than the largest is kept
MOST_PLANS = 8  # made
ROWS = 6  # of a value that is made again: what a group is guessed to hold of it

Planned = Callable[[Graph], tuple[Plan, int]]  # the plan with the smallest arena, and that


@dataclass(frozen=True, slots=True)
class _Choice:
    kept: frozenset[str]
    bytes: int  # of what is kept
    work: int  # multiply-accumulates of what is made again
    estimate: int  # of the arena


class KeptValues:
    """A search over choices for a step; `share` is the work allowed, in multiples of the step's."""

    def __init__(self, saved: SavedValues, planned: Planned, share: float) -> None:
        self._saved, self._planned = saved, planned
        self.macs = count_macs(saved.graph)
        self._most = int(self.macs * (share - 1))
        largest = max((value.bytes for value in saved.values), default=0)
        self._large = [value for value in saved.values if value.bytes * SMALL > largest]
        self._small = frozenset(value.name for value in saved.values if value not in self._large)
        self._bytes = {value.name: value.bytes for value in saved.values}

    def least(self) -> tuple[Graph, MadeAgain] | None:
        """The choice with the smallest arena; None if that makes nothing again."""
        ranked = sorted(self._choices, key=lambda choice: (choice.estimate, choice.work))
        best: tuple[int, _Choice, Graph] | None = None
        bounds: list[int] = []
        planned = 0
        for choice in ranked:
            if best is not None and choice.bytes >= best[0]:
                continue  # no plan of it is better
            if planned == MOST_PLANS:
                bounds.append(choice.bytes)
                continue
            graph = self._saved.recomputed(choice.kept)
            plan, arena = self._planned(graph)
            planned += 1
            bounds.append(plan.bound)
            if best is None or (arena, choice.work) < (best[0], best[1].work):
                best = arena, choice, graph
        if best is None or not self._again(best[1]):
            return None
        arena, choice, graph = best
        return graph, self._result(choice, arena, min([arena, *bounds]), planned, None)

    def within(self, limit: int) -> tuple[Graph, MadeAgain] | None:
        """A choice of little work whose arena is within the limit; None if none was found."""
        some = [choice for choice in self._choices if choice.bytes <= limit]
        near = [choice for choice in some if choice.estimate <= limit]
        far = [choice for choice in some if choice.estimate > limit]
        ranked = [*sorted(near, key=lambda c: c.work), *sorted(far, key=lambda c: c.estimate)]
        planned, bounds = 0, dict[frozenset[str], int]()
        best: tuple[int, _Choice, Graph] | None = None
        for choice in ranked:
            if planned == MOST_PLANS or (best is not None and choice.work >= best[1].work):
                continue
            graph = self._saved.recomputed(choice.kept)
            plan, arena = self._planned(graph)
            planned += 1
            bounds[choice.kept] = plan.bound
            if arena <= limit:
                best = arena, choice, graph
        if best is None:
            return None
        arena, choice, graph = best
        cheaper = [bounds.get(c.kept, c.bytes) for c in self._choices if c.work < choice.work]
        return graph, self._result(choice, arena, min(cheaper, default=limit + 1), planned, limit)

    def _result(self, choice: _Choice, arena: int, bound: int, planned: int, limit: int | None) -> MadeAgain:
        values = self._saved.values
        return MadeAgain(
            kept=tuple(value for value in values if value.name in choice.kept),
            again=self._again(choice),
            macs=self.macs,
            macs_again=choice.work,
            most_macs=self.macs + self._most,
            limit=limit,
            arena=arena,
            bound=bound if self._every else 0,
            planned=planned,
            choices=2 ** len(self._large),
        )

    def _again(self, choice: _Choice) -> tuple[SavedValue, ...]:
        return tuple(value for value in self._saved.values if value.name not in choice.kept)

    @property
    def _every(self) -> bool:
        """True if every choice is looked at."""
        return len(self._large) <= FEW

    @cached_property
    def _choices(self) -> list[_Choice]:
        """The choices with no more work than is allowed."""
        found = self._all() if self._every else self._some()
        return [choice for choice in found if choice.work <= self._most]

    def _all(self) -> Iterable[_Choice]:
        names = [value.name for value in self._large]
        for mask in range(2 ** len(names)):
            yield self._choice(frozenset(name for k, name in enumerate(names) if mask >> k & 1))

    def _some(self) -> Iterable[_Choice]:
        """From all values kept to none: of those with one fewer, the choices with the best estimates, and
        those that save most bytes for their work."""
        level = [self._choice(frozenset(value.name for value in self._large))]
        while level:
            yield from level
            fewer = {choice.kept - {name} for choice in level for name in choice.kept & self._kept_large}
            following = [self._choice(kept) for kept in fewer]
            by_bytes = sorted(following, key=lambda c: (c.estimate, c.work))[:BEAM]
            by_work = sorted(following, key=lambda c: (c.work / max(1, level[0].bytes - c.bytes), c.estimate))
            level = list({choice.kept: choice for choice in (*by_bytes, *by_work[:BEAM])}.values())

    @cached_property
    def _kept_large(self) -> frozenset[str]:
        return frozenset(value.name for value in self._large)

    def _choice(self, large: frozenset[str]) -> _Choice:
        kept = large | self._small
        size = sum(self._bytes[name] for name in kept)
        again, work = self._saved.made_again(kept), self._saved.work(kept)
        return _Choice(kept, size, work, size + self._rings(again, kept))

    def _rings(self, again: Sequence[str], kept: frozenset[str]) -> int:
        """A guess at what the largest group holds besides: some rows of each value between two kept ones."""
        graph, most, total, forward = self._saved.graph, 0, 0, set(again)
        for node in graph.nodes:
            for name in node.outputs:
                if name in kept:
                    total = 0
                elif name in forward and name in self._bytes:
                    rows, cols, channels = geometry(graph.tensors[name].shape)
                    line = graph.tensors[name].dtype.bytes(cols * channels)
                    total += min(rows, ROWS) * line
                    most = max(most, total)
        return most
