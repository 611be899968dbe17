# SPDX-License-Identifier: Apache-2.0
"""The calls of a group one by one, from what `mmcc.planner.fusion.schedule` says that rows need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Group
from mmcc.planner.fusion.schedule import Sources, needs


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call: node `node` makes output rows [begin, end), or takes in as many input rows."""

    node: int
    begin: int
    end: int


def kernel_calls(graph: Graph, group: Group) -> Iterator[KernelCall]:
    """The calls of a group without aliases and strips, in order, each row just before it is needed."""
    table = needs(graph, group, frozenset())
    sources = Sources(graph, frozenset(), group.accumulating)
    made = dict.fromkeys(table, 0)
    last = [*table][-1]
    height = sources.steps(last)
    tile = group.tile_rows or height

    def demand(index: int, row: int) -> Iterator[KernelCall]:
        for need in table[index]:
            while made[need.producer] < need.rows[row]:
                at = made[need.producer]
                yield from demand(need.producer, at)
                yield KernelCall(need.producer, at, at + 1)
                made[need.producer] = at + 1

    for top in range(0, height, tile):
        bottom = min(top + tile, height)
        yield from demand(last, bottom - 1)
        yield KernelCall(last, top, bottom)
    for index in group.drained:
        for at in range(made[index], sources.steps(index)):
            yield from demand(index, at)
            yield KernelCall(index, at, at + 1)
            made[index] = at + 1
