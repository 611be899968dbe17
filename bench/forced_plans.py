# SPDX-License-Identifier: Apache-2.0
"""Plans that are not the planner's choice: a chain of nodes cut into stated groups, each in stated strips.

For benchmarks that ask how good the choice was. Groups, rings, strips and offsets are the planner's own; only
where to cut is forced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.planner.fusion.build import Builder, Placed
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import best_layout
from mmcc.planner.memory.placement import place
from mmcc.planner.request import PlanRequest

ANY = 1 << 62  # bytes: groups of any size
EFFORT = 0.5  # for placing one plan: about seconds of the exact solver


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """So many nodes that run together, in so many vertical strips."""

    nodes: int
    strips: int = 1

    def __str__(self) -> str:
        return f"{self.nodes}" if self.strips == 1 else f"{self.nodes}/{self.strips}"


Parts = tuple[Part, ...]


def parts_of(plan: Plan) -> Parts:
    """The groups of a plan for a chain, in order."""
    return tuple(Part(len(group.nodes), max(1, len(group.strips))) for group in plan.groups)


def spelled(parts: Parts) -> str:
    """Lengths of the groups; `/2` in two strips, `x5` five groups of one node each in a row."""
    words: list[str] = []
    at = 0
    while at < len(parts):
        run = 1
        while at + run < len(parts) and parts[at + run] == parts[at]:
            run += 1
        words += [f"{parts[at]}x{run}"] if run > 1 else [str(parts[at])]
        at += run
    return " ".join(words)


class Chain:
    """All groups of a graph that is a chain, by the nodes before and after them."""

    def __init__(self, graph: Graph, request: PlanRequest, strips: Sequence[int] = ()) -> None:
        """`strips` are the numbers of strips that groups may be cut into."""
        choice = best_layout(graph, request).choice
        self._space = Space(graph, choice.layout, choice.model, choice.ordering.order, request)
        self._request = request
        self.length = len(choice.model.kernels)
        if len(self._space.sets) != self.length + 1:
            raise ValueError("the graph is not a chain")
        self._found: dict[tuple[int, Part], Candidate] = {}
        for group in self._space.candidates(ANY):
            at, count = group.before.bit_count(), (group.after & ~group.before).bit_count()
            self._found[at, Part(count)] = group
            for narrow in self._in_strips(group, strips):
                self._found[at, Part(count, narrow.strips)] = narrow

    def _in_strips(self, group: Candidate, strips: Sequence[int]) -> Iterator[Candidate]:
        """The group in strips where it can be cut, whether that saves bytes (as the planner asks) or not."""
        space, memory = self._space, self._space.footprint(group).group
        defined = space.alive(group.after) & ~space.alive(group.before)
        members = group.after & ~group.before
        if space.strips.allowed(members, group.last, memory.inside, defined) and not memory.drained:
            for count in strips:
                narrow = replace(group, strips=count)
                if count > 1 and space.cut(narrow) is not None:
                    yield narrow

    def possible(self, parts: Parts) -> bool:
        """True if these groups, in these strips, are a plan."""
        return sum(p.nodes for p in parts) == self.length and all(k in self._found for k in _at(parts))

    def plan(self, parts: Parts) -> Plan:
        """The plan of these groups, placed in as few bytes as can be found quickly."""
        path = tuple(self._found[key] for key in _at(parts))
        builder = Builder(self._space, path)
        buffers, overlaps = builder.buffers()
        inside = [b for b in buffers if b.regions == self._request.regions]
        placement = place(inside, overlaps, effort=EFFORT)
        return builder.plan(Placed(path, buffers, overlaps, placement), 0)


def _at(parts: Parts) -> Iterator[tuple[int, Part]]:
    at = 0
    for part in parts:
        yield at, part
        at += part.nodes


def two_groups(length: int, strips: Sequence[int]) -> Iterator[Parts]:
    """As MAFAT cuts: at most two groups of all nodes, each in any of so many strips."""
    for first in range(1, length + 1):
        for a in strips:
            for b in strips if first < length else (0,):
                rest = (Part(length - first, b),) if b else ()
                yield (Part(first, a), *rest)


def heads(length: int) -> Iterator[Parts]:
    """Every pair of groups at the start, where tensors are large, then node by node; none in strips."""
    for first in range(1, length + 1):
        for second in range(length - first + 1):
            groups = [n for n in (first, second) if n] + [1] * (length - first - second)
            yield tuple(Part(n) for n in groups)
