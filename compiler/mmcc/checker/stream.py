# SPDX-License-Identifier: Apache-2.0
"""Does the graph of a hop compute the rows of the whole graph? Proved by running it on row numbers.

In memory are not values but which row of which tensor of the whole graph each row is. Hop by hop, a node
must find in its operands just the rows, in the order, that the whole node reads for the same row of its
result; before the first row it must find padding. As soon as no state holds padding any more, what one
further hop leaves must be what the one before left, moved on by a hop. Then every hop after it is the same
again, moved on: the stream is right for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import product
from typing import Any

from mmcc.checker.views import only_moves
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Access, Affine, Nest
from mmcc.ir.streaming import Hops
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat
from mmcc.ops.int16 import ConvInt16
from mmcc.ops.movement import Pad
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool
from mmcc.ops.recurrent_int8 import CELLS, Cell

Row = tuple[str, int]  # a row of a tensor of the whole graph
PADDING = ("", -1)
MOST_HOPS = 1 << 16
# of an operator, what a hop has otherwise: it sees other rows
OF_ROWS = ("window", "counted", "before", "after", "starts", "shape", "operands", "last")


def check_stream(whole: Graph, step: Graph, hops: Hops) -> list[str]:
    """What is wrong with the graph of a hop, one sentence each; empty for a right one."""
    return _Check(whole, step, hops).run()


class _Check:
    def __init__(self, whole: Graph, step: Graph, hops: Hops) -> None:
        self._whole, self._step, self._hops = whole, step, hops
        self._states: dict[str, list[Row]] = {}
        self._wrong: list[str] = []
        self._movers: dict[Node, bool] = {}

    def run(self) -> list[str]:
        self._wrong += _other_constants(self._whole, self._step)
        cells = {name: y for y, names in self._cells().items() for name in names}
        for state in self._step.states:
            first = (cells[state.begin], -1) if state.begin in cells else PADDING
            self._states[state.begin] = [first] * len(state.initial)
        for hop in range(1, MOST_HOPS):
            full = not any(PADDING in rows for rows in self._states.values())
            before = self._states
            self._run(hop)
            if self._wrong:
                return self._wrong[:8]
            if full and hop > 1 + self._most_lag():
                return self._moved_on(before)
        return [f"the states still hold padding after {MOST_HOPS} hops"]

    def _cells(self) -> dict[str, list[str]]:
        """By the result of a cell, the states that it hands on."""
        found: dict[str, list[str]] = {}
        for node in self._step.nodes:
            if isinstance(node.op, CELLS):
                at = (node.op.position(name) for name in ("h", "c"))
                found[node.outputs[0]] = [node.inputs[k] for k in at if k is not None]
        return found

    def _most_lag(self) -> int:
        return max((-(-rows.lag // rows.hop) for rows in self._hops.rows.values()), default=0)

    def _moved_on(self, before: Mapping[str, list[Row]]) -> list[str]:
        return [
            f'state "{state.begin}" is not what it was, moved on by a hop'
            for state in self._step.states
            if state.begin != state.end
            and self._states[state.begin] != [self._next(row) for row in before[state.begin]]
        ]

    def _next(self, row: Row) -> Row:
        return row[0], row[1] + self._hops.rows[row[0]].hop

    # ---- one hop

    def _run(self, hop: int) -> None:
        rows: dict[str, list[Row]] = {name: list(kept) for name, kept in self._states.items()}
        for port in self._step.inputs:
            if port.tensor in self._hops.rows:
                rows[port.tensor] = self._made(port.tensor, hop)
        for node in self._step.nodes:
            original = self._whole.producer.get(node.outputs[0])
            if original is None:
                rows[node.outputs[0]] = self._carried(node, rows)
            elif node.outputs[0] in self._hops.rows:
                self._compute(original, node, rows, hop)
            else:
                self._compute_all(original, node, rows, hop)
        self._states = {state.begin: rows[state.end] for state in self._step.states}

    def _made(self, name: str, hop: int) -> list[Row]:
        """The rows of a tensor that are new in a hop; of another tensor of the whole graph there are none."""
        of = self._hops.rows[name]
        return [(name, row) for row in range((hop - 1) * of.hop - of.lag, hop * of.hop - of.lag)]

    def _carried(self, node: Node, rows: Mapping[str, list[Row]]) -> list[Row]:
        """The rows of a node that only moves them."""
        nest, found = nest_of(self._step, node), list[Row]()
        if node not in self._movers:
            within = all(_inner(read) == _inner(nest.write) for read in nest.reads)
            shapes = self._step.tensors
            self._movers[node] = within and only_moves(self._step, node, lambda name: shapes[name].shape)
        if not self._movers[node]:
            self._wrong.append(f"{node.op} of a hop does not only carry rows")
            return [PADDING] * nest.write.shape[0]
        for row in range(nest.write.shape[0]):
            sources = [
                rows[node.inputs[read.operand]][at]
                for read in nest.reads
                for at in _taps(nest, read, row)
                if 0 <= at < read.shape[0]
            ]
            found.append(sources[0] if len(sources) == 1 else PADDING)
        return found

    def _compute(self, original: Node, node: Node, rows: dict[str, list[Row]], hop: int) -> None:
        """A node of the whole graph on the rows of one hop."""
        if hop == 1:
            if isinstance(original.op, CELLS):
                self._wrong += self._other_beginning(original, original.op, node)
            self._wrong += _differences(self._whole, original, self._step, node)
            self._wrong += self._other_padding(original, node, rows)
        if isinstance(node.op, CELLS):
            self._hand_on(node, rows, hop)
        nest, whole = nest_of(self._step, node), nest_of(self._whole, original)
        made = self._made(node.outputs[0], hop)
        rows[node.outputs[0]] = made
        for k, name in enumerate(original.inputs):
            if name not in self._hops.rows:
                continue
            for j, (_, row) in enumerate(made):
                want = [(name, at) if at >= 0 else PADDING for at in _reads_of(whole, k, row)]
                have = [self._row(rows[node.inputs[k]], at) for at in _reads_of(nest, k, j)]
                if row >= 0 and want != have and len(self._wrong) < 8:
                    self._wrong.append(f'row {row} of "{made[0][0]}" is made of {have}, not of {want}')

    def _row(self, rows: list[Row], at: int) -> Row:
        return rows[at] if 0 <= at < len(rows) else ("beside the operand", at)

    def _hand_on(self, node: Node, rows: dict[str, list[Row]], hop: int) -> None:
        """A cell must find what it left after the row before."""
        op = node.op
        assert isinstance(op, CELLS)
        y = self._made(node.outputs[0], hop)
        for name in ("h", "c") if op.cell == "lstm" else ("h",):
            at = op.position(name)
            found = rows.get(node.inputs[at]) if at is not None else None
            if found != [(y[0][0], y[0][1] - 1)]:
                self._wrong.append(f'"{y[0][0]}" goes on with {found} instead of its row before')
        rows |= {name: [y[-1]] for name in node.outputs[1:]}

    def _compute_all(self, original: Node, node: Node, rows: dict[str, list[Row]], hop: int) -> None:
        """A node that sees a window must find in it the newest rows."""
        if original.op != node.op:
            self._wrong.append(f"{node.op} over a window is {original.op} in the whole")
        for name, of_whole in zip(node.inputs, original.inputs, strict=True):
            if of_whole not in self._hops.rows:
                self._wrong += [] if name == of_whole else [f'"{name}" stands for "{of_whole}"']
                continue
            of, count = self._hops.rows[of_whole], self._whole.tensors[of_whole].shape[0]
            end = hop * of.hop - of.lag
            want = [(of_whole, at) if at >= 0 else PADDING for at in range(end - count, end)]
            if rows.get(name) != want:
                self._wrong.append(f'the window of "{of_whole}" does not hold its newest {count} rows')

    def _other_padding(self, original: Node, node: Node, rows: Mapping[str, list[Row]]) -> Iterator[str]:
        """Padding must hold what the whole node takes for rows before the first, if it takes any."""
        value, whole = _padding(self._whole, original), nest_of(self._whole, original)
        initial = {state.begin: state.initial for state in self._step.states}
        for k, name in enumerate(node.inputs):
            if PADDING not in rows.get(name, ()) or all(at >= 0 for at in _reads_of(whole, k, 0)):
                continue
            for begin in self._sources(name) & set(initial):
                if value is None or (initial[begin] != value).any():
                    yield f'state "{begin}" begins with something else than {value}, as {original.op} pads'

    def _other_beginning(self, original: Node, whole: Cell, node: Node) -> Iterator[str]:
        """A cell must begin as in the whole graph."""
        assert isinstance(node.op, CELLS)
        initial = {state.begin: state.initial for state in self._step.states}
        for name in ("h", "c") if whole.cell == "lstm" else ("h",):
            at, now = whole.position(name), node.op.position(name)
            want = 0 if at is None else self._whole.constants.get(original.inputs[at])
            have = initial.get(node.inputs[now]) if now is not None else None
            if want is None or have is None or (have != want).any():
                yield f'{name} of "{original.outputs[0]}" begins otherwise'

    def _sources(self, name: str) -> set[str]:
        """The tensors that a tensor was carried from."""
        node = self._step.producer.get(name)
        if node is None or name in self._whole.producer:
            return {name}
        return {source for each in node.inputs for source in self._sources(each)}


def _inner(access: Access) -> tuple[Any, ...]:
    """The index of an access within a row."""
    ours = zip(access.index[1:], access.shape[1:], strict=True)
    return tuple(axis if extent > 1 else None for axis, extent in ours)


def _taps(nest: Nest, read: Access, row: int) -> list[int]:
    """The rows of an operand that a row of the result reads, in the order of the loops."""
    axis = read.index[0]
    if not isinstance(axis, Affine):  # a reshape that keeps its rows
        return [row]
    by_row = nest.axis_loop(0)
    extents = {loop.name: loop.extent for loop in nest.loops}
    ranges = [[c * i for i in range(extents[name])] for name, c in axis.terms if name != by_row]
    begin = axis.offset + sum(c * row for name, c in axis.terms if name == by_row)
    return [(begin + sum(each)) // axis.divisor for each in product(*ranges)]


def _reads_of(nest: Nest, operand: int, row: int) -> list[int]:
    return [at for read in nest.reads if read.operand == operand for at in _taps(nest, read, row)]


def _differences(whole: Graph, original: Node, step: Graph, node: Node) -> Iterator[str]:
    """Where a node of a hop is another than that of the whole, besides its rows."""
    named = f'"{node.outputs[0]}"'
    if type(original.op) is not type(node.op):
        yield f"{named} is made by {node.op}, not by {original.op}"
        return
    for each in fields(original.op):  # type: ignore[arg-type]  # every op is a dataclass
        if each.name not in OF_ROWS and getattr(original.op, each.name) != getattr(node.op, each.name):
            yield f"{each.name} of {named} is another"
    one, other = nest_of(whole, original), nest_of(step, node)
    for read in one.reads:
        twin = next((r for r in other.reads if _inner(r) == _inner(read)), None)
        if twin is None and not isinstance(node.op, CELLS):
            yield f"{named} reads its operand {read.operand} otherwise within a row"
    for k, name in enumerate(original.inputs):
        if whole.is_constant(name) and name not in node.inputs and not isinstance(node.op, CELLS):
            yield f"{named} does not read constant {k}, %{name}"


def _other_constants(whole: Graph, step: Graph) -> Iterator[str]:
    for name, data in step.constants.items():
        if not whole.is_constant(name) or whole.constants[name] is not data:
            yield f"%{name} is no constant of the whole"


def _padding(graph: Graph, node: Node) -> float | None:
    """What a node takes for rows beside its operand."""
    match node.op:
        case ConvInt8() | ConvInt8ToFloat() | AveragePoolInt8():
            return node.op.x_zero
        case Conv() | ConvInt16():
            return 0.0
        case AveragePool():
            return 0.0 if node.op.counted[0] >= node.op.window.pads[0] else None
        case MaxPool():
            return graph.tensors[node.inputs[0]].dtype.least
        case Pad():
            return node.op.value
        case _:
            return None
