"""How a group runs: its loop is pulled, so that each row is made just before it is needed.

The last node makes `tile_rows` rows a turn. Before a node makes a row, the nodes inside the group that it
reads make the rows it needs and has not got yet, one at a time, in the same way. All comes from Nests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmcc.ir.graph import Graph, Node, geometry
from mmcc.ir.nest import Nest, Span
from mmcc.ir.plan import Group


@dataclass(frozen=True, slots=True)
class Need:
    """What one node of a group needs of another: `rows[r]` rows must have been made for its row r."""

    producer: int  # index of the node that makes the rows
    rows: tuple[int, ...]  # never falls


@dataclass(frozen=True, slots=True)
class Turn:
    """One call: node `node` makes output rows [begin, end)."""

    node: int
    begin: int
    end: int


def nest_of(graph: Graph, node: Node) -> Nest:
    """The loops of a node."""
    return node.op.nest(*(graph.tensors[name].shape for name in node.inputs))


def rows_of(graph: Graph, name: str) -> int:
    """Rows of a tensor, as kernels count them."""
    return geometry(graph.tensors[name].shape)[0]


def row_span(graph: Graph, node: Node, operand: int, rows: Span) -> Span:
    """Rows of an operand that some rows of the node's output need."""
    height = rows_of(graph, node.inputs[operand])
    if len(graph.tensors[node.inputs[operand]].shape) < len(graph.tensors[node.output].shape):
        return Span(0, height)  # broadcast over rows
    nest = nest_of(graph, node)
    need = Span(0, 0)
    for read, access in enumerate(nest.reads):
        if access.operand == operand:
            for row in (rows.lo, rows.hi - 1):
                need = need.join(nest.rows_needed(read, row))
    return need


def col_span(graph: Graph, node: Node, operand: int, cols: Span) -> Span:
    """Columns of an operand that some columns of the node's output need."""
    width = geometry(graph.tensors[node.inputs[operand]].shape)[1]
    if len(graph.tensors[node.inputs[operand]].shape) < len(graph.tensors[node.output].shape):
        return Span(0, width)
    nest = nest_of(graph, node)
    need = Span(0, 0)
    for read, access in enumerate(nest.reads):
        if access.operand == operand:
            need = need.join(nest.cols_needed(read, cols))
    return need.clamp(width)


def needs(graph: Graph, group: Group, aliases: frozenset[int]) -> dict[int, tuple[Need, ...]]:
    """For each node with code: the nodes of the group that it reads from, aliases looked through."""
    inside = {graph.nodes[k].output: k for k in group.nodes}
    table: dict[int, tuple[Need, ...]] = {}
    for index in group.nodes:
        if index in aliases:
            continue
        node = graph.nodes[index]
        found: dict[int, list[int]] = {}
        for row in range(rows_of(graph, node.output)):
            for producer, span in _sources(graph, node, Span(row, row + 1), inside, aliases):
                counts = found.setdefault(producer, [0] * rows_of(graph, node.output))
                counts[row] = max(counts[row], span.hi)
        for counts in found.values():
            for row in range(1, len(counts)):
                counts[row] = max(counts[row], counts[row - 1])
        table[index] = tuple(Need(producer, tuple(counts)) for producer, counts in found.items())
    return table


def _sources(
    graph: Graph, node: Node, rows: Span, inside: dict[str, int], aliases: frozenset[int]
) -> Iterator[tuple[int, Span]]:
    """Nodes with code inside the group, and the rows of theirs that `rows` of the node's output read."""
    for operand, name in enumerate(node.inputs):
        producer = inside.get(name)
        if producer is None:
            continue
        span = row_span(graph, node, operand, rows)
        if not len(span):
            continue
        if producer in aliases:
            yield from _sources(graph, graph.nodes[producer], span, inside, aliases)
        else:
            yield producer, span


def turns(graph: Graph, group: Group, aliases: frozenset[int]) -> Iterator[Turn]:
    """The calls of one strip of a group, in order."""
    table = needs(graph, group, aliases)
    members = [index for index in group.nodes if index not in aliases]
    made = dict.fromkeys(members, 0)
    last = members[-1]
    height = rows_of(graph, graph.nodes[last].output)
    tile = group.tile_rows or height

    def pull(index: int, row: int) -> Iterator[Turn]:
        for need in table[index]:
            while made[need.producer] < need.rows[row]:
                at = made[need.producer]
                yield from pull(need.producer, at)
                yield Turn(need.producer, at, at + 1)
                made[need.producer] = at + 1

    for top in range(0, height, tile):
        bottom = min(top + tile, height)
        yield from pull(last, bottom - 1)
        yield Turn(last, top, bottom)


def strip_columns(graph: Graph, group: Group, columns: Span) -> dict[str, Span]:
    """For one strip: the columns of each tensor that the group makes or reads.

    A tensor that several nodes read holds the columns that any of them needs.
    """
    held: dict[str, Span] = {graph.nodes[group.nodes[-1]].output: columns}
    for index in reversed(group.nodes):
        node = graph.nodes[index]
        for operand, name in enumerate(node.inputs):
            if name not in graph.constants and node.output in held:
                span = col_span(graph, node, operand, held[node.output])
                held[name] = held.get(name, Span(0, 0)).join(span)
    return held


def linear(counts: Sequence[int], limit: int) -> tuple[int, int] | None:
    """(a, b) with counts[r] = min(a * r + b, limit) for every r, or None if no such numbers fit."""
    if len(counts) == 1:
        return 0, counts[0]
    a = counts[1] - counts[0]
    b = counts[0]
    fits = all(count == min(a * r + b, limit) for r, count in enumerate(counts))
    return (a, b) if fits else None
