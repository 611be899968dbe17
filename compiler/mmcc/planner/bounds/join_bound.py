# SPDX-License-Identifier: Apache-2.0
"""A bound over all layouts of the operands of channel Concats, for groups, where there are too many to try.

Take the layout that copies every operand, and let the output of every Concat have no bytes: what reads a
Concat reads its operands (its *parts*) instead. A plan of any layout is a path of groups here, and no group
of that path needs more bytes than the plan's own group, for three reasons.

*The same groups.* A Concat that a layout leaves without code runs here in the first group that reads it; or
on its own before that group, if all its parts are there already.

*The same moments.* The steps of a group come in the same order, but for a Concat between kernels of its
group. As a kernel it asks for its parts row by row; as a view it passes on what its reader asks for. Both
schedules are looked at, and the smaller figure counts. Where such a group also makes rows that nobody
demanded, only what is there before it and after it counts, which depends on no schedule.

*No more bytes.* At every moment of a schedule the rows of a part from the oldest that somebody still needs to
the newest made are somewhere: in a buffer of the part's own, in the Concat's, or some in each. The Concat's
buffer is at least as large as those rows of its parts together, whole or as a ring. Nothing is made of where
in its row a part is read (`Read.reach` is 0), since rows in a Concat's buffer are further apart.

That is quickly known for all groups. For those on the least path it is then replaced by the exact figure: the
least of what the group needs in the layouts of the operands whose bytes it holds; no others matter to it. The
same argument holds with only some of the Concats without bytes and the others in a given layout, so most of
those layouts are ruled out together. Each group may take another layout, so the path is a bound still; if one
layout serves all, that is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from mmcc.ir.graph import Graph
from mmcc.planner.bounds.joinless import GroupNodes, Joinless, Relaxed
from mmcc.planner.bounds.joins import make_joins, only_joins
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.schedule import Spans, rows_of
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.allocations import make_model
from mmcc.planner.memory.layout import Operand, make_layout, subsets
from mmcc.planner.memory.overlap import SafeOffset
from mmcc.planner.request import PlanRequest

MOST_LAYOUTS = 300  # of one group
MOST_STEPS = 1_500_000  # of all kernels in all layouts that are looked at: some 10 seconds
MOST_OPERANDS = 16  # of all joins; with more, groups touch so many joins that little is ruled out


@dataclass(frozen=True, slots=True)
class JoinBound:
    """Bytes that no plan of any layout is below, and what to copy in a layout whose groups need no more."""

    bytes: int
    copied: frozenset[Operand] | None


def join_bound(
    graph: Graph,
    request: PlanRequest,
    operands: Sequence[Operand],
    safe_offset: Mapping[int, Mapping[str, SafeOffset]],
    most: int,
) -> JoinBound | None:
    """The bound, `most + 1` if it is above `most`; None if the argument does not hold for this graph, or it
    takes too long."""
    if (
        len(operands) > MOST_OPERANDS
        or request.recompute > 1
        or request.staging is not None
        or not only_joins(graph, operands)
    ):
        return None
    layouts = _Layouts(graph, request, operands, safe_offset, most)
    joins = frozenset(join for join, _ in operands)
    space = layouts.space(joins, frozenset(operands))
    if space is None or not space.complete:
        return None
    table = Table(space, most)
    if not space.complete:  # some groups turned out to be too long to be listed
        return None
    bound = -(-table.least(inf) // request.align) * request.align  # as any peak is
    if bound > most:
        return JoinBound(most + 1, None)
    return JoinBound(bound, layouts.common(table.cheapest(bound, inf), bound))


class _Layouts:
    """All layouts, each made when it is asked for."""

    def __init__(
        self,
        graph: Graph,
        request: PlanRequest,
        operands: Sequence[Operand],
        safe_offset: Mapping[int, Mapping[str, SafeOffset]],
        most: int,
    ) -> None:
        self._graph, self._request, self._safe_offset, self._most = graph, request, safe_offset, most
        self._operands, self._left = operands, MOST_STEPS * request.budget
        self._order = list(dict.fromkeys(join for join, _ in operands))
        self.spans = Spans(graph)
        self._steps = sum(rows_of(graph, node.outputs[0]) for node in graph.nodes)
        self._made: dict[tuple[frozenset[int], frozenset[Operand]], Space | None] = {}
        self._needed: dict[Candidate, tuple[frozenset[Operand], dict[frozenset[Operand], int]]] = {}

    def space(self, joins: frozenset[int], copied: frozenset[Operand]) -> Space | None:
        """The groups if some joins are none, and of the other operands some are copied."""
        if (joins, copied) not in self._made:
            graph, request = self._graph, self._request
            if joins:
                request = replace(request, align=1)  # parts of a Concat need not be aligned
                found = make_joins(graph, request, joins, copied, self._safe_offset, self.spans)
                made = Joinless(graph, request, found, self.spans, self.least) if found is not None else None
            else:
                layout = make_layout(graph, request.external(graph), copied)
                model = make_model(graph, layout, request, self._safe_offset)
                made = Space(graph, layout, model, tuple(range(len(model.kernels))), request, self.spans)
            self._made[joins, copied] = made
        return self._made[joins, copied]

    def least(self, group: GroupNodes, key: Candidate, touched: Mapping[int, Sequence[Operand]]) -> int:
        """The least of what a group needs, whatever is copied of some operands; what is above `most` may be
        less exact, and so is all where there are too many layouts.

        One join after the other is given its layouts while those still to come are none: first the one of
        which the least layout needs most, as most others are then out of the question.
        """
        left: dict[frozenset[Operand], int] = {frozenset(): 0}
        waiting = frozenset(touched)
        if not waiting:
            return min(self._sizes(group, left, waiting, ()).values())
        while waiting:
            best: tuple[int, int, dict[frozenset[Operand], int]] | None = None
            for join in sorted(waiting, key=self._order.index):
                if len(left) << len(touched[join]) > MOST_LAYOUTS or self._left < 0:
                    continue
                sizes = self._sizes(group, left, waiting - {join}, touched[join])
                least = min(sizes.values())
                if least > self._most:  # likely to do so for the next group too
                    self._order.remove(join)
                    self._order.insert(0, join)
                    return least
                if best is None or least > best[0]:
                    best = least, join, sizes
                if len(left) > 1:
                    break
            if best is None:
                return min(left.values())
            left = {copied: size for copied, size in best[2].items() if size <= self._most}
            waiting -= {best[1]}
        self._needed[key] = frozenset(o for some in touched.values() for o in some), left
        return min(left.values())

    def _sizes(
        self,
        group: GroupNodes,
        left: Mapping[frozenset[Operand], int],
        none: frozenset[int],
        operands: Sequence[Operand],
    ) -> dict[frozenset[Operand], int]:
        """What a group needs with each set that is left, and any of the operands, copied; `none` are none."""
        parts = frozenset(o for o in self._operands if o[0] in none)
        found: dict[frozenset[Operand], int] = {}
        for copied, known in left.items():
            for more in subsets(operands):
                space = self.space(none, copied | more | parts)
                self._left -= self._steps
                footprint = group.footprint(space) if space is not None else None
                size = known if footprint is None else footprint.least
                if footprint is not None and size <= self._most:
                    size = footprint.full if isinstance(footprint, Relaxed) else footprint.tight
                if footprint is not None or space is None:
                    found[copied | more] = size
        return found

    def common(self, path: Iterable[Candidate], bound: int) -> frozenset[Operand] | None:
        """What to copy so that each group of a path needs `bound` at most; None if no layout serves all."""
        groups = (Candidate(c.before, c.after, c.last, 0) for c in path)
        known = [self._needed[group] for group in groups if group in self._needed]
        fine = [(mine, {some for some, size in sizes.items() if size <= bound}) for mine, sizes in known]
        for copied in subsets(self._operands):
            if all(copied & mine in sizes for mine, sizes in fine):
                return copied
        return None
