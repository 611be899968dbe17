# SPDX-License-Identifier: Apache-2.0
"""A graph as if it had no channel Concats: their readers read what they join. See `join_bound`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.traits import Alias
from mmcc.planner.fusion.rows import Read, Rows, UnitRows, make_rows
from mmcc.planner.fusion.schedule import Ints, Spans
from mmcc.planner.memory.allocations import MemoryModel, Unit, make_model
from mmcc.planner.memory.layout import Layout, Operand, make_layout
from mmcc.planner.memory.overlap import Distance
from mmcc.planner.request import PlanRequest

Needs = Iterable[tuple[int, tuple[int, ...]]]


def only_joins(graph: Graph, operands: Iterable[Operand]) -> bool:
    """True if all choices are operands of Concats over channels, and no tensor is in two of them."""
    joins = {k for k, node in enumerate(graph.nodes) if node.op.traits.alias is Alias.JOIN}
    inputs = [name for k in joins for name in graph.nodes[k].inputs]
    read = {name for node in graph.nodes for name in node.inputs}
    return {join for join, _ in operands} == joins and all(
        len(set(inputs)) == len(inputs)
        and not any(graph.is_constant(name) for name in node.inputs)
        and len(node.inputs) > 1
        and len(graph.tensors[node.output].shape) == 3
        and all(graph.tensors[n].shape[:2] == graph.tensors[node.output].shape[:2] for n in node.inputs)
        and node.output in read
        and node.output not in graph.kept
        for node in (graph.nodes[k] for k in joins)
    )


@dataclass(frozen=True)
class Joins:
    """The graph with every operand copied, and what lies in its joins."""

    layout: Layout
    model: MemoryModel
    rows: Rows
    parts: Mapping[int, tuple[int, ...]]  # by the root of a join, in the order in which they lie in it
    units: Mapping[int, int]  # that are joins, with the roots that each writes

    @cached_property
    def every(self) -> frozenset[int]:
        """All roots that are parts."""
        return frozenset(part for some in self.parts.values() for part in some)

    @cached_property
    def even(self) -> frozenset[int]:
        """Joins of which every reader asks for no more than one new row a step: then the parts' rows come in
        the same order, whoever asks for them."""
        uneven = {
            producer
            for unit in self.rows.units
            for producer, counts in unit.needs
            if max(np.diff((0, *counts))) > 1
        }
        return frozenset(self.units) - uneven

    def lying(self, root: int) -> int:
        """Parts that a root holds, if it is a join; else itself: a mask."""
        return sum(1 << part for part in set(self.parts.get(root, (root,))))

    def without(self) -> MemoryModel:
        """Readers of a join use its parts; its own output has no bytes."""
        users = [root.users for root in self.model.roots]
        for root, some in self.parts.items():
            for part in some:
                users[part] |= users[root]
        sizes = [0 if k in self.parts else root.size for k, root in enumerate(self.model.roots)]
        roots = zip(self.model.roots, sizes, users, strict=True)
        return MemoryModel(
            tuple(replace(root, size=size, users=use) for root, size, use in roots),
            tuple(u if k in self.units else self._using(u) for k, u in enumerate(self.model.units)),
        )

    def _using(self, unit: Unit) -> Unit:
        roots = (part for root in unit.roots for part in (root, *self.parts.get(root, ())))
        return replace(unit, roots=tuple(dict.fromkeys(roots)))

    def walked(self, asking: int) -> Rows:
        """Readers of a join read its parts. Joins in the mask `asking` ask for their parts themselves; the
        parts of the others are asked for by who asks for the join."""
        return replace(
            self.rows,
            units=tuple(self._reading(k, unit, asking) for k, unit in enumerate(self.rows.units)),
            alone=tuple(self._reading(k, unit, asking) for k, unit in enumerate(self.rows.alone)),
        )

    def _reading(self, index: int, unit: UnitRows, asking: int) -> UnitRows:
        reads: list[Read] = []
        for read in unit.reads if index not in self.units else ():
            some = self.parts.get(read.root)
            if some is not None:
                reads += [self._part(read, part) for part in some]
            else:
                reads.append(replace(read, reach=0) if read.root in self.every else read)
        found: dict[int, Ints] = {}
        self._ask(unit.needs, asking, found)
        needs = tuple((producer, tuple(counts.tolist())) for producer, counts in found.items())
        return replace(unit, reads=tuple(reads), needs=needs)

    def _part(self, read: Read, part: int) -> Read:
        low = read.line * self.rows.roots[part].line
        return Read(self.model.roots[part].name, part, low[:-1], low, read.line, 0, elementwise=False)

    def _ask(self, needs: Needs, asking: int, found: dict[int, Ints]) -> None:
        """In the order in which views pass on what is asked of them."""
        for producer, rows in needs:
            counts = np.array(rows, np.int64)
            if producer in self.units and not asking >> producer & 1:
                for part, of in self.rows.units[producer].needs:
                    through = np.concatenate(([0], of))[counts]
                    self._ask(((part, tuple(through.tolist())),), asking, found)
            found[producer] = np.maximum(found[producer], counts) if producer in found else counts


def make_joins(
    graph: Graph,
    request: PlanRequest,
    free: Collection[int],
    copied: frozenset[Operand],
    distance: Mapping[int, Mapping[str, Distance]],
    spans: Spans,
) -> Joins | None:
    """The joins `free` (nodes), all operands of which are among those copied; None if their bytes are seen in
    yet another way."""
    layout = make_layout(graph, request.external(graph), copied)
    model = make_model(graph, layout, request, distance)
    rows = make_rows(graph, layout, model, request, spans)
    number = {root.name: k for k, root in enumerate(model.roots)}
    parts: dict[int, tuple[int, ...]] = {}
    units: dict[int, int] = {}
    for index, unit in enumerate(model.units):
        node = graph.nodes[unit.node]
        if unit.node in free:
            names = (*node.inputs, *node.outputs)
            if any(name not in number or rows.roots[number[name]].members > 1 for name in names):
                return None
            own = (parts.get(number[name], (number[name],)) for name in node.inputs)
            parts[unit.output] = tuple(part for some in own for part in some)
            units[index] = unit.output
    joins = Joins(layout, model, rows, parts, units)
    lying = joins.every | parts.keys()
    if any(r.elementwise and r.root in lying for unit in (*rows.units, *rows.alone) for r in unit.reads):
        return None  # its reader could be written over a join, which is not counted here
    return joins
