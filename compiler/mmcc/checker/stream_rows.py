# SPDX-License-Identifier: Apache-2.0
"""Rows that a graph of a stream moves and reads, as numbers of rows of the whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import product
from typing import Any

from mmcc.checker.views import only_moves
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Access, Affine, Nest
from mmcc.ops.recurrent_int8 import CELLS

Row = tuple[str, int]  # a row of a tensor of the whole graph
PADDING = ("", -1)
# of an operator, what a hop has otherwise: it sees other rows
OF_ROWS = ("window", "counted", "before", "after", "starts", "shape", "operands", "last")


def held_by_cells(step: Graph) -> dict[tuple[str, str], str]:
    """What stands for h and c of each cell of a hop, by its result and "h" or "c".

    h is a row of the result where the cell does not hand it on apart from that; c never is one.
    """
    return {
        (node.outputs[0], name): f"{name} of {node.outputs[0]}" if name in node.op.last else node.outputs[0]
        for node in step.nodes
        if isinstance(node.op, CELLS)
        for name in (("h", "c") if node.op.cell == "lstm" else ("h",))
    }


class Carrier:
    """Which rows a node of a graph moves where; None of a node that does more than that."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._movers: dict[Node, bool] = {}

    def __call__(self, node: Node, rows: Mapping[str, list[Row]]) -> list[Row] | None:
        nest, found = nest_of(self._graph, node), list[Row]()
        if node not in self._movers:
            within = all(_inner(read) == _inner(nest.write) for read in nest.reads)
            shapes = self._graph.tensors
            self._movers[node] = within and only_moves(self._graph, node, lambda name: shapes[name].shape)
        if not self._movers[node]:
            return None
        for row in range(nest.write.shape[0]):
            sources = [
                rows[node.inputs[read.operand]][at]
                for read in nest.reads
                for at in _taps(nest, read, row)
                if 0 <= at < read.shape[0]
            ]
            found.append(sources[0] if len(sources) == 1 else PADDING)
        return found


def found_row(rows: list[Row], at: int) -> Row:
    """The row at a place of an operand, or what is said of a place beside it."""
    return rows[at] if 0 <= at < len(rows) else ("beside the operand", at)


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


def reads_of(nest: Nest, operand: int, row: int) -> list[int]:
    """The rows of an operand that a row of the result reads, in the order of its accesses."""
    return [at for read in nest.reads if read.operand == operand for at in _taps(nest, read, row)]


def differences(whole: Graph, original: Node, step: Graph, node: Node) -> Iterator[str]:
    """Where a node of a stream is another than that of the whole, besides its rows."""
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
