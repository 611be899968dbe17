# SPDX-License-Identifier: Apache-2.0
"""The nodes of one hop, and the states that keep rows from hop to hop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.state import State
from mmcc.ir.types import Tensor
from mmcc.ops.movement import Slice
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.recurrent_int8 import CELLS, Cell
from mmcc.ops.repeat import Repeat
from mmcc.ops.sequence_start import CountHops
from mmcc.ops.shift import Shift
from mmcc.passes.streaming.hops import Found
from mmcc.passes.streaming.nodes import TRANSPOSED, Nodes, on_rows
from mmcc.passes.streaming.padding import Padding
from mmcc.passes.streaming.reads import INTERPOLATES, RowReads
from mmcc.passes.streaming.start import Key, Start, Twins

ORDER = ("bias", "peepholes", "lengths", "h", "c", "hops")  # of a cell's operands


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows that a hop of a node reads of an operand, each `step`th."""

    back: int  # from the first row to the end of the newest
    count: int
    step: int


class Step:
    """Makes the graph of one hop out of that of the whole sequence."""

    def __init__(self, graph: Graph, found: Found) -> None:
        self._whole, self._found, self._rows = graph, found, found.hops.rows
        self._made = Nodes(
            {
                name: self._of_hop(tensor) if name in self._rows else tensor
                for name, tensor in graph.tensors.items()
            }
        )
        self._tensors = self._made.tensors
        self._states: list[State] = []
        self.start = Start(graph, found)
        self.count = ""  # the state that counts hops, where something is masked by it
        self._kept: dict[Key, str] = {}  # the old rows of a tensor
        self._last: list[Node] = []  # that write states
        self._cells: dict[str, dict[str, str]] = {}  # by the result of a cell, its states
        self._make()

    def graph(self) -> Graph:
        """The graph of one hop, whose ports are still those of the whole."""
        nodes = (*self._made.nodes, *self._last)
        used = {name for node in nodes for name in (*node.inputs, *node.outputs)}
        used |= self._whole.input_names | self._whole.output_names
        used |= {name for state in self._states for name in (state.begin, state.end)}
        return replace(
            self._whole,
            tensors={name: tensor for name, tensor in self._tensors.items() if name in used},
            constants={
                name: data
                for name, data in {**self._whole.constants, **self._made.constants}.items()
                if name in used
            },
            nodes=nodes,
            origins={},
            states=tuple(self._states),
        )

    def old_rows(self, index: int, operand: int) -> str:
        """The state of the rows of an operand that were there before a hop, for node `index`."""
        name = self._whole.nodes[index].inputs[operand]
        return self._kept[self.start.key(name, index)]

    def cell_states(self, result: str) -> dict[str, str]:
        """By "h" and "c" the states of the cell that makes `result`."""
        return self._cells[result]

    @property
    def states(self) -> dict[str, State]:
        """What is kept from hop to hop, by its name."""
        return {state.begin: state for state in self._states}

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph of a hop."""
        return self._tensors[name]

    def _of_hop(self, tensor: Tensor) -> Tensor:
        return replace(tensor, shape=(self._rows[tensor.name].hop, *tensor.shape[1:]))

    def _make(self) -> None:
        if self.start.most_hops:
            self._count_hops(self.start.most_hops)
        self._twins = Twins(self.start, self._made, self.start.all_masked, self.count)
        for key, depth in self._depths().items():
            self._keep(key, depth)
        for name in sorted(self._found.hops.windows):
            self._keep_window(name)
        for index, node in enumerate(self._whole.nodes):
            if index in self._found.reads:
                self._write(index, node)
                self._twins.follow(node)
            else:
                windows = self._found.hops.windows
                inputs = [self._window_of(name) if name in windows else name for name in node.inputs]
                self._made.nodes.append(replace(node, inputs=tuple(inputs)))

    # ---- which rows are kept

    def _range(self, index: int, operand: int, reads: RowReads) -> _Range:
        """The rows of an operand that a hop of node `index` reads."""
        node = self._whole.nodes[index]
        x, y = self._rows[node.inputs[operand]], self._rows[node.outputs[0]]
        first, last = min(reads.taps), max(reads.taps)
        back = reads.stride * (y.lag + y.hop) // reads.up - x.lag - first
        count = reads.stride * (y.hop // reads.up - 1) + last - first + 1
        dilation = _dilation(node.op) if y.hop == 1 else 1
        return _Range(back, (count - 1) // dilation + 1, dilation)

    def _depths(self) -> dict[Key, int]:
        """How many rows before a hop are kept of each tensor, by what they begin with."""
        depths: dict[Key, int] = {}
        for index, reads in self._found.reads.items():
            for operand, each in reads.items():
                name = self._whole.nodes[index].inputs[operand]
                old = self._range(index, operand, each).back - self._rows[name].hop
                if old > 0:
                    key = self.start.key(name, index)
                    depths[key] = max(depths.get(key, 0), old)
        return depths

    def _keep(self, key: Key, depth: int) -> None:
        """A state of the newest `depth` rows of a tensor before this hop."""
        name, padding = key[0], self.start.value(key)
        old = self._state(name, "kept", depth, 0 if padding is None else padding)
        self._kept[key] = old
        self._last.append(self._pushed(old, self._twins.seen(key), f"{name}.keep"))

    def _count_hops(self, most: int) -> None:
        """A state of the hops since the reset, as far as rows before row 0 come."""
        like = Tensor("", (1,), ElementType.I32)
        self.count, end = self._made.named("hops", (1,), like), self._made.named("hops.next", (1,), like)
        self._states.append(State(self.count, end, np.zeros(1, np.int32)))
        self._last.append(Node(CountHops(most), (self.count,), (end,)))

    def _keep_window(self, name: str) -> None:
        """A state of as many of the newest rows as the whole model has."""
        quant = self._whole.tensors[name].quant
        rows = self._whole.tensors[name].shape[0]
        self._state(name, "window", rows, quant.zero_point if quant else 0)

    def _window_of(self, name: str) -> str:
        """The window of a tensor with this hop's rows in it."""
        made = f"{name}.newest"
        if made not in self._tensors:
            self._made.nodes.append(self._pushed(f"{name}.window", name, made))
        return made

    def _state(self, name: str, kind: str, rows: int, initial: Padding) -> str:
        tensor = self._whole.tensors[name]
        begin = self._made.named(f"{name}.{kind}", (rows, *tensor.shape[1:]), tensor)
        data = np.full((rows, *tensor.shape[1:]), initial, tensor.dtype.numpy)
        self._states.append(State(begin, begin, data))
        return begin

    def _pushed(self, old: str, new: str, hint: str) -> Node:
        """The node that takes a hop's rows into a state."""
        shape, rows = self._tensors[old].shape, self._tensors[new].shape[0]
        end = self._made.named(hint, shape, self._tensors[old])
        self._states = [replace(s, end=end) if s.begin == old else s for s in self._states]
        if rows < shape[0]:
            return Node(Shift(), (old, new), (end,))
        starts = (rows - shape[0], *(0 for _ in shape[1:]))
        return Node(Slice(starts, (1,) * len(shape), shape), (new,), (end,))

    # ---- nodes

    def _write(self, index: int, node: Node) -> None:
        inputs = list(node.inputs)
        for operand, each in self._found.reads[index].items():
            inputs[operand] = self._twins.repeated(self._read(index, operand, each), index)
        if isinstance(node.op, INTERPOLATES):
            up, rows = self._found.reads[index][0].up, self._rows[node.outputs[0]].hop
            inputs[1] = self._made.repeated(self._whole, inputs[1], up, rows)
        if isinstance(node.op, CELLS):
            self._write_cell(node, node.op, inputs)
        elif isinstance(node.op, Repeat):
            self._write_loop(node, node.op, inputs)
        else:
            rows, each = self._rows[node.outputs[0]].hop, self._found.reads[index]
            self._made.add(on_rows(node.op, rows, each), inputs, node.outputs, node)

    def _read(self, index: int, operand: int, reads: RowReads) -> str:
        """The tensor of just the rows that a hop of a node reads."""
        name = self._whole.nodes[index].inputs[operand]
        new, want = self._rows[name].hop, self._range(index, operand, reads)
        name = self._twins.seen(self.start.key(name, index))
        if (want.back, want.count, want.step) == (new, new, 1):
            return name
        parts: list[str] = []
        places = [want.back - k * want.step for k in range(want.count)]  # from the end
        old = [place for place in places if place > new]
        recent = [place for place in places if place <= new]
        if old:
            kept = self.old_rows(index, operand)
            parts.append(
                self._made.rows_of(kept, [self._tensors[kept].shape[0] + new - k for k in old], want.step)
            )
        if recent:
            parts.append(self._made.rows_of(name, [new - place for place in recent], want.step))
        return self._made.joined(name, parts)

    def _write_cell(self, node: Node, op: Cell, inputs: list[str]) -> None:
        """A cell, which finds what it left after the last hop."""
        y = node.outputs[0]
        fixed = len(inputs) - len(op.operands)
        given = dict[str, str](zip(op.operands, inputs[fixed:], strict=True))
        names = ("h", "c") if op.cell == "lstm" else ("h",)
        row = (1, *self._tensors[y].shape[1:])
        like = {name: Tensor("", row, op.state_type(name)) for name in names}
        for name in names:
            none = np.zeros(row, like[name].dtype.numpy)
            first = self._whole.constants[given[name]] if name in given else none
            given[name] = self._made.named(f"{y}.{name}", row, like[name])
            self._states.append(State(given[name], given[name], first))
        self._cells[y] = {name: given[name] for name in names}
        op = self.start.cell(op, y)
        given |= {"hops": self.count} if op.lag else {}
        operands: Any = tuple(name for name in ORDER if name in given)
        # h of a float cell is a row of its result
        last: Any = names[1:] if isinstance(op, Recurrent) else names
        ends = {name: self._made.named(f"{y}.{name}_last", row, like[name]) for name in last}
        op = replace(op, operands=operands, last=last)
        inputs = [*inputs[:fixed], *(given[name] for name in operands)]
        self._made.add(op, inputs, (y, *ends.values()), node)
        if "h" not in ends:
            ends["h"] = self._made.rows_of(y, [self._tensors[y].shape[0] - 1], 1)
        by_begin = {given[name]: ends[name] for name in names}
        self._states = [replace(s, end=by_begin.get(s.begin, s.end)) for s in self._states]

    def _write_loop(self, node: Node, op: Repeat, inputs: list[str]) -> None:
        """A loop of as many steps as a hop has rows, which finds what the hop before handed on."""
        (y,) = node.outputs
        ends: list[str] = []
        for k, like in enumerate(op.inputs()[: op.carried]):
            begin = self._made.named(f"{y}.carried{k}", like.shape, like)
            ends.append(self._made.named(f"{y}.carried{k}_last", like.shape, like))
            self._states.append(State(begin, ends[-1], self._whole.constants[inputs[k]]))
            inputs[k] = begin
        op = replace(op, steps=self._rows[y].hop, kept=tuple(range(op.carried)))
        self._made.add(op, inputs, (*ends, y), node)


def _dilation(op: Op) -> int:
    window = getattr(op, "window", None)
    return window.dilations[0] if window is not None and not isinstance(op, TRANSPOSED) else 1
