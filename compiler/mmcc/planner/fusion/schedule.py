# SPDX-License-Identifier: Apache-2.0
"""How a group runs: demand-driven, so that each row is made just before it is needed.

The last node makes `tile_rows` rows a tile iteration. Before a node makes a row, the nodes inside the group
that it reads make the rows it needs and has not got yet, one at a time, in the same way. All comes from
Nests.

A node that accumulates makes no rows but takes its input's in, one at a time; its output is there at the end.
Nobody may ask for that: then the node rides along with another reader of its input, its host, and has taken
in what that reads before it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Nest, Span
from mmcc.ir.plan import Group
from mmcc.ir.types import geometry
from mmcc.planner.memory.overlap import reach

Ints = NDArray[np.int64]
Known = dict[tuple[str, bytes, bytes], dict[int, Ints]]  # makers behind some rows of a view


@dataclass(frozen=True, slots=True)
class Need:
    """What one node of a group needs of another: `rows[r]` of its steps must come before step r."""

    producer: int  # index of the node that makes the rows
    rows: tuple[int, ...]  # never falls


class Spans:
    """The nests of a graph's nodes and the rows that they need: the same in every layout, so found once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nests: dict[int, Nest] = {}
        self._rows: dict[tuple[int, int], tuple[Ints, Ints]] = {}
        self._reach: dict[tuple[int, str], tuple[int, bool]] = {}

    def nest(self, index: int) -> Nest:
        """The loops of a node."""
        if index not in self._nests:
            self._nests[index] = nest_of(self._graph, self._graph.nodes[index])
        return self._nests[index]

    def rows(self, index: int, operand: int) -> tuple[Ints, Ints]:
        """First row, and row behind the last, that each output row needs of an operand."""
        if (index, operand) not in self._rows:
            node = self._graph.nodes[index]
            self._rows[index, operand] = operand_spans(self._graph, node, self.nest(index), operand)
        return self._rows[index, operand]

    def takes(self, index: int) -> str:
        """What a node that accumulates takes in row by row."""
        nest = self.nest(index)
        return self._graph.nodes[index].inputs[nest.reads[nest.taken].operand]

    def taken(self, index: int, operand: int) -> tuple[Ints, Ints]:
        """First row, and row behind the last, of an operand of a node that accumulates, for each step."""
        node, nest = self._graph.nodes[index], self.nest(index)
        steps, height = rows_of(self._graph, self.takes(index)), rows_of(self._graph, node.inputs[operand])
        low, high = np.full(steps, height, np.int64), np.zeros(steps, np.int64)
        for read in (k for k, access in enumerate(nest.reads) if access.operand == operand):
            for row in range(steps):
                span = nest.rows_taken(read, row)
                if len(span):
                    low[row], high[row] = min(low[row], span.lo), max(high[row], span.hi)
        return np.where(high > 0, low, 0), high

    def reach(self, index: int, name: str, pixels: int) -> tuple[int, bool]:
        """How far a node may write before it has read a tensor (see `overlap.reach`), and whether it goes
        element by element; it makes `pixels` at a time."""
        if (index, name) not in self._reach:
            node, nest = self._graph.nodes[index], self.nest(index)
            sizes = [self._graph.tensors[n].dtype.size for n in (name, node.outputs[0])]
            reads = [k for k, access in enumerate(nest.reads) if node.inputs[access.operand] == name]
            most = max(reach(nest, k, sizes[0], sizes[1], pixels) for k in reads)
            elementwise = all(nest.is_elementwise_in(k) for k in reads) and sizes[0] == sizes[1]
            self._reach[index, name] = most, elementwise
        return self._reach[index, name]


class Sources:
    """Which rows of which makers the rows of a node need, aliases looked through."""

    def __init__(
        self,
        graph: Graph,
        aliases: Collection[int],
        accumulating: Collection[int] = (),
        spans: Spans | None = None,
        riders: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        self._graph, self._accumulating, self._riders = graph, accumulating, riders or {}
        self.spans = spans or Spans(graph)
        self._alias = {graph.nodes[index].output: index for index in aliases}
        self._maker = {
            name: k for k, node in enumerate(graph.nodes) if k not in aliases for name in node.outputs
        }

    def steps(self, index: int) -> int:
        """Calls that a node needs, one row each."""
        node = self._graph.nodes[index]
        taken = index in self._accumulating
        return rows_of(self._graph, self.spans.takes(index) if taken else node.outputs[0])

    def needs(self, index: int) -> tuple[Need, ...]:
        """Everything that a node needs, in the order of its operands."""
        node = self._graph.nodes[index]
        found: dict[int, Ints] = {}
        known: Known = {}
        for operand, name in enumerate(node.inputs):
            if self._graph.is_constant(name):
                continue
            low, high = self._rows(index, operand)
            _join(found, self._counts(name, low, high, known))
        for rider in self._riders.get(index, ()):
            _join(found, {rider: self._ridden(index, rider)})
        return tuple(Need(maker, tuple(counts.tolist())) for maker, counts in found.items())

    def _rows(self, index: int, operand: int) -> tuple[Ints, Ints]:
        return (self.spans.taken if index in self._accumulating else self.spans.rows)(index, operand)

    def _ridden(self, index: int, rider: int) -> Ints:
        """How many steps of a rider come before each of a node's: so that it has taken in what that reads."""
        operand = self._graph.nodes[index].inputs.index(self.spans.takes(rider))
        low, high = self._rows(index, operand)
        return np.maximum.accumulate(np.where(high > low, high, 0))

    def _counts(self, name: str, low: Ints, high: Ints, known: Known) -> dict[int, Ints]:
        """For rows [low, high) of a tensor: its makers, and how many of their steps; never falls.

        A view may see another through several views of it; what is asked twice is `known`.
        """
        if name in self._alias:
            key = name, low.tobytes(), high.tobytes()
            if key not in known:
                known[key] = self._through(self._alias[name], low, high, known)
            return known[key]
        if name not in self._maker:
            return {}  # an input of the model
        maker = self._maker[name]
        made = np.where(high > low, high, 0)
        if maker in self._accumulating:
            made = np.where(made > 0, self.steps(maker), 0)
        return {maker: np.maximum.accumulate(made)}

    def _through(self, index: int, low: Ints, high: Ints, known: Known) -> dict[int, Ints]:
        """Makers of rows [low, high) of an alias's output, and how many of their steps that takes."""
        found: dict[int, Ints] = {}
        alias = self._graph.nodes[index]
        for operand, name in enumerate(alias.inputs):
            if self._graph.is_constant(name):
                continue
            first, last = self.spans.rows(index, operand)
            lo, hi = np.zeros(len(low), np.int64), np.zeros(len(low), np.int64)
            for step, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
                some = last[a:b] > first[a:b]
                if some.any():
                    lo[step], hi[step] = first[a:b][some].min(), last[a:b][some].max()
            _join(found, self._counts(name, lo, hi, known))
        return found


def _join(found: dict[int, Ints], more: dict[int, Ints]) -> None:
    for maker, counts in more.items():
        found[maker] = np.maximum(found[maker], counts) if maker in found else counts


def row_spans(nest: Nest, read: int, rows: int) -> tuple[Ints, Ints]:
    """First row, and row behind the last, that each output row needs of one read; equal where it is none."""
    access = nest.reads[read]
    loop = nest.axis_loop(0) if len(nest.write.shape) >= 2 else None
    if len(access.shape) < 2 or loop is None or access.index[0] is None:
        height = access.shape[0] if len(access.shape) >= 2 else 1
        return np.zeros(rows, np.int64), np.full(rows, height, np.int64)
    box = {other.name: Span(0, other.extent) for other in nest.loops}
    low, high = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for row in range(rows):
        box[loop] = Span(row, row + 1)
        span = access.index[0].span(box).clamp(access.shape[0])
        low[row], high[row] = span.lo, span.hi
    return low, high


def operand_spans(graph: Graph, node: Node, nest: Nest, operand: int) -> tuple[Ints, Ints]:
    """First row, and row behind the last, that each output row needs of an operand, read in any ways."""
    tensor, output = graph.tensors[node.inputs[operand]], graph.tensors[node.outputs[0]]
    rows, height = geometry(output.shape)[0], geometry(tensor.shape)[0]
    low, high = np.full(rows, height, np.int64), np.zeros(rows, np.int64)
    for read, access in enumerate(nest.reads):
        if access.operand == operand:
            lo, hi = row_spans(nest, read, rows)
            low = np.where(hi > lo, np.minimum(low, lo), low)
            high = np.where(hi > lo, np.maximum(high, hi), high)
    return np.where(high > 0, low, 0), high


def rows_of(graph: Graph, name: str) -> int:
    """Rows of a tensor, as kernels count them."""
    return geometry(graph.tensors[name].shape)[0]


def col_span(graph: Graph, node: Node, operand: int, cols: Span) -> Span:
    """Columns of an operand that some columns of the node's output need."""
    width = geometry(graph.tensors[node.inputs[operand]].shape)[1]
    nest = nest_of(graph, node)
    need = Span(0, 0)
    for read, access in enumerate(nest.reads):
        if access.operand == operand:
            need = need.join(nest.cols_needed(read, cols))
    return need.clamp(width)


def sources_of(graph: Graph, group: Group, aliases: Collection[int]) -> Sources:
    """Who needs what of whom as a group runs."""
    riders: dict[int, tuple[int, ...]] = {}
    for rider, host in group.riding:
        riders[host] = (*riders.get(host, ()), rider)
    return Sources(graph, aliases, group.accumulating, riders=riders)


def needs(graph: Graph, group: Group, aliases: Collection[int]) -> dict[int, tuple[Need, ...]]:
    """For each node with code: the nodes of the group that it reads from."""
    sources = sources_of(graph, group, aliases)
    members = [index for index in group.nodes if index not in aliases]
    return {
        index: tuple(need for need in sources.needs(index) if need.producer in members) for index in members
    }


def wanted(graph: Graph, group: Group, aliases: Collection[int]) -> dict[int, tuple[int, ...]]:
    """For each node of a group: how many of its steps are needed for each step of the last one."""
    table = needs(graph, group, aliases)
    sources = sources_of(graph, group, aliases)
    last = [*table][-1]
    found: dict[int, Ints] = {last: np.arange(1, sources.steps(last) + 1)}
    for index in reversed(table):
        for need in table[index]:
            counts = np.concatenate(([0], need.rows))[found[index]]
            known = found.get(need.producer)
            found[need.producer] = counts if known is None else np.maximum(known, counts)
    return {index: tuple(found[index].tolist()) for index in table}


def batches(
    graph: Graph, group: Group, aliases: Collection[int]
) -> dict[int, tuple[tuple[int, int, int], ...]]:
    """The calls of each node of a batched group: the iteration, and the steps [begin, end) that it makes."""
    found: dict[int, tuple[tuple[int, int, int], ...]] = {}
    for index, counts in wanted(graph, group, aliases).items():
        tile = group.tile_rows
        ends = [counts[min(top + tile, len(counts)) - 1] for top in range(0, len(counts), tile)]
        spans = enumerate(zip([0, *ends], ends, strict=False))
        found[index] = tuple((iteration, a, b) for iteration, (a, b) in spans if b > a)
    return found


def strip_columns(graph: Graph, group: Group, columns: Span) -> dict[str, Span]:
    """For one strip: the columns of each tensor that the group makes or reads.

    A tensor that several nodes read holds the columns that any of them needs.
    """
    held: dict[str, Span] = {graph.nodes[group.nodes[-1]].output: columns}
    for index in reversed(group.nodes):
        node = graph.nodes[index]
        for operand, name in enumerate(node.inputs):
            if not graph.is_constant(name) and node.output in held:
                span = col_span(graph, node, operand, held[node.output])
                held[name] = held.get(name, Span(0, 0)).join(span)
    return held


def fit(counts: Sequence[int]) -> tuple[int, int, int] | None:
    """(a, b, c) with counts[r] = min((a * r + b) / c, the most) for every r, if such numbers are found."""
    most, rows = max(counts), np.arange(len(counts))
    wanted = np.array(counts)
    if min(counts) == most:
        return 0, most, 1
    rising = int(np.flatnonzero(wanted < most)[-1])  # from the next on, the limit may hide the slope
    for divisor in range(1, 9):
        slope = (counts[rising] - counts[0]) * divisor / rising if rising else (most - counts[0]) * divisor
        for a in (int(slope), int(slope) + 1):
            for b in range(counts[0] * divisor, (counts[0] + 1) * divisor):
                if a > 0 and np.array_equal(np.minimum((a * rows + b) // divisor, most), wanted):
                    return a, b, divisor
    return None
