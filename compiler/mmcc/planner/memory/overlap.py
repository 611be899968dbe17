# SPDX-License-Identifier: Apache-2.0
"""How far an output may be written over an input at its last use, derived from the op's loop nest alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import prod

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import LoopKind, Nest, Span
from mmcc.ir.types import Shape, geometry


@dataclass(frozen=True, slots=True)
class SafeOffset:
    """How far below an input at its last use an output may start, and how far above with rows backward."""

    forward: int
    backward: int

    def join(self, other: SafeOffset) -> SafeOffset:
        """What holds both."""
        return SafeOffset(max(self.forward, other.forward), max(self.backward, other.backward))


def all_safe_offsets(graph: Graph, apart: Collection[int]) -> dict[int, dict[str, SafeOffset]]:
    """The safe offsets of every node. The output of those that are to be `apart` is not over what they read,
    but for an operand that they read element by element."""
    found = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    for k in apart:
        node = graph.nodes[k]
        nest, out = nest_of(graph, node), graph.tensors[node.output].bytes
        over = {node.inputs[a.operand] for r, a in enumerate(nest.reads) if nest.is_elementwise_in(r)}
        found[k] |= {n: SafeOffset(out, graph.tensors[n].bytes) for n in found[k] if n not in over}
    return found


def safe_offsets(graph: Graph, node: Node) -> dict[str, SafeOffset]:
    """For each activation that `node` reads, the least safe offsets to its output. Rows are made in order.

    An input read twice gets the larger offsets. A node with several results is written over nothing, and one
    whose rows come in an order is over nothing the other way.
    """
    if node.at_once:
        most = max(graph.tensors[name].bytes for name in node.outputs)
        return {name: SafeOffset(most, graph.tensors[name].bytes) for name in graph.activations(node)}
    nest = nest_of(graph, node)
    out_size = graph.tensors[node.output].dtype.size
    found: dict[str, SafeOffset] = {}
    for read, access in enumerate(nest.reads):
        name = node.inputs[access.operand]
        if not graph.is_constant(name):
            d = read_safe_offset(nest, read, graph.tensors[name].dtype.size, out_size)
            if nest.row_order is LoopKind.FORWARD:
                d = replace(d, backward=graph.tensors[name].bytes)
            elif nest.row_order is LoopKind.BACKWARD:
                d = replace(d, forward=graph.tensors[node.output].bytes)
            found[name] = d.join(found.get(name, d))
    return found


def read_safe_offset(nest: Nest, read: int, in_size: int, out_size: int) -> SafeOffset:
    """The safe offsets for one read, given the bytes of an element read and of an element written."""
    rows = geometry(nest.write.shape)[0]
    out_row, in_row = row_bytes(nest.write.shape, out_size), row_bytes(nest.reads[read].shape, in_size)
    spans = [nest.rows_needed(read, r) for r in range(rows)]
    backward, most = 0, 0  # end of the input rows that output row r or an earlier one needs
    for r in range(rows):
        most = max(most, spans[r].hi if len(spans[r]) else 0)
        backward = max(backward, most * in_row - r * out_row)
    if nest.is_elementwise_in(read) and out_size <= in_size:
        return SafeOffset(0, backward)  # element e is written when it was read, and reaches no further
    forward, least = 0, None  # first input row that output row r or a later one needs
    for r in reversed(range(rows)):
        if len(spans[r]):
            least = spans[r].lo if least is None else min(least, spans[r].lo)
        if least is not None:
            forward = max(forward, (r + 1) * out_row - least * in_row)
    return SafeOffset(forward, backward)


def reach(nest: Nest, read: int, in_size: int, out_size: int, pixels: int = 0) -> int:
    """Bytes of its output row that a kernel may write while it still reads the first of the row's input.

    Two addresses are compared: what is written of the row by then, and what is read from then on, both from
    where the row begins. A kernel that makes `pixels` at a time from left to right, and reads for them no
    more than their windows, needs less than a whole row of room; so does one that goes element by element.
    """
    if nest.is_elementwise_in(read) and out_size <= in_size:
        return 0
    row, (_, cols, _) = row_bytes(nest.write.shape, out_size), geometry(nest.write.shape)
    access = nest.reads[read]
    loop = nest.axis_loop(1) if len(nest.write.shape) == 3 and len(access.shape) == 3 else None
    if not pixels or loop is None:
        return row
    in_pixel, out_pixel = access.shape[2] * in_size, row // cols
    needed, most = access.shape[1], 0
    for col in reversed(range(cols)):
        span = nest.cols_needed(read, Span(col, col + 1))
        needed = min(needed, span.lo) if len(span) else needed
        most = max(most, min(col + pixels, cols) * out_pixel - needed * in_pixel)
    return min(row, most)


def row_bytes(shape: Shape, element: int) -> int:
    """Bytes of one row of a whole tensor."""
    return prod(geometry(shape)[1:]) * element
