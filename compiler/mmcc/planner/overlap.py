"""How far an output may be written over a dying input, derived from the op's loop nest alone."""

from __future__ import annotations

from math import prod

from mmcc.ir.graph import Graph, Node, Shape, geometry
from mmcc.ir.nest import Nest


def distances(graph: Graph, node: Node) -> dict[str, int]:
    """For each activation that `node` reads: the least d such that its output may start d bytes below it.

    The rows of the output are written in order. An input read twice gets the larger distance.
    """
    nest = node.op.nest(*(t.shape for t in graph.operands(node)))
    out_size = graph.tensors[node.output].dtype.size
    found: dict[str, int] = {}
    for read, access in enumerate(nest.reads):
        name = node.inputs[access.operand]
        if name in graph.constants:
            continue
        d = read_distance(nest, read, graph.tensors[name].dtype.size, out_size)
        found[name] = max(d, found.get(name, 0))
    return found


def read_distance(nest: Nest, read: int, in_size: int, out_size: int) -> int:
    """The distance for one read, given the bytes of an element read and of an element written."""
    if nest.is_elementwise_in(read) and out_size <= in_size:
        return 0  # element e is written when element e was read, and does not reach beyond it
    rows = geometry(nest.write.shape)[0]
    out_row, in_row = row_bytes(nest.write.shape, out_size), row_bytes(nest.reads[read].shape, in_size)
    least: int | None = None  # first input row that output row r or a later one needs
    worst = 0
    for r in reversed(range(rows)):
        span = nest.rows_needed(read, r)
        if len(span):
            least = span.lo if least is None else min(least, span.lo)
        if least is not None:
            worst = max(worst, (r + 1) * out_row - least * in_row)
    return worst


def row_bytes(shape: Shape, element: int) -> int:
    """Bytes of one row of a whole tensor."""
    return prod(geometry(shape)[1:]) * element
