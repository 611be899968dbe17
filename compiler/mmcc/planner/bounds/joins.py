# SPDX-License-Identifier: Apache-2.0
"""A graph as if it had no channel Concats: their readers read what they join. See `join_bound`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.traits import Alias
from mmcc.planner.fusion.rows import KernelRows, Read, Rows, make_rows
from mmcc.planner.fusion.schedule import Ints, Spans
from mmcc.planner.memory.allocations import MemoryModel, ScheduledKernel, make_model
from mmcc.planner.memory.layout import Layout, Operand, make_layout
from mmcc.planner.memory.overlap import SafeOffset
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
    parts: Mapping[int, tuple[int, ...]]  # by the allocation of a join, in the order in which they lie in it
    kernels: Mapping[int, int]  # that are joins, with the allocations that each writes

    @cached_property
    def every(self) -> frozenset[int]:
        """All allocations that are parts."""
        return frozenset(part for some in self.parts.values() for part in some)

    @cached_property
    def even(self) -> frozenset[int]:
        """Joins of which every reader asks for no more than one new row a step: then the parts' rows come in
        the same order, whoever asks for them."""
        uneven = {
            producer
            for kernel in self.rows.kernels
            for producer, counts in kernel.needs
            if max(np.diff((0, *counts))) > 1
        }
        return frozenset(self.kernels) - uneven

    def lying(self, allocation: int) -> int:
        """Parts that an allocation holds, if it is a join; else itself: a mask."""
        return sum(1 << part for part in set(self.parts.get(allocation, (allocation,))))

    def without(self) -> MemoryModel:
        """Readers of a join use its parts; its own output has no bytes."""
        users = [allocation.users for allocation in self.model.allocations]
        for allocation, some in self.parts.items():
            for part in some:
                users[part] |= users[allocation]
        own = self.model.allocations
        sizes = [0 if k in self.parts else allocation.size for k, allocation in enumerate(own)]
        allocations = zip(own, sizes, users, strict=True)
        return MemoryModel(
            tuple(replace(allocation, size=size, users=use) for allocation, size, use in allocations),
            tuple(u if k in self.kernels else self._using(u) for k, u in enumerate(self.model.kernels)),
        )

    def _using(self, kernel: ScheduledKernel) -> ScheduledKernel:
        used = (part for own in kernel.allocations for part in (own, *self.parts.get(own, ())))
        return replace(kernel, allocations=tuple(dict.fromkeys(used)))

    def scheduled(self, asking: int) -> Rows:
        """Readers of a join read its parts. Joins in the mask `asking` ask for their parts themselves; the
        parts of the others are asked for by who asks for the join."""
        return replace(
            self.rows,
            kernels=tuple(self._reading(k, kernel, asking) for k, kernel in enumerate(self.rows.kernels)),
            alone=tuple(self._reading(k, kernel, asking) for k, kernel in enumerate(self.rows.alone)),
        )

    def _reading(self, index: int, kernel: KernelRows, asking: int) -> KernelRows:
        reads: list[Read] = []
        for read in kernel.reads if index not in self.kernels else ():
            some = self.parts.get(read.allocation)
            if some is not None:
                reads += [self._part(read, part) for part in some]
            else:
                reads.append(replace(read, reach=0) if read.allocation in self.every else read)
        found: dict[int, Ints] = {}
        self._ask(kernel.needs, asking, found)
        needs = tuple((producer, tuple(counts.tolist())) for producer, counts in found.items())
        return replace(kernel, reads=tuple(reads), needs=needs)

    def _part(self, read: Read, part: int) -> Read:
        low = read.line * self.rows.allocations[part].line
        return Read(self.model.allocations[part].name, part, low[:-1], low, read.line, 0, elementwise=False)

    def _ask(self, needs: Needs, asking: int, found: dict[int, Ints]) -> None:
        """In the order in which views pass on what is asked of them."""
        for producer, rows in needs:
            counts = np.array(rows, np.int64)
            if producer in self.kernels and not asking >> producer & 1:
                for part, of in self.rows.kernels[producer].needs:
                    through = np.concatenate(([0], of))[counts]
                    self._ask(((part, tuple(through.tolist())),), asking, found)
            found[producer] = np.maximum(found[producer], counts) if producer in found else counts


def make_joins(
    graph: Graph,
    request: PlanRequest,
    free: Collection[int],
    copied: frozenset[Operand],
    safe_offset: Mapping[int, Mapping[str, SafeOffset]],
    spans: Spans,
) -> Joins | None:
    """The joins `free` (nodes), all operands of which are among those copied; None if their bytes are seen in
    yet another way."""
    layout = make_layout(graph, request.external(graph), copied)
    model = make_model(graph, layout, request, safe_offset)
    rows = make_rows(graph, layout, model, request, spans)
    number = {allocation.name: k for k, allocation in enumerate(model.allocations)}
    parts: dict[int, tuple[int, ...]] = {}
    kernels: dict[int, int] = {}
    for index, kernel in enumerate(model.kernels):
        node = graph.nodes[kernel.node]
        if kernel.node in free:
            names = (*node.inputs, *node.outputs)
            if any(name not in number or rows.allocations[number[name]].members > 1 for name in names):
                return None
            own = (parts.get(number[name], (number[name],)) for name in node.inputs)
            parts[kernel.output] = tuple(part for some in own for part in some)
            kernels[index] = kernel.output
    joins = Joins(layout, model, rows, parts, kernels)
    lying = joins.every | parts.keys()
    if any(
        r.elementwise and r.allocation in lying
        for kernel in (*rows.kernels, *rows.alone)
        for r in kernel.reads
    ):
        return None  # its reader could be written over a join, which is not counted here
    return joins
