# SPDX-License-Identifier: Apache-2.0
"""Does the graph of a hop compute the rows of the whole graph? Proved by running it on row numbers.

In memory are not values but which row of which tensor of the whole graph each row is. Hop by hop, a node
must find in its operands just the rows, in the order, that the whole node reads for the same row of its
result; before the first row it must find padding. As soon as no state holds padding any more, what one
further hop leaves must be what the one before left, moved on by a hop. Then every hop after it is the same
again, moved on: the stream is right for ever. And so is what is made of the same states where a sequence
ends, which is looked at after each of these hops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mmcc.checker.stream_end import End, dropped_rows
from mmcc.checker.stream_rows import (
    COUNTED,
    HOPS,
    INTERPOLATES,
    PADDING,
    Carrier,
    Row,
    before_start,
    cell_rows,
    differences,
    early_steps,
    first_rows,
    found_rows,
    handed_on,
    held_by_cells,
    meant,
    other_constants,
    other_row_weights,
    padding_of,
    padding_row,
    reads_of,
    result_of,
)
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.state import State
from mmcc.ir.streaming import Hops, Streamed
from mmcc.ops.recurrent_int8 import CELLS, Cell
from mmcc.ops.repeat import Repeat
from mmcc.ops.sequence_start import MaskBeforeStart, RepeatFirstRow

MOST_HOPS = 1 << 16


def check_stream(whole: Graph, streamed: Streamed) -> list[str]:
    """What is wrong with the graph of a hop or of the end, one sentence each; empty for right ones."""
    (time,) = (port.tensor for port in whole.inputs if port.onnx_name == streamed.streaming.input)
    dropped = dropped_rows(whole, streamed.hops, time)
    if dropped:
        return dropped[:8]
    end = (
        None
        if streamed.flush is None
        else End(whole, streamed.flush, streamed.hops, time, held_by_cells(streamed.step, streamed.hops))
    )
    return _Check(whole, streamed.step, streamed.hops, end).run()


class _Check:
    def __init__(self, whole: Graph, step: Graph, hops: Hops, end: End | None) -> None:
        self._whole, self._step, self._hops, self._end = whole, step, hops, end
        self._states: dict[str, list[Row]] = {}
        self._held = held_by_cells(step, hops)
        self._hop = {name: rows.hop for name, rows in hops.rows.items()}
        self._hop |= {held: hops.rows[y].hop for (y, _), held in self._held.items()}
        self._handed = handed_on(step, hops)
        self._hop |= {held: hops.rows[y].hop for (y, _), held in self._handed.items()}
        self._wrong: list[str] = []
        self._carry = Carrier(step)

    def run(self) -> list[str]:
        self._wrong += other_constants(self._whole, self._step)
        cells, counts = self._cells() | self._loops(), self._counts()
        for state in self._step.states:
            if state.begin in cells:
                self._states[state.begin] = [(cells[state.begin], -1)] * _rows_of(state)
            elif state.begin in counts:
                self._states[state.begin] = [(HOPS, int(state.initial[0]))]
            else:
                self._states[state.begin] = first_rows(state)
        for hop in range(1, MOST_HOPS):
            full = not any(name == PADDING for rows in self._states.values() for name, _ in rows)
            before = self._states
            self._run(hop)
            if self._end is not None and not self._wrong:
                self._wrong += self._end.after(hop, self._states)
            if self._wrong:
                return self._wrong[:8]
            if full and hop > 1 + self._most_lag():
                return self._moved_on(before)
        return [f"the states still hold padding after {MOST_HOPS} hops"]

    def _cells(self) -> dict[str, str]:
        """What stands for each state of a cell, where the cell reads it."""
        found: dict[str, str] = {}
        for (y, name), held in self._held.items():
            node = self._step.producer[y]
            assert isinstance(node.op, CELLS)
            at = node.op.position(name)
            if at is not None:
                found[node.inputs[at]] = held
        return found

    def _loops(self) -> dict[str, str]:
        """What stands for each state of a loop, where its first step reads it."""
        return {self._step.producer[y].inputs[k]: held for (y, k), held in self._handed.items()}

    def _counts(self) -> set[str]:
        """What is read as a count of hops."""
        nodes = self._step.nodes
        counts = {node.inputs[-1] for node in nodes if isinstance(node.op, COUNTED)}
        cells = ((node, node.op.position("hops")) for node in nodes if isinstance(node.op, CELLS))
        return counts | {node.inputs[at] for node, at in cells if at is not None}

    def _most_lag(self) -> int:
        """After so many hops every row comes as late as it ever does, and masks stay as they are."""
        late = [*self._hops.rows.values()]
        late += [
            node.op for node in self._step.nodes if isinstance(node.op, MaskBeforeStart | RepeatFirstRow)
        ]
        return max((-(-rows.lag // rows.hop) for rows in late), default=0)

    def _moved_on(self, before: Mapping[str, list[Row]]) -> list[str]:
        return [
            f'state "{state.begin}" is not what it was, moved on by a hop'
            for state in self._step.states
            if state.begin != state.end
            and self._states[state.begin] != [self._next(row) for row in before[state.begin]]
        ]

    def _next(self, row: Row) -> Row:
        """What a row is a hop later. A count must stay, so masks do."""
        name, at = row
        return row if isinstance(at, str) or name == HOPS else (name, at + self._hop[name])

    # ---- one hop

    def _run(self, hop: int) -> None:
        rows: dict[str, list[Row]] = {name: list(kept) for name, kept in self._states.items()}
        for port in self._step.inputs:
            if port.tensor in self._hops.rows:
                rows[port.tensor] = [*self._made(port.tensor, hop)]
        for node in self._step.nodes:
            original = self._whole.producer.get(result_of(node))
            if original is None:
                rows[node.outputs[0]] = self._carried(node, rows)
            elif result_of(node) in self._hops.rows:
                self._compute(original, node, rows, hop)
            else:
                self._compute_all(original, node, rows, hop)
        self._states = {state.begin: rows[state.end] for state in self._step.states}

    def _made(self, name: str, hop: int) -> list[tuple[str, int]]:
        """The rows of a tensor that are new in a hop; of another tensor of the whole graph there are none."""
        of = self._hops.rows[name]
        return [(name, row) for row in range((hop - 1) * of.hop - of.lag, hop * of.hop - of.lag)]

    def _carried(self, node: Node, rows: Mapping[str, list[Row]]) -> list[Row]:
        """The rows of a node that only moves them."""
        carried = self._carry(node, rows)
        if carried is None:
            self._wrong.append(f"{node.op} of a hop does not only carry rows")
            return [padding_row(None)] * nest_of(self._step, node).write.shape[0]
        return carried

    def _compute(self, original: Node, node: Node, rows: dict[str, list[Row]], hop: int) -> None:
        """A node of the whole graph on the rows of one hop."""
        if hop == 1:
            if isinstance(original.op, CELLS):
                self._wrong += self._other_beginning(original, original.op, node)
            if isinstance(original.op, Repeat):
                self._wrong += self._other_values(original, original.op, node)
            self._wrong += differences(self._whole, original, self._step, node)
        if isinstance(node.op, CELLS):
            self._hand_on(node, rows, hop)
        y = result_of(node)
        made = self._made(y, hop)
        if isinstance(node.op, Repeat):
            self._go_on(node, node.op, rows, made)
        if isinstance(original.op, INTERPOLATES) and other_row_weights(
            self._whole, original, self._step, node, made[0][1]
        ):
            self._wrong.append(f'"{made[0][0]}" weighs rows otherwise')
        rows[y] = cell_rows(made) if isinstance(node.op, CELLS) else [*made]
        padding = padding_row(padding_of(self._whole, original))
        for k, name in enumerate(original.inputs):
            if name not in self._hops.rows:
                continue
            for j, (_, row) in enumerate(made):
                want = meant(original, name, reads_of(self._whole, original, k, row), padding)
                have = found_rows(node, rows[node.inputs[k]], reads_of(self._step, node, k, j))
                if row >= 0 and want != have and len(self._wrong) < 8:
                    self._wrong.append(f'row {row} of "{made[0][0]}" is made of {have}, not of {want}')

    def _hand_on(self, node: Node, rows: dict[str, list[Row]], hop: int) -> None:
        """A cell must find what it left after the row before, and what it began with until row 0."""
        op = node.op
        assert isinstance(op, CELLS)
        y = self._made(node.outputs[0], hop)
        early = early_steps(node, rows, len(y))
        if early != before_start(y):
            self._wrong.append(f'"{y[0][0]}" waits for {early} of its rows from {y[0][1]} on')
        for name in ("h", "c") if op.cell == "lstm" else ("h",):
            at = op.position(name)
            found = rows.get(node.inputs[at]) if at is not None else None
            if found != [(self._held[y[0][0], name], max(-1, y[0][1] - 1))]:
                self._wrong.append(f'"{y[0][0]}" goes on with {found} instead of its row before')
        handed = zip(op.last, node.outputs[1:], strict=True)
        rows |= {out: [(self._held[y[-1][0], name], max(-1, y[-1][1]))] for name, out in handed}

    def _go_on(self, node: Node, op: Repeat, rows: dict[str, list[Row]], made: list[tuple[str, int]]) -> None:
        """A loop's first step must find what the step before it handed on: that of the row before."""
        (y, first), last = made[0], made[-1][1]
        if first < 0 or op.steps != len(made):
            self._wrong.append(f'"{y}" makes {op.steps} steps from row {first} on, of {len(made)} rows')
        if op.kept != tuple(range(op.carried)):
            self._wrong.append(f'"{y}" does not hand on all of its values')
        for k in range(op.carried):
            held = self._handed[y, k]
            found = rows.get(node.inputs[k], [])
            if set(found) != {(held, first - 1)}:
                self._wrong.append(f'a step of "{y}" goes on with {found[:2]} instead of those before')
            rows[node.outputs[k]] = [(held, last)] * len(found)

    def _other_values(self, original: Node, whole: Repeat, node: Node) -> Iterator[str]:
        """A loop must begin as in the whole graph."""
        initial = {state.begin: state.initial for state in self._step.states}
        for k in range(whole.carried):
            want, have = self._whole.constants.get(original.inputs[k]), initial.get(node.inputs[k])
            if want is None or have is None or not np.array_equal(want, have, equal_nan=True):
                yield f'value {k} of "{original.outputs[0]}" begins otherwise'

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
            found = [PADDING if row[0] == PADDING else row for row in rows.get(name, [])]
            if found != want:
                self._wrong.append(f'the window of "{of_whole}" does not hold its newest {count} rows')

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


def _rows_of(state: State) -> int:
    return len(state.initial) if state.initial.ndim else 1
