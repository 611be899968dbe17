# SPDX-License-Identifier: Apache-2.0
"""What readers find before row 0 of a tensor: initial values of states, and masks of rows that come early.

A tensor that lags behind has rows before its row 0 in the first hops. They are computed of what stands
before the sequence, so they are not what a reader pads with. Each reader that pads gets a twin of the tensor,
in which these rows are masked; a count of the hops since the reset says which rows they are. A cell is given
the count, and leaves its state as it is in these rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ops.recurrent_int8 import CELLS, Cell
from mmcc.ops.sequence_start import MaskBeforeStart, RepeatFirstRow
from mmcc.passes.streaming.hops import Found
from mmcc.passes.streaming.nodes import Nodes
from mmcc.passes.streaming.padding import Padding
from mmcc.passes.streaming.reads import INTERPOLATES

Key = tuple[str, str]  # a tensor of the whole, and what it begins with; zeros of both signs are two


class Start:
    """By which names readers of a tensor find it, and what begins it."""

    def __init__(self, graph: Graph, found: Found) -> None:
        self._whole, self._found = graph, found
        self._values: dict[Key, Padding | None] = {}
        self._masked: dict[str, list[Key]] = {}  # by the tensor
        self._cells = frozenset(
            index
            for index in found.reads
            if isinstance(graph.nodes[index].op, CELLS) and found.hops.rows[graph.nodes[index].outputs[0]].lag
        )
        self._repeats = {
            index: self._repeat(index)
            for index, reads in found.reads.items()
            if isinstance(graph.nodes[index].op, INTERPOLATES) and min(reads[0].taps) < 0
        }
        for index, reads in found.reads.items():
            for operand in reads:
                name = graph.nodes[index].inputs[operand]
                key = self.key(name, index)
                if key in self._values:
                    continue
                self._values[key] = self._padding(name, index)
                if found.hops.rows[name].lag and self._values[key] is not None:
                    self._masked.setdefault(name, []).append(key)

    def key(self, name: str, index: int) -> Key:
        """What node `index` reads of a tensor whose rows are time."""
        padding = self._padding(name, index)
        return name, "" if padding is None else repr(float(padding))

    def value(self, key: Key) -> Padding | None:
        """What the rows before row 0 are; None where nobody reads them."""
        return self._values[key]

    def masked(self, name: str) -> list[Key]:
        """What readers that need a twin of a tensor read."""
        return self._masked.get(name, [])

    @property
    def all_masked(self) -> list[Key]:
        """The same of all tensors."""
        return [key for keys in self._masked.values() for key in keys]

    @property
    def most_hops(self) -> int:
        """After so many hops no row that comes is before row 0; 0 if nobody asks."""
        rows = (self._found.hops.rows[name] for name in self._masked)
        cells = (self._found.hops.rows[self._whole.nodes[index].outputs[0]] for index in self._cells)
        waits = [
            *(-(-of.lag // of.hop) for of in (*rows, *cells)),
            *(-(-op.lag // op.hop) for op in self._repeats.values()),
        ]
        return max(waits, default=0)

    def counts(self, index: int) -> bool:
        """True if node `index` itself must know how many hops there were: it repeats its first row, or is a
        cell that has rows before the sequence, in which its state stays."""
        return index in self._cells or index in self._repeats

    def cell(self, op: Cell, y: str) -> Cell:
        """The cell that makes rows of `y`, in a hop as at the end: it waits for row 0."""
        rows = self._found.hops.rows[y]
        return replace(op, lag=rows.lag, hop=rows.hop) if rows.lag else op

    def repeat(self, index: int) -> RepeatFirstRow | None:
        """Through what an interpolation sees its operand, from the first row on that it reads; in a hop as in
        the rows at the end. None if it reads no row before row 0."""
        return self._repeats.get(index)

    def _repeat(self, index: int) -> RepeatFirstRow:
        node, reads = self._whole.nodes[index], self._found.reads[index][0]
        x, y = (self._found.hops.rows[name] for name in (node.inputs[0], node.outputs[0]))
        return RepeatFirstRow(x.hop, reads.stride * y.lag // reads.up - min(reads.taps))

    def mask(self, key: Key) -> MaskBeforeStart:
        """The operator that makes the twin of a tensor."""
        rows, value = self._found.hops.rows[key[0]], self._values[key]
        assert value is not None
        return MaskBeforeStart(rows.hop, rows.lag, float(value))

    def _padding(self, name: str, index: int) -> Padding | None:
        """What node `index` pads with; one that does not pad stands with any other reader of the tensor."""
        own = self._found.padding[index]
        if own is not None:
            return own
        others = (
            self._found.padding[k]
            for k in self._found.reads
            if name in self._whole.nodes[k].inputs and self._found.padding[k] is not None
        )
        return next(others, None)


class Twins:
    """Rows before row 0 in a graph that is being made; `count` is its tensor of hops so far.

    They are masked in twins of their tensors, or where an interpolation reads them.
    """

    def __init__(self, start: Start, made: Nodes, keys: Iterable[Key], count: str) -> None:
        self._start, self._made, self._count = start, made, count
        self._names = {
            key: made.named(f"{key[0]}.begun", made.tensors[key[0]].shape, made.tensors[key[0]])
            for key in keys
        }

    def seen(self, key: Key) -> str:
        """The tensor in which a reader finds rows: the tensor itself, or its twin."""
        return self._names.get(key, key[0])

    def follow(self, node: Node) -> None:
        """The masks of what a node has just made."""
        for name in node.outputs:
            for key in self._start.masked(name):
                if key in self._names:
                    made = (self._names[key],)
                    self._made.nodes.append(Node(self._start.mask(key), (name, self._count), made))

    def repeated(self, name: str, index: int) -> str:
        """Rows that node `index` reads, as an interpolation finds them where it repeats the first."""
        op = self._start.repeat(index)
        if op is None:
            return name
        made = self._made.named(f"{name}.repeated", self._made.tensors[name].shape, self._made.tensors[name])
        self._made.nodes.append(Node(op, (name, self._count), (made,)))
        return made
