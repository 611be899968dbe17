# SPDX-License-Identifier: Apache-2.0
"""Layouts of a graph with the paths of their groups, and the layout with the least bound.

Where operands of joins are few, all layouts are looked at. Where they are many, those that change what the
largest group touches are; `value_bound` and `join_bound` tell what no layout is below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.bound import trivial_bound
from mmcc.planner.bounds.join_bound import join_bound
from mmcc.planner.bounds.value_bound import value_bound
from mmcc.planner.fusion.lazy import LazyPaths, soon_found
from mmcc.planner.fusion.paths import Paths, Table
from mmcc.planner.fusion.scalars import NEAR
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import LayoutChoice, choices_of
from mmcc.planner.memory.allocations import bits, make_model
from mmcc.planner.memory.layout import Operand, make_layout, subsets
from mmcc.planner.memory.order import best_order
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.request import PlanRequest

FEW_OPERANDS = 6  # up to this many operands of joins, every choice of which to copy is tried
MOST_IN_STRIPS = 100  # kernels of a graph whose groups are listed with all their strips
BRIEF = 150  # kernels of a graph in which other layouts are searched as far as a path is found soon
FOOTPRINTS_TRIED = 30_000  # other layouts are tried until so many groups were looked at,
KEPT = 1_000  # kernels of all layouts together whose groups are looked at once for all searches
SMALL_GRAPH = 100  # in a graph of up to so many kernels; in larger ones a group is more work


class Layouts:
    """The layouts looked at so far. `first` are those that every search begins with."""

    def __init__(self, graph: Graph, request: PlanRequest, first: LayoutChoice) -> None:
        """`first` is the layout that is looked at before all others."""
        self._graph, self._request = graph, request
        # The least is searched for in the same way whatever the limit is: bytes that were once said to be
        # enough are found again where they are the limit.
        self._unlimited = request if request.limit is None else replace(request, limit=0)
        self._safe_offset = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
        self.operands = choices_of(graph, request.external(graph))
        self.every_layout = len(self.operands) <= FEW_OPERANDS
        copies = subsets(self.operands) if self.every_layout else iter((frozenset[Operand](),))
        self._choices = {first.layout.in_place: first}
        for copied in copies:
            self._choice(copied)
        self.first = tuple(self._choices.values())
        self._spaces: dict[tuple[object, int | None, bool], Space] = {}
        self.spans = Spans(graph)
        self.macs = request.recompute * sum(self.spans.nest(k).macs for k in range(len(graph.nodes)))
        self._soon = soon_found(len(first.model.kernels), request)
        self.joined = max(trivial_bound(graph, request), request.at_least)  # bytes that no layout goes below
        size = max(1.0, len(first.model.kernels) / SMALL_GRAPH)
        self._footprints_left = FOOTPRINTS_TRIED * request.budget / size**2
        self.slack = 0  # bytes by which some path may need less than the least that was found (`Paths.slack`)
        self.every_group = True  # so far no groups were left out of what was looked at

    def of(self, paths: Paths) -> LayoutChoice:
        """The layout that groups are in."""
        return self._choices[paths.space.layout.in_place]

    def paths(self, choice: LayoutChoice, most: int) -> Paths:
        """The paths of a layout whose groups need at most `most` bytes."""
        return self._paths(self.space(choice, self._unlimited), most)

    def _paths(self, space: Space, most: int, *, brief: bool = False, glance: bool = False) -> Paths:
        """`brief` if those of another layout are known."""
        request = self._unlimited
        many = len(space.model.kernels) > MOST_IN_STRIPS
        if request.staging is None and (request.recompute <= 1 or many):
            self.every_group = self.every_group and request.recompute <= 1
            layouts = len(self.first)
            return LazyPaths(space, most, self.joined, brief=brief, glance=glance, layouts=layouts)
        return self.listed(space, most)

    def table(self, choice: LayoutChoice, most: int, request: PlanRequest | None = None) -> Table:
        """The same with all groups listed."""
        return self.listed(self.space(choice, request or self._unlimited), most)

    def listed(self, space: Space, most: int) -> Table:
        """All groups of a space that need at most `most` bytes."""
        table = Table(space, most)
        self.every_group = self.every_group and space.complete
        return table

    def space(self, choice: LayoutChoice, request: PlanRequest) -> Space:
        """All groups of a layout; where they are few, with what is known of them from earlier searches."""
        key = choice.layout.in_place, request.limit, request.fuse
        if key in self._spaces:
            return self._spaces[key]
        made = Space(self._graph, choice.layout, choice.model, choice.ordering.order, request, self.spans)
        if len(self.first) * len(choice.model.kernels) <= KEPT and any(choice is c for c in self.first):
            self._spaces[key] = made
        return made

    def bare(self, copied: frozenset[Operand], request: PlanRequest) -> Space:
        """The groups of the layout that copies those operands, no order of single nodes being known."""
        layout = make_layout(self._graph, request.external(self._graph), copied)
        model = make_model(self._graph, layout, request, self._safe_offset)
        return Space(self._graph, layout, model, tuple(range(len(model.kernels))), request, self.spans)

    def known(self, bound: int) -> int:
        """What the least of the tables looked at says of all plans: joins may copy any operands, and other
        orders and longer groups may need less."""
        if self.every_layout and self.every_group:
            return max(bound - self.slack, min(bound, self.joined))
        return min(bound, self.joined)

    def looked_at(self, paths: Paths) -> None:
        """Note what the least of some paths leaves open."""
        self.every_group = self.every_group and paths.exact
        self.slack = max(self.slack, paths.slack)

    def least(self, most: int) -> tuple[Paths, int]:
        """The paths of the layout with the least bound, and that bound; `most` bytes are enough."""
        best = self._best(self.first, most, glance=self.every_layout and not self._soon)
        if self.every_layout and self._soon:
            return best
        if self.every_layout and self.every_group:
            return best if self.slack <= NEAR * best[1] else self._best_of_all(most)
        self.bound_values(best[1])
        if self.every_layout:
            return self._best_of_all(most) if self._open(best) else best
        while best[1] <= most and self._open(best):
            after = self._changed(*best)
            if after[1] == best[1]:
                break
            best = after
        if self._open(best):
            bound = join_bound(self._graph, self._request, self.operands, self._safe_offset, best[1] - 1)
            if bound is not None:
                self.joined = max(self.joined, bound.bytes)
                if bound.copied is not None:
                    best = self._better(self._choice(bound.copied), best)
        return best

    def _best_of_all(self, most: int) -> tuple[Paths, int]:
        """The best of all layouts, of which no more than a glance was taken so far."""
        self.every_group, self.slack = True, 0
        return self._best(self.first, most)

    def _open(self, best: tuple[Paths, int]) -> bool:
        """True if some layout may need less, for all that is known."""
        paths, bound = best
        return bound - paths.slack > self.joined

    def _best(self, choices: Sequence[LayoutChoice], most: int, *, glance: bool = False) -> tuple[Paths, int]:
        """The best of some layouts, each looked at, or glanced at."""
        paths = self._paths(self.space(choices[0], self._unlimited), most, glance=glance)
        bound = paths.least(self.macs, exact=self.every_layout)
        enough = self._request.below
        if bound - paths.slack > most and (enough is None or most >= enough):
            # given up; every node alone is among the groups of a table
            paths = self.table(choices[0], most)
            bound = paths.least(self.macs)
        self.looked_at(paths)
        best = paths, bound
        for choice in choices[1:]:
            best = self._better(choice, best, glance=glance)
        return best

    def bound_values(self, least: int) -> None:
        """A bound over all layouts and all groups; nothing is below it, `least` bytes are enough."""
        if least > self.joined:
            bound = value_bound(self._graph, self._request, least - 1, self.spans, self.joined)
            self.joined = max(self.joined, bound)

    def _better(
        self, choice: LayoutChoice, best: tuple[Paths, int], *, glance: bool = False
    ) -> tuple[Paths, int]:
        """The paths of a layout with its bound, if that is less than the best; else the best."""
        space = self.space(choice, self._unlimited)
        looked_at = space.footprints
        paths = self._paths(space, best[1] - 1, brief=len(choice.model.kernels) > BRIEF, glance=glance)
        bound = paths.least(self.macs, exact=self.every_layout)
        self._footprints_left -= space.footprints - looked_at
        self.looked_at(paths)
        return (paths, bound) if bound < best[1] else best

    def _changed(self, paths: Paths, bound: int) -> tuple[Paths, int]:
        """The best layout with one change, if that helps and not enough were tried; else the layout as it is.

        Only joins that the largest group touches can make it smaller.
        """
        best = paths, bound
        for copied in self._flips(paths, bound):
            known = len(self._choices)
            choice = self._choice(copied)
            if best[1] <= self.joined or self._footprints_left <= 0:
                break
            if len(self._choices) > known:
                best = self._better(choice, best)
        return best

    def _flips(self, paths: Paths, bound: int) -> Iterator[frozenset[Operand]]:
        """What to copy instead: one operand, or all, of a join that the largest group touches changed."""
        layout, space = paths.space.layout, paths.space
        copied = frozenset(self.operands) - layout.in_place
        largest = max(paths.within(bound, self.macs), key=lambda c: c.least)
        held = {space.model.allocations[k].name for k in bits(space.footprint(largest).group.held)}
        for join in dict.fromkeys(node for node, _ in self.operands):
            node = self._graph.nodes[join]
            if any(
                layout.views[n].allocation in held for n in (*node.outputs, *self._graph.activations(node))
            ):
                mine = frozenset(o for o in self.operands if o[0] == join)
                yield from (copied ^ {operand} for operand in sorted(mine))
                yield from (copied - mine, copied | mine)

    def _choice(self, copied: frozenset[Operand]) -> LayoutChoice:
        """The layout that copies those operands, made once."""
        layout = make_layout(self._graph, self._request.external(self._graph), copied)
        if layout.in_place not in self._choices:
            model = make_model(self._graph, layout, self._request, self._safe_offset)
            self._choices[layout.in_place] = LayoutChoice(layout, model, best_order(model))
        return self._choices[layout.in_place]
