# SPDX-License-Identifier: Apache-2.0
"""What a training step keeps of its forward pass, what it makes again, and what it pages, to need less RAM.

Each choice is a graph of its own, in which nodes of the forward pass are there twice, or copies to slow
memory and back stand between; groups, rows and offsets of it are the planner's. Choices are planned in the
order in which an estimate has them. No plan of a choice has fewer bytes than what it keeps, where all of that
is there when the loss is known (`SavedValues.at_the_loss`): so most need not be planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import fsum

from mmcc.driver.choice_plan import Asked, Planned
from mmcc.driver.least_kept import least_kept
from mmcc.ir.graph import Graph
from mmcc.ir.made_again import MadeAgain, SavedValue
from mmcc.ir.plan import Plan
from mmcc.ir.types import geometry
from mmcc.passes.separate_states import separate_states
from mmcc.planner.cost import node_cost
from mmcc.planner.paging import slow_bytes, traffic
from mmcc.report.model import count_macs
from mmcc.training.recompute import SavedValues
from mmcc.training.stretches import Stretches

FEW = 4096  # choices that are all looked at
BEAM = 12  # else as many for each count of kept values
SMALL = 64  # a value that is so many times smaller than the largest is kept
MOST_PLANS = 8  # besides that which keeps everything; half of it with slow memory, where each is more work
MOST_NODES = 150  # of a step each of whose choices is planned as well as can be
CLOSE = 50  # where not all choices are looked at, one part in so many more than the least is good enough
ROWS = 6  # of a value that is paged, or a gradient: what a group is guessed to hold of it
MOST_WAITING = 2.0  # time of a step with what it waits for slow memory, in multiples of that without


@dataclass(frozen=True, slots=True)
class SlowMemory:
    """Memory that values may wait in: its bytes, and the cycles that a byte takes there or back."""

    bytes: int = 0
    cycles: float = 0.0


@dataclass(frozen=True, slots=True)
class _Choice:
    kept: frozenset[str]
    paged: frozenset[str]
    cut: bool  # gradients between layers are paged, too: no group ends with a whole one in the arena
    bytes: int  # of what is kept, and of inputs that are read backward
    work: int  # multiply-accumulates of what is made again
    cost: float  # of these, and a guess at what copies are waited for, in multiply-accumulates
    estimate: int  # of the arena
    twice: str = ""  # an end of a block: what is before it and made again is made once more behind it


class KeptValues:
    """A search over choices for a step.

    `share` is the work allowed, in multiples of the step's; where there is slow memory, a step may also wait
    for it, as long as its time in all is at most `waiting` times that of the step. `figures` are those of the
    target's costs.
    """

    def __init__(
        self,
        saved: SavedValues,
        planned: Planned,
        share: float,
        slow: SlowMemory | None = None,
        figures: Mapping[str, float] | None = None,
        waiting: float = MOST_WAITING,
    ) -> None:
        self._saved, self._planned, self._slow = saved, planned, slow or SlowMemory()
        self._figures = figures or {}
        self.macs = count_macs(saved.graph)
        self._most = int(self.macs * (share - 1))
        self._most_cost = self.macs * ((waiting if self._slow.bytes else share) - 1)
        cycles = {
            node.outputs[0]: node_cost(saved.graph, node, self._figures).work for node in saved.graph.nodes
        }
        self._cycles, self._cycles_of_mac = cycles, sum(cycles.values()) / max(1, self.macs)
        self._most_plans = MOST_PLANS // 2 if self._slow.bytes else MOST_PLANS
        largest = max((value.bytes for value in saved.values), default=0)
        self._large = [value for value in saved.values if value.bytes * SMALL > largest]
        self._small = frozenset(value.name for value in saved.values if value not in self._large)
        self._gradients = [value for value in saved.gradients if value.bytes * SMALL > largest]
        self._parts = Stretches(saved.graph)
        self._position = {name: k for k, node in enumerate(saved.graph.nodes) for name in node.outputs}
        self._bytes = {value.name: value.bytes for value in (*saved.values, *self._gradients)}

    def least(self) -> tuple[Graph, MadeAgain] | None:
        """The choice with the smallest arena; None if that keeps everything, which is planned in any case."""
        everything = min(self._choices, key=lambda choice: (choice.cost, choice.estimate))
        ranked = sorted(self._choices, key=lambda choice: (choice.estimate, choice.cost))
        best: tuple[int, _Choice, Graph] | None = None
        bounds: list[int] = []
        planned = refused = 0
        low = 0 if self._every else self._bound(self._most)
        enough = low * (CLOSE + 1) // CLOSE
        # that which keeps everything comes last: most often something that was found needs less than it keeps
        tried = dict.fromkeys(choice for choice in (*self._least_of_blocks, *ranked) if choice != everything)
        for whole in (*self._unlike_first(tried), everything):
            if best is not None and self._least_lean(whole) > best[0]:
                continue
            choice = self._lean(whole)
            least = self._saved.least(choice.kept)
            if best is not None and (least, choice.cost) >= (best[0], best[1].cost):
                continue  # no plan of it is better
            many = planned >= self._most_plans + len(self._least_of_blocks) or choice.cost > self._most_cost
            many = many or (refused >= self._most_plans and bool(self._leaving(choice)))
            if (many and whole != everything) or (best is not None and best[0] <= enough):
                bounds.append(least)
                continue
            graph = self._saved.recomputed(choice.kept, self._leaving(choice), choice.twice)
            plan, arena = self._planned(graph, self._asked(least, None if best is None else best[0] + 1))
            planned += 1
            bounds.append(plan.bound)
            choice = self._timed(choice, graph, plan)
            if choice.cost > self._most_cost and whole != everything:
                planned, refused = planned - 1, refused + 1  # it waits longer than was guessed
                continue
            if best is None or (arena, choice.cost) < (best[0], best[1].cost):
                best = arena, choice, graph
        if best is None or not (self._again(best[1]) or self._leaving(best[1])):
            return None
        arena, choice, graph = best
        bound = min([arena, *bounds]) if self._every else low
        return graph, self._result(choice, arena, bound, planned, None)

    def within(self, limit: int) -> tuple[Graph, MadeAgain] | None:
        """A choice of little work and waiting whose arena is within the limit; None if none was found."""
        usable = (choice for choice in self._choices if choice.cost <= self._most_cost)
        some = [choice for choice in usable if self._saved.least(choice.kept) <= limit]
        near = [choice for choice in some if choice.estimate <= limit]
        far = [choice for choice in some if choice.estimate > limit]
        ranked = [*sorted(near, key=lambda c: c.cost), *sorted(far, key=lambda c: c.estimate)]
        planned, bounds = 0, dict[_Choice, int]()
        best: tuple[int, _Choice, Graph] | None = None
        for whole in ranked:
            if planned == self._most_plans or (best is not None and whole.cost >= best[1].cost):
                continue
            choice = self._lean(whole)
            graph = self._saved.recomputed(choice.kept, self._leaving(choice), choice.twice)
            plan, arena = self._planned(graph, self._asked(self._saved.least(choice.kept), limit + 1))
            planned += 1
            bounds[whole] = plan.bound
            choice = self._timed(choice, graph, plan)
            if arena <= limit and choice.cost <= (self._most_cost if best is None else best[1].cost):
                best = arena, choice, graph
        if best is None:
            return None
        arena, choice, graph = best
        cheaper = [
            bounds[c] if c in bounds else self._saved.least(c.kept)
            for c in self._choices
            if c.cost < choice.cost
        ]
        bound = min(cheaper, default=limit + 1)
        if self._slow.bytes:
            bound = 0  # waiting is but predicted
        elif not self._every and choice.work:
            bound = self._bound(choice.work - 1)
        return graph, self._result(choice, arena, bound, planned, limit)

    def _unlike_first(self, choices: Iterable[_Choice]) -> list[_Choice]:
        """Choices in their order; where few of them are planned, those first that no other before is like: of
        equal layers it makes little difference which one's value is kept."""
        found, alike = dict[tuple[int, int, float], _Choice](), list[_Choice]()
        for choice in choices:
            if found.setdefault((choice.estimate, choice.bytes, choice.cost), choice) is not choice:
                alike.append(choice)
        return list(choices) if self._every else [*found.values(), *alike]

    def _timed(self, choice: _Choice, graph: Graph, plan: Plan) -> _Choice:
        """The choice with what its plan waits for slow memory, as far as that is predicted, in its cost."""
        if not self._leaving(choice):
            return choice
        waits = traffic(separate_states(graph), plan, self._figures, self._slow.cycles).stalls
        return replace(choice, cost=choice.work + waits / self._cycles_of_mac)

    def _asked(self, least: int, below: int | None) -> Asked:
        """What is asked of a choice's plan. Where not all choices are looked at, none of them is proved by
        what its own plans are not below."""
        many = not self._every and len(self._saved.graph.nodes) > MOST_NODES
        slow = self._slow.bytes > 0
        return Asked(below, least, rough=slow or many, slow_cycles=self._slow.cycles if slow else 0.0)

    def _result(self, choice: _Choice, arena: int, bound: int, planned: int, limit: int | None) -> MadeAgain:
        values = self._saved.values
        return MadeAgain(
            kept=tuple(value for value in values if value.name in choice.kept),
            again=self._again(choice),
            paged=tuple(v for v in (*values, *self._gradients) if v.name in self._leaving(choice)),
            macs=self.macs,
            macs_again=choice.work,
            most_macs=self.macs + self._most,
            limit=limit,
            arena=arena,
            bound=bound,
            planned=planned,
            choices=self._ways ** len(self._large) * (self._ways - 1),
            slow_cycles=self._slow.cycles,
        )

    def _again(self, choice: _Choice) -> tuple[SavedValue, ...]:
        there = choice.kept | choice.paged
        return tuple(value for value in self._saved.values if value.name not in there)

    def _bound(self, work: int) -> int:
        """What no choice has an arena below, also of those that were left out, with at most so much work.
        With slow memory every value may leave, at no work."""
        inputs = self._saved.least(())
        if self._slow.bytes:
            return inputs
        return inputs + least_kept(self._saved, work, self._saved.at_the_loss).bytes

    @property
    def _ways(self) -> int:
        """A value is kept or made again, or paged."""
        return 3 if self._slow.bytes else 2

    @property
    def _every(self) -> bool:
        """True if every choice is looked at."""
        return self._ways ** len(self._large) <= FEW

    @cached_property
    def _choices(self) -> list[_Choice]:
        """The choices within slow memory, with no more work than is allowed."""
        whole = self._all() if self._every else self._some()
        found = [choice for choice in whole if choice.work <= self._most]
        cuts = [self._cut(choice) for choice in found if self._ways > 2 and not choice.twice]
        return [choice for choice in (*found, *cuts) if self._fits(choice)]

    def _cut(self, choice: _Choice) -> _Choice:
        """The choice with gradients between layers paged, too."""
        small = choice.kept & self._small
        return self._choice(choice.kept - small, choice.paged, cut=True, small=small)

    def _fits(self, choice: _Choice) -> bool:
        return slow_bytes([self._bytes[name] for name in self._leaving(choice)]) <= self._slow.bytes

    def _leaving(self, choice: _Choice) -> frozenset[str]:
        """All that a choice pages."""
        return choice.paged | {value.name for value in self._gradients} if choice.cut else choice.paged

    def _all(self) -> Iterable[_Choice]:
        names = [value.name for value in self._large]
        for ways in product(range(self._ways), repeat=len(names)):
            kept, paged = (
                frozenset(name for name, way in zip(names, ways, strict=True) if way == wanted)
                for wanted in (1, 2)
            )
            yield self._choice(kept, paged)

    def _some(self) -> Iterable[_Choice]:
        """That which keeps the fewest bytes, those of blocks, and from all values kept to none: of those with
        one fewer, the choices with the best estimates, and those that save most bytes for what they cost."""
        yield from self._blocks
        least = least_kept(self._saved, self._most).kept
        yield self._choice(least & self._kept_large, frozenset(), small=least & self._small)
        level = [self._choice(self._kept_large, frozenset())]
        while level:
            yield from level
            # in the order of values: that of a set is another one in each process
            pairs = dict.fromkeys(
                (choice.kept - {name} - self._small, choice.paged | more)
                for choice in level
                for name in (value.name for value in self._large if value.name in choice.kept)
                for more in (frozenset[str](), frozenset({name}))[: self._ways - 1]
            )
            tried = (self._choice(*pair) for pair in pairs)
            following = [c for c in tried if c.work <= self._most and self._fits(c)]
            by_bytes = sorted(following, key=lambda c: (c.estimate, c.cost))[:BEAM]
            by_cost = sorted(following, key=lambda c: (c.cost / max(1, level[0].bytes - c.bytes), c.estimate))
            level = list({(c.kept, c.paged): c for c in (*by_bytes, *by_cost[:BEAM])}.values())

    @cached_property
    def _blocks(self) -> list[_Choice]:
        """Of a network of blocks, choices that keep but the ends of blocks, from each end on. A beam, which
        drops a value at a time, does not come by these where inner values of one block alone save little."""
        ends = [name for name in self._saved.ends if name in self._kept_large]
        if self._every or len(ends) == len(self._large):
            return []
        once = [self._choice(frozenset(ends[k:]), frozenset()) for k in range(len(ends) + 1)]
        return once + [self._twice(choice, end) for k, choice in enumerate(once) for end in ends[:k]]

    def _twice(self, choice: _Choice, end: str) -> _Choice:
        """The choice with what is before an end made twice, so that two groups go backward in its place, with
        the whole gradient of the end between them."""
        again = self._saved.made_again(choice.kept)
        more = self._saved.made_twice(again, end)
        late = [name for name in again if name not in more]
        held = max(
            (self._parts.bytes_held(part) for some in (more, late) for part in self._parts.of(some)),
            default=0,
        )
        work = sum(map(self._saved.macs, more))
        estimate = max(choice.bytes, self._bytes[end] + held)
        return replace(choice, work=choice.work + work, cost=choice.cost + work, estimate=estimate, twice=end)

    @cached_property
    def _least_of_blocks(self) -> list[_Choice]:
        """Those of them with the least estimates, one in which nothing is made twice and one in which
        something is: they are always planned. None if there are no blocks."""
        usable = [choice for choice in self._blocks if choice.work <= self._most]
        ranked = sorted(usable, key=lambda choice: (choice.estimate, choice.cost))
        parts = ([c for c in ranked if not c.twice], [c for c in ranked if c.twice])
        return [choice for part in parts for choice in part[:1]]

    @cached_property
    def _kept_large(self) -> frozenset[str]:
        return frozenset(value.name for value in self._large)

    def _choice(
        self,
        large: frozenset[str],
        paged: frozenset[str],
        *,
        cut: bool = False,
        small: frozenset[str] | None = None,
    ) -> _Choice:
        """What is known of a choice, which keeps all small values unless `small` says which."""
        kept = large | (self._small if small is None else small)
        size = self._saved.given + sum(self._bytes[name] for name in kept)
        again, work = self._saved.made_again(kept, paged), self._saved.work(kept, paged)
        leaving = paged.union(value.name for value in self._gradients if cut)
        # in any order the same, so that choices which are alike are, to the last bit
        cost = work + fsum(self._waiting[name] for name in leaving) / self._cycles_of_mac
        estimate = self._arena(again, kept, paged)
        if self._ways > 2:
            estimate = max(estimate, size + self._between(cut=cut))
        return _Choice(kept, paged, cut, size, work, cost, estimate)

    def _least_lean(self, choice: _Choice) -> int:
        """What no plan of a choice is below, whichever of its small values are kept."""
        return self._saved.least(choice.kept if self._every else choice.kept - self._small)

    def _lean(self, choice: _Choice) -> _Choice:
        """The choice without those small values that a stretch makes again at no more work: taps of a pool
        whose input is made again, say. With them a choice is one of all that are looked at (`_every`)."""
        if self._every or choice.twice or not self._again(choice):
            return choice
        large = choice.kept - self._small
        for name in sorted(choice.kept & self._small, key=lambda name: (-self._bytes[name], name)):
            small = (choice.kept & self._small) - {name}
            fewer = self._choice(large, choice.paged, cut=choice.cut, small=small)
            if fewer.cost <= choice.cost and fewer.estimate < choice.estimate:
                choice = fewer
        return choice

    def _between(self, *, cut: bool) -> int:
        """A guess at what gradients take: a whole one between groups, or some rows of one."""
        rows = [self._some_rows(value.name) for value in self._gradients]
        if cut:
            return max(rows, default=0)
        return min(sum(rows), max((value.bytes for value in self._gradients), default=0))

    def _some_rows(self, name: str) -> int:
        rows, cols, channels = geometry(self._saved.graph.tensors[name].shape)
        return min(rows, ROWS) * self._saved.graph.tensors[name].dtype.bytes(cols * channels)

    @cached_property
    def _waiting(self) -> dict[str, float]:
        """By value, a guess at the cycles that its copies are waited for: beside the node that makes it, and
        beside the nodes that read it backward."""
        found: dict[str, float] = {}
        for value in (*self._large, *self._gradients):
            readers = [node.outputs[0] for node in self._saved.readers(value.name)]
            beside = self._cycles[value.name], sum(self._cycles[name] for name in readers)
            copy = value.bytes * self._slow.cycles
            row = copy / geometry(self._saved.graph.tensors[value.name].shape)[0]
            found[value.name] = sum(max(row, copy - cycles) for cycles in beside)
        return found

    def _arena(self, again: Sequence[str], kept: frozenset[str], paged: frozenset[str]) -> int:
        """A guess at the arena: of what is kept until a stretch between kept values is gone through backward,
        and of the rows that it holds of what it makes again; or of all that is kept, at the loss."""
        total = self._saved.given + sum(self._bytes[name] for name in kept)
        most = total
        for stretch in self._parts.of(again):
            last = max(self._position[name] for name in stretch)
            there = sum(self._bytes[name] for name in kept if self._position[name] <= last)
            there += self._saved.given
            most = max(most, there + self._parts.bytes_held(stretch))
        pages = sum(self._some_rows(name) for name in paged)
        return most + pages
