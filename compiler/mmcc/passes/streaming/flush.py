# SPDX-License-Identifier: Apache-2.0
"""The rows of a sequence that no hop makes, since they see where it ends: a graph over what hops kept.

After h hops the sequence is h * hop rows of the input. A tensor has then h times its rows of a hop, and as
many more as it has in the whole model beyond those of its hops; of these and of the rows that lag behind the
tail is made, the same number after any h. Its rows depend on rows that hops kept and on others of the tail.
What a node pads behind the last row its kernel pads here, as in the whole model. States are read and left as
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmcc.ir.graph import Graph, Node
from mmcc.ir.state import State
from mmcc.ops.recurrent_int8 import CELLS, Cell
from mmcc.ops.repeat import Repeat
from mmcc.passes.streaming.hops import Found
from mmcc.passes.streaming.nodes import Nodes, on_rows
from mmcc.passes.streaming.reads import INTERPOLATES
from mmcc.passes.streaming.start import Key, Twins
from mmcc.passes.streaming.step import ORDER, Step


class NoFlush(Exception):
    """The end of a sequence cannot be told from what hops keep; the message says why."""


def tails(graph: Graph, found: Found, streamed: str) -> dict[str, int]:
    """How many rows of each tensor no hop makes; below 0 where hops make some that the whole has not.

    NoFlush where hops do not end as the sequence does.
    """
    rows = found.hops.rows
    hops, rest = divmod(graph.tensors[streamed].shape[0], rows[streamed].hop)
    if rest:
        raise NoFlush(f"hops of {rows[streamed].hop} rows do not end where the model's own sequence does")
    return {name: graph.tensors[name].shape[0] - hops * of.hop + of.lag for name, of in rows.items()}


def flush_graph(graph: Graph, found: Found, streamed: str, step: Step) -> Graph | None:
    """The graph of what no hop makes of the outputs, whose ports are still those of the whole; None: nothing.

    NoFlush if there is something, but it does not follow from what hops keep.
    """
    tail = tails(graph, found, streamed)
    if not any(tail.get(port.tensor) for port in graph.outputs):
        return None
    if any(count < 0 for count in tail.values()):
        raise NoFlush("hops make rows that are none of the model's own sequence")
    return _Flush(graph, found, step, tail).graph()


class _Flush:
    def __init__(self, whole: Graph, found: Found, step: Step, tail: Mapping[str, int]) -> None:
        self._whole, self._found, self._step, self._tail = whole, found, step, tail
        self._states: dict[str, State] = {}
        shapes = {
            name: replace(tensor, shape=(tail[name], *tensor.shape[1:])) if tail.get(name) else tensor
            for name, tensor in whole.tensors.items()
        }
        self._made = Nodes(shapes)
        needed = self._needed()
        masked = self._masked(needed)
        counts = masked or any(step.start.counts(index) for index in needed)
        self._count = self._kept(step.states[step.count]) if counts else ""
        self._twins = Twins(step.start, self._made, masked, self._count)
        for index, node in enumerate(whole.nodes):
            if index in needed:
                self._write(index, node)
                self._twins.follow(node)

    def graph(self) -> Graph:
        nodes = self._made.nodes
        used = {name for node in nodes for name in (*node.inputs, *node.outputs)}
        tensors = self._made.tensors
        return replace(
            self._whole,
            tensors={name: tensor for name, tensor in tensors.items() if name in used},
            constants={
                name: data
                for name, data in {**self._whole.constants, **self._made.constants}.items()
                if name in used
            },
            nodes=tuple(nodes),
            origins={},
            inputs=(),
            outputs=tuple(port for port in self._whole.outputs if self._tail.get(port.tensor)),
            states=tuple(self._states.values()),
        )

    def _needed(self) -> set[int]:
        """The nodes that make rows of the tail that an output, or a node that does, reads."""
        names = {port.tensor for port in self._whole.outputs if self._tail.get(port.tensor)}
        found: set[int] = set()
        for index in reversed(range(len(self._whole.nodes))):
            node = self._whole.nodes[index]
            if node.outputs[0] not in names:
                continue
            if index not in self._found.reads or not set(node.inputs) <= self._known():
                raise NoFlush("it would take another input of the model, or a window")
            if isinstance(node.op, Repeat):
                raise NoFlush("a loop would have steps after those of the last hop")
            found.add(index)
            names |= {name for name in node.inputs if self._tail.get(name)}
        return found

    def _masked(self, needed: set[int]) -> list[Key]:
        """What is masked of the rows of the tail that a node reads: a short sequence may begin in them."""
        read = (
            self._step.start.key(self._whole.nodes[index].inputs[operand], index)
            for index in sorted(needed)
            for operand in self._found.reads[index]
        )
        return [
            key
            for key in dict.fromkeys(read)
            if self._tail[key[0]] and key in self._step.start.masked(key[0])
        ]

    def _known(self) -> set[str]:
        return {*self._found.hops.rows, *self._whole.constants}

    def _write(self, index: int, node: Node) -> None:
        inputs = list(node.inputs)
        for operand in self._found.reads[index]:
            inputs[operand] = self._twins.repeated(self._read(index, operand), index)
        if isinstance(node.op, INTERPOLATES):
            up = self._found.reads[index][0].up
            inputs[1] = self._made.repeated(self._whole, inputs[1], up, self._tail[node.outputs[0]])
        if isinstance(node.op, CELLS):
            self._write_cell(node, node.op, inputs)
            return
        op = on_rows(node.op, self._tail[node.outputs[0]], self._found.reads[index], ends=True)
        self._made.add(op, inputs, node.outputs, node)

    def _read(self, index: int, operand: int) -> str:
        """All rows of an operand from the first that the node's tail reads, to the last of the sequence."""
        node = self._whole.nodes[index]
        name, reads = node.inputs[operand], self._found.reads[index][operand]
        x, y = self._found.hops.rows[name], self._found.hops.rows[node.outputs[0]]
        back = (
            reads.stride * y.lag // reads.up - x.lag - min(reads.taps)
        )  # from the first row to the end of the hops'
        newer = list(range(max(0, -back), self._tail[name]))
        name = self._twins.seen(self._step.start.key(name, index))
        parts: list[str] = []
        if back > 0:
            kept = self._kept(self._step.states[self._step.old_rows(index, operand)])
            depth = self._made.tensors[kept].shape[0]
            parts.append(self._made.rows_of(kept, list(range(depth - back, depth))))
        if newer:
            parts.append(self._made.rows_of(name, newer))
        if not parts:
            raise NoFlush(f"{node.op} makes rows of nothing but padding")
        return self._made.joined(name, parts)

    def _kept(self, state: State) -> str:
        """A state, which is read and not changed."""
        self._states[state.begin] = replace(state, end=state.begin)
        return self._made.tensors.setdefault(state.begin, self._step.tensor(state.begin)).name

    def _write_cell(self, node: Node, op: Cell, inputs: list[str]) -> None:
        """A cell, which goes on from what it left after the last hop."""
        fixed = len(inputs) - len(op.operands)
        given = dict[str, str](zip(op.operands, inputs[fixed:], strict=True))
        states = self._step.cell_states(node.outputs[0])
        given |= {name: self._kept(self._step.states[begin]) for name, begin in states.items()}
        op = self._step.start.cell(op, node.outputs[0])
        given |= {"hops": self._count} if op.lag else {}
        operands: Any = tuple(name for name in ORDER if name in given)
        op = replace(op, operands=operands, last=())
        self._made.add(op, [*inputs[:fixed], *(given[name] for name in operands)], node.outputs[:1], node)
