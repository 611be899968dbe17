# SPDX-License-Identifier: Apache-2.0
"""The demand-driven loops of a group: before a node makes a row, loops make the rows that it asks for.

A producer's loop stands where its rows are asked for, inside the loop of who asks. If several places ask,
the loop is a function that each of them calls: so code grows with the nodes of a group, not with the paths
through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mmcc.codegen.live_demands import LiveDemands, live_demands
from mmcc.codegen.row_counts import demands, tables
from mmcc.ir.plan import Group
from mmcc.ir.program import Call, Columns, Count, Counts, For, Function, MakeRows, Stmt
from mmcc.planner.fusion.schedule import Need

UNTIL = "until"  # the parameter of functions
# Loops in each other; deeper ones are a function. C99 promises 127 levels of blocks, and a loop is two.
DEEPEST = 60


@dataclass(frozen=True, slots=True)
class GroupCode:
    """The statements of a group, and the functions that they call, each behind those that it calls."""

    body: tuple[Stmt, ...]
    functions: tuple[Function, ...] = ()


def demand_driven(
    needs: Mapping[int, tuple[Need, ...]],
    columns: Mapping[int, tuple[Columns, ...]],
    steps: Mapping[int, int],
    group: Group,
) -> GroupCode:
    """Counts of rows made, the loop over the last node's rows, and rows that nobody demanded."""
    last = group.nodes[-1]
    tile = group.tile_rows or steps[last]
    live = live_demands(demands(needs, last, tile), last, tile, steps, group.drained)
    loops = _Loops(live, columns, _shared(live))
    height = steps[last]
    end = f"y{last} + {tile}" if height % tile == 0 else f"MIN(y{last} + {tile}, {height})"
    iteration = (*loops.asked(last, 1), Call(last, columns[last], f"y{last}", end))
    body = (
        For(f"y{last}", str(height), iteration, step=tile),
        *(loops.until(index, str(steps[index]), 0) for index in live.drained),
    )
    functions = loops.functions(group.nodes)
    shared = [f"y{index}" for index in group.nodes if f"y{index}" in _counted(functions)]
    counts: list[Stmt] = [Counts(tuple(shared))] if shared else []
    making = {demand.producer for asked in live.of.values() for demand in asked} | set(live.drained)
    counts += [
        Count(f"y{index}") for index in group.nodes[:-1] if index in making and f"y{index}" not in shared
    ]
    return GroupCode((*_tables(live, body), *counts, *body), functions)


def _shared(live: LiveDemands) -> set[int]:
    """Producers that several places ask for; those that ask for nothing themselves are no longer twice."""
    places = Counter(demand.producer for asked in live.of.values() for demand in asked)
    places.update(live.drained)
    return {index for index, count in places.items() if count > 1 and live.of[index]}


@dataclass(frozen=True, slots=True)
class _Loops:
    """Loops over the rows of nodes; those of `shared` nodes, and what is too deep, are functions."""

    live: LiveDemands
    columns: Mapping[int, tuple[Columns, ...]]
    shared: set[int]

    def asked(self, index: int, depth: int) -> tuple[Stmt, ...]:
        """Make the rows that a node's next call asks for, in loops inside `depth` others."""
        return tuple(
            self.until(demand.producer, demand.bound(f"y{index}"), depth) for demand in self.live.of[index]
        )

    def until(self, index: int, bound: str, depth: int) -> Stmt:
        """Make rows of a node, one at a time, until there are so many."""
        if depth == DEEPEST:
            self.shared.add(index)
        return MakeRows(index, bound) if index in self.shared else self._loop(index, bound, depth)

    def _loop(self, index: int, bound: str, depth: int) -> For:
        made = f"y{index}"
        call = Call(index, self.columns[index], made, f"{made} + 1")
        return For(made, bound, (*self.asked(index, depth + 1), call), fresh=False)

    def functions(self, nodes: Iterable[int]) -> tuple[Function, ...]:
        """The functions, in the order of the nodes: readers come behind what they read."""
        found: dict[int, Function] = {}
        while waiting := self.shared - found.keys():
            for index in waiting:  # may find more that is too deep
                loop = self._loop(index, UNTIL, 0)
                found[index] = Function(index, (*_tables(self.live, (loop,)), loop))
        return tuple(found[index] for index in nodes if index in found)


def _tables(live: LiveDemands, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Tables of counts for the demands in some loops."""
    inside = sorted({statement.node for statement in _all(body) if isinstance(statement, Call)})
    return tables([demand for index in inside for demand in live.of[index]])


def _counted(functions: Iterable[Function]) -> set[str]:
    """Variables of the loops in functions."""
    bodies = (_all(function.body) for function in functions)
    return {statement.var for body in bodies for statement in body if isinstance(statement, For)}


def _all(body: Iterable[Stmt]) -> Iterator[Stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, For):
            yield from _all(statement.body)
