# SPDX-License-Identifier: Apache-2.0
"""Groups and offsets by dynamic programming: against all plans there are, and deep graphs that need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from random import Random

import pytest
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.joint.cpsat import Choice, Selection
from mmcc.planner.joint.dynamic import seated
from mmcc.planner.memory.problem import Item
from mmcc.planner.request import PlanRequest
from planner_graphs import Build

ROOM = 20  # bytes that are enough for every random problem


class Problem:
    """States 0 to n with one or two tensors alive, and groups between them that hold things of their own."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        count = random.randint(2, 3)
        self.whole = [Item(random.randint(2, 4), random.choice((1, 1, 2)), 0, 1) for _ in range(count + 1)]
        long = random.random() < 0.4  # the first tensor lives to the end
        self.alive = [tuple(sorted({0, k} if long else {k})) for k in range(count + 1)]
        self.choices: list[Choice] = []
        for before in range(count):
            for after in range(before + 1, min(count, before + 2) + 1):
                self.choices.append(self._choice(random, before, after))

    def _choice(self, random: Random, before: int, after: int) -> Choice:
        whole = [*self.alive[before], *(k for k in self.alive[after] if k not in self.alive[before])]
        random.shuffle(whole)
        local = tuple(Item(random.randint(1, 2), 1, 0, 1) for _ in range(random.randint(0, 2)))
        apart: dict[tuple[int, int], int] = {}
        sizes = [*(self.whole[k].size for k in whole), *(item.size for item in local)]
        out, into = whole.index(after), whole.index(before)
        if before not in self.alive[after] and random.random() < 0.8:
            apart[out, into] = random.randint(-2, sizes[out] - 1)
            if random.random() < 0.3:
                apart[into, out] = random.randint(0, sizes[into] - 1)
        for thing in range(len(whole), len(sizes)):
            if random.random() < 0.3:
                apart[out, thing] = random.randint(1, sizes[out])
        if len(local) > 1 and random.random() < 0.5:  # these two take turns
            apart[len(whole), len(whole) + 1] = -sizes[len(whole) + 1]
        return Choice(before, after, 0, random.randint(1, 9), tuple(whole), local, apart)

    def fits(self, choice: Choice, at: Sequence[int]) -> bool:
        """True if offsets of a group's things are far enough apart."""
        sizes = [*(self.whole[k].size for k in choice.whole), *(item.size for item in choice.local)]
        return all(
            at[b] - at[a] >= choice.apart.get((a, b), sizes[a])
            or at[a] - at[b] >= choice.apart.get((b, a), sizes[b])
            for a in range(len(sizes))
            for b in range(a)
        )

    def least(self) -> int:
        """By trying all offsets of all tensors and things on all paths, byte by byte."""
        return next(peak for peak in range(ROOM) if self._within(peak))

    def _within(self, peak: int) -> bool:
        seats = {(0, offsets) for offsets in self._offsets(self.alive[0], peak)}
        for choice in sorted(self.choices, key=lambda c: c.after):
            for state, offsets in sorted(seats):
                if state == choice.before:
                    fixed = dict(zip(self.alive[state], offsets, strict=True))
                    new = [k for k in choice.whole if k not in fixed]
                    for placed in self._offsets(new, peak):
                        at = fixed | dict(zip(new, placed, strict=True))
                        own = [range(peak - item.size + 1) for item in choice.local]
                        if any(
                            self.fits(choice, [*(at[k] for k in choice.whole), *o]) for o in product(*own)
                        ):
                            seats.add((choice.after, tuple(at[k] for k in self.alive[choice.after])))
        return any(state == len(self.alive) - 1 for state, _ in seats)

    def _offsets(self, names: Sequence[int], peak: int) -> Iterator[tuple[int, ...]]:
        items = [self.whole[k] for k in names]
        for at in product(*(range(0, peak - item.size + 1, item.align) for item in items)):
            apart = (
                at[a] + items[a].size <= at[b] or at[b] + items[b].size <= at[a]
                for a, b in permutations(range(len(items)), 2)
            )
            if names != self.alive[0] or all(apart):
                yield at


def wrong(problem: Problem, found: Selection) -> str:
    """What is wrong with groups and offsets; nothing if all fits."""
    state = 0
    for k, local in zip(found.chosen, found.local, strict=True):
        choice = problem.choices[k]
        at = [*(found.whole[name] for name in choice.whole), *local]
        sizes = [*(problem.whole[n].size for n in choice.whole), *(i.size for i in choice.local)]
        if choice.before != state or not problem.fits(choice, at):
            return f"group {k}"
        if min(at) < 0 or max(a + size for a, size in zip(at, sizes, strict=True)) > found.peak:
            return f"peak of group {k}"
        state = choice.after
    return "" if state == len(problem.alive) - 1 else "end"


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_the_least_of_all_plans(first: int) -> None:
    """Random states and groups: the bound is never above the least peak, a plan never below it; they meet."""
    proved = 0
    for seed in range(first, first + 20):
        problem = Problem(seed)
        found, bound = seated(problem.whole, problem.choices, problem.alive, 0, ROOM)
        least = problem.least()
        assert found is not None, seed
        assert wrong(problem, found) == "", seed
        assert bound <= least <= found.peak, seed
        proved += bound == found.peak
        assert seated(problem.whole, problem.choices, problem.alive, 0, least)[0] is None
    assert proved >= 18


def residuals(blocks: int, windows: Sequence[int]) -> Graph:
    """Blocks of convolutions with such windows, and what goes in added to what comes out."""
    b = Build("residuals")
    x = b.input(32, 32, 16)
    for _ in range(blocks):
        y = x
        for window in windows:
            y = b.conv(y, 16, window)
        x = b.sum(y, x)
    return b.graph(x)


@pytest.mark.parametrize(("windows", "least"), [((3, 1), 18_944), ((3,), 18_432), ((3, 3), 18_432)])
def test_a_deep_net_needs_no_more_than_a_short_one(windows: tuple[int, ...], least: int) -> None:
    """One block alone writes its result a row below what it reads: plans of such groups sink, and end at
    twice the bytes. Two blocks in one group keep their place, so that any number of them need no more."""
    for blocks in (6, 45):
        graph = residuals(blocks, windows)
        made = best_plan(graph, PlanRequest())
        assert check_plan(graph, made) == []
        assert (made.peak(SRAM), made.proved_optimal) == (least, True), blocks


def test_a_net_of_a_thousand_kernels() -> None:
    """Its groups are like those of a short one, and only these are looked at."""
    graph = residuals(334, (3, 1))
    made = best_plan(graph, PlanRequest())
    assert len(graph.nodes) == 1_002
    assert (made.peak(SRAM), made.proved_optimal) == (18_944, True)
