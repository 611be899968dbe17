# SPDX-License-Identifier: Apache-2.0
"""The groups of a graph whose channel Concats have no bytes, and what each needs at least in any layout.

Why this is a bound is told in `join_bound.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.joins import Joins
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.footprint import Footprint
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.schedule import Ints, Spans
from mmcc.planner.fusion.shared import Shared, mergeable
from mmcc.planner.fusion.space import Space
from mmcc.planner.fusion.stores import Store
from mmcc.planner.fusion.strips import Cut
from mmcc.planner.memory.allocations import bits
from mmcc.planner.memory.layout import Operand
from mmcc.planner.request import PlanRequest
from mmcc.planner.streaming.blocks import WeightStreaming

MOST_JOINS = 3  # in one group, of which both schedules are looked at


@dataclass(frozen=True, slots=True)
class GroupNodes:
    """A group by its nodes; the numbers of its kernels differ from layout to layout."""

    before: set[int]
    after: set[int]
    last: int

    def footprint(self, space: Space) -> Footprint | None:
        """What it holds in a layout; None if its last node has no code there."""
        kernel_of = {kernel.node: k for k, kernel in enumerate(space.model.kernels)}
        if self.last not in kernel_of:
            return None
        done = sum(1 << k for node, k in kernel_of.items() if node in self.before)
        then = sum(1 << k for node, k in kernel_of.items() if node in self.after)
        return space.footprint(Candidate(done, then, kernel_of[self.last], 0))


# The least of what a group needs, whatever is copied of some operands by join; the candidate is its key.
LeastOfLayouts = Callable[[GroupNodes, Candidate, Mapping[int, Sequence[Operand]]], int]


class Relaxed(Footprint):
    """What a group needs at least in any layout; `tight` is that in the layout which is best for it."""

    def __init__(
        self,
        group: GroupMemory,
        parts: int,
        *,
        unordered: bool,
        others: tuple[Relaxed, ...],
        exact: Callable[[int], int],
    ) -> None:
        """`parts` are the allocations that Concats join. `unordered`: nothing is known of moments. `others`
        are the group with other schedules; `exact` takes the allocations that it holds."""
        super().__init__(group)
        self._parts, self._others, self._exact = parts, others, exact
        self._unordered = unordered or (len(group.kernels) == 1 and group.held & parts != 0)

    @cached_property
    def least(self) -> int:
        others = [other.least for other in self._others]
        if self._unordered:
            group, size = self.group, self.group.shared.bytes
            return min([group.stay + max(size(group.last_used), size(group.defined)), *others])
        return min([super().least, *others])

    @cached_property
    def full(self) -> int:
        """Bytes that the group needs at least by any of its schedules, looking at all moments."""
        own = self.least if self._unordered else self._most(self._moments())
        return max(self.least, min([own, *(other.full for other in self._others)]))

    @cached_property
    def inner(self) -> int:
        own = self._together_at_most(self.group.inside & ~self._parts)
        return min([own, *(other.inner for other in self._others)])

    @cached_property
    def tight(self) -> int:
        return max(self.least, self._exact(self.group.held))

    def _bytes_at(self, store: Store, span: tuple[int, int], at: Ints) -> Ints:
        group = self.group
        if not group.inside & self._parts >> store.allocation & 1:
            return super()._bytes_at(store, span, at)
        height = group.shared.rows.allocations[store.allocation].height
        newest, oldest = np.zeros(len(at), np.int64), np.full(len(at), height, np.int64)
        for writer in store.writers:
            newest = np.maximum(newest, np.searchsorted(group.line.of(writer.kernel), at, side="right"))
        for kernel, read in store.reads:
            oldest = np.minimum(oldest, group.line.needed(kernel, read.line, at))
        return np.maximum(np.minimum(newest, height) - oldest, 0) * store.line

    def _reach(self, kernel: int) -> int:
        if any(self._parts >> read.allocation & 1 for read in self.group.rows[kernel].reads):
            return 0
        return super()._reach(kernel)


class Joinless(Space):
    """The groups of a graph without joins."""

    def __init__(
        self, graph: Graph, request: PlanRequest, joins: Joins, spans: Spans, least: LeastOfLayouts
    ) -> None:
        order = tuple(range(len(joins.model.kernels)))
        super().__init__(graph, joins.layout, joins.without(), order, request, spans)
        self._joins, self._least_of_layouts = joins, least
        self._parts = sum(1 << part for part in joins.every)
        self._number = {allocation.name: k for k, allocation in enumerate(joins.model.allocations)}
        self._walks: dict[int, Joinless] = {}

    def _scheduled(self, asking: int) -> Joinless:
        """These groups with schedules in which some joins ask for their parts themselves."""
        if asking not in self._walks:
            space = self._walks[asking] = copy(self)
            space.rows = self._joins.scheduled(asking)
            merges = mergeable(self.model, space.rows)
            space.shared = Shared(self.model, space.rows, self.request, merges)
            space.timelines = self.timelines.of(space.rows)
        return self._walks[asking]

    def _footprint(
        self,
        before: int,
        after: int,
        last: int,
        cut: Cut | None = None,
        tile: int = 0,
        streaming: WeightStreaming | None = None,
    ) -> Footprint:
        members = after & ~before
        between = [
            kernel
            for kernel in bits(members & ~(1 << last))
            if kernel in self._joins.kernels and self.model.kernels[kernel].before & members
        ]
        uneven = [kernel for kernel in between if kernel not in self._joins.even]
        many = len(uneven) > MOST_JOINS
        masks = [0]
        for kernel in () if many else uneven:
            masks += [asking | 1 << kernel for asking in masks]
        found: list[Relaxed] = []
        for asking in masks:
            space = self._scheduled(asking)
            alive, then = self.alive(before), self.alive(after)
            line, drained = space.timelines.line(before, members, last, then)
            schedule = Relaxed(
                GroupMemory(space.shared, line, members, alive, then, drained),
                self._parts,
                unordered=many or (bool(between) and bool(drained)),
                others=tuple(found[-1:]),
                exact=lambda held: self._exact(before, after, last, held),
            )
            found.append(schedule)
        return found[-1]

    def _exact(self, before: int, after: int, last: int, held: int) -> int:
        """The least of what a group needs in the layouts of operands whose bytes it holds, and of those of
        the joins that run in it. 0 for a join alone: no group, where it has no code.
        """
        kernels, members = self._joins.kernels, after & ~before
        if members == 1 << last and last in kernels:
            return 0
        touched: dict[int, list[Operand]] = {}
        for kernel in kernels:
            node = self.model.kernels[kernel].node
            for operand, name in enumerate(self.graph.nodes[node].inputs):
                if members >> kernel & 1 or self._joins.lying(self._number[name]) & held:
                    touched.setdefault(node, []).append((node, operand))
        done, then = ({self.model.kernels[k].node for k in bits(mask)} for mask in (before, after))
        group = GroupNodes(done, then, self.model.kernels[last].node)
        return self._least_of_layouts(group, Candidate(before, after, last, 0), touched)
