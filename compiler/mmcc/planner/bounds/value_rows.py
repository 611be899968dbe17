# SPDX-License-Identifier: Apache-2.0
"""The nodes of a graph as steps that make and need rows of pieces, where moving elements costs nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Affine
from mmcc.ir.traits import Alias
from mmcc.planner.bounds.bound import may_be_outside
from mmcc.planner.bounds.pieces import Piece, Seen, make_pieces
from mmcc.planner.fusion import scalars
from mmcc.planner.fusion.rows import KernelRows, Rows, remaining
from mmcc.planner.fusion.schedule import Ints, Need, Sources, Spans, rows_of
from mmcc.planner.fusion.timeline import Timeline, demand
from mmcc.planner.memory.allocations import bits
from mmcc.planner.memory.layout import may_join_in_place
from mmcc.planner.memory.overlap import row_bytes
from mmcc.planner.request import PlanRequest

NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PieceRead:
    """What a node reads of a piece: by step, the first row that this or a later step needs; one more for the
    end. `upto`: by step, the rows that it or an earlier one needs, from the first on."""

    piece: int
    low: Ints
    upto: Ints
    elementwise: bool


class ValueRows:
    """Nodes, by their numbers in the graph, and pieces of values; masks are sets of nodes or of pieces."""

    def __init__(self, graph: Graph, request: PlanRequest, spans: Spans) -> None:
        self.graph, self.request, self._spans = graph, request, spans
        self.moves = frozenset(k for k, node in enumerate(graph.nodes) if _may_be_view(graph, node))
        found = make_pieces(graph, self.moves, may_be_outside(graph, request))
        self.pieces: tuple[Piece, ...] = _without_scalars(graph, self.moves, found.pieces)
        self._seen = found.seen
        count = len(graph.nodes)
        self.alone = sum(1 << k for k, node in enumerate(graph.nodes) if node.alone)
        self.at_once = sum(1 << k for k, node in enumerate(graph.nodes) if node.at_once)
        self.computing = sum(1 << k for k in range(count) if k not in self.moves)
        self._sources: dict[int, Sources] = {}
        self._apart: dict[int, tuple[int, int]] = {}  # by node: see `apart`; after the bytes of a row
        self._asked: dict[tuple[int, int], tuple[tuple[int, tuple[int, ...]], ...]] = {}
        self.reads = [() if k in self.moves else self._reads(k) for k in range(count)]
        self.made: list[tuple[int, ...]] = [() for _ in range(count)]  # pieces, by the node that makes them
        for number, piece in enumerate(self.pieces):
            if piece.maker >= 0:
                self.made[piece.maker] += (number,)
        self.readers = [0] * len(self.pieces)
        for node, reads in enumerate(self.reads):
            for read in reads:
                self.readers[read.piece] |= 1 << node

    @property
    def values(self) -> list[str]:
        """By piece, the value that it is a piece of."""
        return [piece.value for piece in self.pieces]

    @cached_property
    def rings(self) -> int:
        """Pieces that are in a ring of their own inside a group, whatever the layout: whole tensors that no
        movement touches, and that are written neither over another nor over by another."""
        moved = {name for k in self.moves for name in self._names(k)}
        written_over = {read.piece for reads in self.reads for read in reads if read.elementwise}
        mask = 0
        for number, piece in enumerate(self.pieces):
            plain = piece.maker >= 0 and not self.at_once >> piece.maker & 1
            plain = plain and not self.takes(piece.maker) and number not in written_over
            over = plain and any(read.elementwise for read in self.reads[piece.maker])
            if plain and not over and self.graph.nodes[piece.maker].output not in moved:
                mask |= 1 << number
        return mask

    def _names(self, node: int) -> tuple[str, ...]:
        return (*self.graph.nodes[node].inputs, *self.graph.nodes[node].outputs)

    @cached_property
    def before(self) -> list[int]:
        """By node, the nodes that must have run, the nearest only."""
        maker = {name: 1 << k for k, node in enumerate(self.graph.nodes) for name in node.outputs}
        found: list[int] = []
        for index, node in enumerate(self.graph.nodes):
            riders = {1 << rider for rider in self.request.riders.get(index, ())}
            found.append(sum(riders | {maker[name] for name in node.inputs if name in maker}))
        return found

    @cached_property
    def feeds(self) -> list[int]:
        """By node, it and all that must have run before it."""
        found: list[int] = []
        for node, before in enumerate(self.before):
            feeds = 1 << node
            for producer in bits(before):
                feeds |= found[producer]
            found.append(feeds)
        return found

    @cached_property
    def _seen_through(self) -> list[int]:
        """By node, movements that it may read, or that those pass on to it."""
        found: list[int] = []
        for before in self.before:
            through = moves = before & ~self.computing
            for move in bits(moves):
                through |= found[move]
            found.append(through)
        return found

    @cached_property
    def uneven(self) -> int:
        """Joins that are asked for more than one new row at a time. As code they then make row by row what a
        view passes on at once, so both schedules are to be looked at."""
        joins = {k for k in self.moves if self.graph.nodes[k].op.traits.alias is Alias.JOIN}
        mask = 0
        for node in range(len(self.graph.nodes)):
            for producer, counts in self._needs(node, sum(1 << k for k in joins)) if joins else ():
                if producer in joins and max(np.diff((0, *counts)), default=0) > 1:
                    mask |= 1 << producer
        return mask

    def steps(self, node: int) -> int:
        """Steps of a node that runs together with others."""
        if self.at_once >> node & 1:
            return 1
        return self._source(0).steps(node)

    def accumulates(self, node: int) -> int:
        """Bytes of the sums that a node keeps if it takes its input in row by row, beside its result."""
        return self.request.accumulators.get(node, 0)

    def apart(self, piece: Piece) -> int:
        """Bytes of a row of a piece that its maker writes while it still reads all that the row is made of,
        in any layout."""
        if piece.maker not in self._apart:
            node = self.graph.nodes[piece.maker]
            pixels = self.request.pixels.get(piece.maker, 0)
            reads = [self._spans.reach(piece.maker, name, pixels)[0] for name in self.graph.activations(node)]
            least = 0 if node.at_once or self.takes(piece.maker) else min(reads, default=0)
            made = self.graph.tensors[node.outputs[0]]
            self._apart[piece.maker] = row_bytes(made.shape, made.dtype.size), least
        row, apart = self._apart[piece.maker]
        return max(0, apart - (row - piece.line))

    def takes(self, node: int) -> bool:
        """True if a node takes its input in row by row."""
        return node in self.request.accumulators

    def timeline(self, last: int, members: int, asking: int, drained: tuple[int, ...] = ()) -> Timeline:
        """The schedule of a group; movements in the mask `asking`, and the last node, have code."""
        asking |= 1 << last
        kernels = [_NOTHING] * (last + 1)
        waiting, known = [last, *drained], {last, *drained}
        while waiting:
            node = waiting.pop()
            needs = tuple(need for need in self._needs(node, asking) if members >> need[0] & 1)
            kernels[node] = KernelRows(self.steps(node), needs, (), NO_ROWS, NO_ROWS, None)
            more = {producer for producer, _ in needs} - known
            known |= more
            waiting += more
        return demand(Rows(tuple(kernels), (), (), {}), last, members, drained)

    def _needs(self, node: int, asking: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
        asking &= self._seen_through[node]
        if (node, asking) not in self._asked:
            self._asked[node, asking] = tuple(
                (need.producer, self._counts(node, need)) for need in self._source(asking).needs(node)
            )
        return self._asked[node, asking]

    def _counts(self, node: int, need: Need) -> tuple[int, ...]:
        """How many steps of a producer each step of a node needs; a node with several results has one."""
        rows = need.rows[-1:] if self.at_once >> node & 1 else need.rows
        return tuple(min(count, 1) for count in rows) if self.at_once >> need.producer & 1 else rows

    def _source(self, asking: int) -> Sources:
        if asking not in self._sources:
            views = [k for k in self.moves if not asking >> k & 1]
            some = self.request.accumulators, self._spans, self.request.riders
            self._sources[asking] = Sources(self.graph, views, *some)
        return self._sources[asking]

    def _reads(self, index: int) -> tuple[PieceRead, ...]:
        node, found = self.graph.nodes[index], dict[int, PieceRead]()
        for operand, name in enumerate(node.inputs):
            if self.graph.is_constant(name):
                continue
            low, upto = self._rows(index, operand)
            elementwise = not node.at_once and self._spans.reach(index, name, 0)[1]
            for seen in self._seen[name]:
                read = _read(seen, low, upto, rows_of(self.graph, name), elementwise=elementwise)
                found[seen.piece] = _both(found[seen.piece], read) if seen.piece in found else read
        return tuple(found.values())

    def _rows(self, index: int, operand: int) -> tuple[Ints, Ints]:
        """By step: the first row of an operand that it or a later one needs, and those up to it."""
        height = rows_of(self.graph, self.graph.nodes[index].inputs[operand])
        taken = index in self.request.accumulators
        low, high = (self._spans.taken if taken else self._spans.rows)(index, operand)
        line = np.where(high > low, low, height)
        if self.at_once >> index & 1:
            return np.array([line.min(initial=height), height]), np.array([high.max(initial=0)])
        return remaining(line, height), np.maximum.accumulate(np.where(high > low, high, 0))


def _may_be_view(graph: Graph, node: Node) -> bool:
    """False if a node has code in every layout: if it computes; if neighbours in the innermost axis of what
    it makes are no neighbours in its operand, since the pixels of every view are contiguous; or if it joins
    operands whose pixels are not contiguous in what it makes."""
    if node.op.traits.alias is Alias.JOIN:
        return may_join_in_place(graph, node)
    if node.op.traits.alias is not Alias.PART:
        return node.op.traits.alias is not None
    (read,) = nest_of(graph, node).reads
    inner = graph.tensors[node.output].shape[-1:]
    if not read.shape or read.shape[-1] == 1 or not inner or inner[0] == 1:
        return True
    index, loop = read.index[-1], nest_of(graph, node).axis_loop(len(graph.tensors[node.output].shape) - 1)
    return not isinstance(index, Affine) or loop is None or any(name == loop for name, _ in index.terms)


def _without_scalars(graph: Graph, moves: frozenset[int], pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The pieces; where many nodes have to do with single elements only (see `Scalars`), these have no bytes
    here. So such nodes are free as soon as they can run, and a bound is lower by no more than that."""
    tensors = graph.tensors
    single = {name for name in tensors if prod(tensors[name].shape) == 1 and not graph.is_constant(name)}
    computing = [node for k, node in enumerate(graph.nodes) if k not in moves]
    count = sum(single.issuperset((*graph.activations(node), *node.outputs)) for node in computing)
    if count < scalars.MANY:
        return pieces
    return tuple(replace(piece, line=0) if piece.value in single else piece for piece in pieces)


_NOTHING = KernelRows(0, (), (), NO_ROWS, NO_ROWS, None)


def _read(seen: Seen, low: Ints, upto: Ints, height: int, *, elementwise: bool) -> PieceRead:
    """Rows of a piece from rows of a tensor that it is in. `upto` is known only where rows are the same."""
    same = len(seen.rows) == height and bool((seen.rows == np.arange(height)).all())
    rows = np.searchsorted(seen.rows, low, side="left")
    return PieceRead(seen.piece, rows, upto if same else np.zeros_like(upto), elementwise)


def _both(one: PieceRead, other: PieceRead) -> PieceRead:
    return PieceRead(
        one.piece,
        np.minimum(one.low, other.low),
        np.maximum(one.upto, other.upto),
        one.elementwise and other.elementwise,
    )
