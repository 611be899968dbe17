# SPDX-License-Identifier: Apache-2.0
"""Does the graph of the end of a sequence compute the rows of the whole graph that no hop makes?

After h hops the sequence is h * hop rows of its input; each tensor has as many rows more than its hops make
as in the whole graph, which is the one of so many hops as its own sequence has. A node must find in its
operands just the rows that the whole node reads for the same row of its result, behind the last row nothing,
where its kernel pads as that of the whole does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmcc.checker.stream_rows import (
    INTERPOLATES,
    Carrier,
    Row,
    before_start,
    cell_rows,
    differences,
    early_steps,
    found_rows,
    meant,
    other_constants,
    other_row_weights,
    padding_of,
    padding_row,
    reads_of,
)
from mmcc.ir.graph import Graph, Node
from mmcc.ir.streaming import Hops
from mmcc.ops.movement import Pad
from mmcc.ops.recurrent_int8 import CELLS
from mmcc.ops.repeat import Repeat


class End:
    """The graph of the end, held against the whole after any number of hops.

    `time` is the input's tensor; `held` is what stands for h and c of cells.
    """

    def __init__(
        self, whole: Graph, flush: Graph, hops: Hops, time: str, held: Mapping[tuple[str, str], str]
    ) -> None:
        self._whole, self._flush, self._hops, self._held = whole, flush, hops, held
        self._own, rest = divmod(whole.tensors[time].shape[0], hops.rows[time].hop)
        self._carry = Carrier(flush)
        self._wrong = [f"the whole has {rest} rows more than hops take"] if rest else []

    def after(self, hop: int, states: Mapping[str, list[Row]]) -> list[str]:
        """What is wrong at the end of a sequence of `hop` hops, one sentence each."""
        rows = {state.begin: states.get(state.begin, []) for state in self._flush.states}
        if hop == 1:
            self._wrong += self._other_ports()
        for node in self._flush.nodes:
            original = self._whole.producer.get(node.outputs[0])
            if original is None:
                carried = self._carry(node, rows)
                self._wrong += [] if carried is not None else [f"{node.op} does not only carry rows"]
                rows[node.outputs[0]] = (
                    carried or [padding_row(None)] * self._flush.tensors[node.outputs[0]].shape[0]
                )
                continue
            if hop == 1:
                self._wrong += self._otherwise(original, node)
                if isinstance(node.op, Repeat):
                    self._wrong.append(f'"{node.outputs[0]}" has steps after those of the last hop')
            self._wrong += self._compute(original, node, rows, hop)
            if self._wrong:
                break
        return self._wrong[:8]

    def _made(self, name: str, hop: int) -> tuple[int, int]:
        """The first row that no hop made, and the end of the sequence's rows."""
        of = self._hops.rows[name]
        return hop * of.hop - of.lag, self._whole.tensors[name].shape[0] + (hop - self._own) * of.hop

    def _compute(self, original: Node, node: Node, rows: dict[str, list[Row]], hop: int) -> Iterator[str]:
        y = node.outputs[0]
        first, end = self._made(y, hop)
        made = [(y, row) for row in range(first, end)]
        rows[y] = cell_rows(made) if isinstance(node.op, CELLS) else [*made]
        if len(rows[y]) != self._flush.tensors[y].shape[0]:
            yield f'"{y}" has {self._flush.tensors[y].shape[0]} rows at the end, not {len(rows[y])}'
        if isinstance(original.op, INTERPOLATES) and other_row_weights(
            self._whole, original, self._flush, node, first
        ):
            yield f'"{y}" weighs rows otherwise at the end'
        padding = padding_row(padding_of(self._whole, original))
        back = (hop - self._own) * self._hops.rows[y].hop  # from a row to its like in the whole graph
        for k, name in enumerate(original.inputs):
            if name not in self._hops.rows:
                continue
            moved, last = (hop - self._own) * self._hops.rows[name].hop, self._made(name, hop)[1]
            have_rows = rows.get(node.inputs[k], [])
            for j, (_, row) in enumerate(made):
                of_whole = reads_of(self._whole, original, k, row - back)
                reads = [None if at is None else at + moved for at in of_whole]
                want = meant(original, name, reads, padding, last)
                have = found_rows(node, have_rows, reads_of(self._flush, node, k, j), ends=True)
                if row >= 0 and last > 0 and want != have:  # no model computes of a sequence without rows
                    yield f'row {row} of "{y}" at the end is made of {have}, not of {want}'
        if isinstance(node.op, CELLS):
            yield from self._other_beginning(node, rows, made)

    def _other_beginning(
        self, node: Node, rows: Mapping[str, list[Row]], made: list[tuple[str, int]]
    ) -> Iterator[str]:
        """A cell must find what it left after the last hop, and wait for row 0 if that has not come yet."""
        assert isinstance(node.op, CELLS)
        before, early = max(-1, made[0][1] - 1), early_steps(node, rows, len(made))
        if early != before_start(made):
            yield f'"{node.outputs[0]}" waits for {early} of its rows from {made[0][1]} on, at the end'
        for name in ("h", "c") if node.op.cell == "lstm" else ("h",):
            at = node.op.position(name)
            found = rows.get(node.inputs[at]) if at is not None else None
            if found != [(self._held.get((node.outputs[0], name)), before)]:
                yield f'"{node.outputs[0]}" ends with {found} instead of its row before'

    def _otherwise(self, original: Node, node: Node) -> Iterator[str]:
        """Where a node is another than that of the whole, besides its rows."""
        yield from differences(self._whole, original, self._flush, node)
        mine, theirs = (getattr(each.op, "counted", None) for each in (node, original))
        if mine is not None and theirs is not None and mine[2] != theirs[2]:
            yield f'"{node.outputs[0]}" counts other rows behind the last'
        if isinstance(original.op, Pad) and isinstance(node.op, Pad) and node.op.after != original.op.after:
            yield f'"{node.outputs[0]}" is padded otherwise behind the last row'

    def _other_ports(self) -> Iterator[str]:
        """All outputs with rows at the end must be there; constants must be those of the whole."""
        for port in self._whole.outputs:
            first, end = self._made(port.tensor, 1) if port.tensor in self._hops.rows else (0, 0)
            if (end > first) != (port.tensor in self._flush.output_names):
                yield f'output "{port.onnx_name}" has {end - first} rows at the end'
        for wrong in other_constants(self._whole, self._flush):
            yield f"{wrong}, at the end"
        for state in self._flush.states:
            if state.end != state.begin:
                yield f'state "{state.begin}" is changed at the end'


def dropped_rows(whole: Graph, hops: Hops, time: str) -> list[str]:
    """Where hops over the whole's own sequence use, or give, rows that the whole has dropped at its end.

    Rows that a later row reads lie no further ahead than those of the last one: that is looked at.
    """
    count = whole.tensors[time].shape[0] // hops.rows[time].hop
    made = {name: count * of.hop - of.lag for name, of in hops.rows.items()}
    rows = {name: whole.tensors[name].shape[0] for name in made}
    wrong: list[str] = []
    for node in whole.nodes:
        result = node.outputs[0]
        last = min(made.get(result, 0), rows.get(result, 0)) - 1
        for k, name in enumerate(node.inputs):
            if last < 0 or name not in made:
                continue
            ahead = [at for at in reads_of(whole, node, k, last) if at is not None and at >= rows[name]]
            wrong += [f'row {last} of "{result}" reads row {at} of "{name}", a dropped one' for at in ahead]
    wrong += [
        f'"{name}" has {made[name]} rows after {count} hops, {rows[name]} in the whole'
        for name in whole.output_names
        if name in made and made[name] > rows[name]
    ]
    return wrong
