# SPDX-License-Identifier: Apache-2.0
"""Which rows of its operands a row of a node needs, from its nest; or why it needs all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product

from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Access, Affine, Indexed, LoopKind, Nest
from mmcc.ops.movement import Reshape
from mmcc.ops.recurrent_int8 import CELLS
from mmcc.ops.repeat import Repeat
from mmcc.ops.resize import ResizeInt8, ResizeLinear

INTERPOLATES = ResizeLinear | ResizeInt8


@dataclass(frozen=True, slots=True)
class RowReads:
    """Output rows [up * r, up * r + up) read rows `stride * r + tap`; beside them is padding."""

    stride: int
    taps: tuple[int, ...]
    up: int = 1


class NeedsAll(Exception):
    """A node that cannot make a row before it has seen the whole sequence; the message says why."""


def needs_whole(node: Node, why: str) -> CompileError:
    """The refusal of a node that needs the whole sequence."""
    message = f"--stream: {node.op} needs the whole sequence: {why}"
    hint = "--window W, which runs it and what follows over the newest W rows"
    return CompileError("MM205", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)


def row_reads(graph: Graph, node: Node, moving: Collection[str]) -> dict[int, RowReads]:
    """Which rows of each operand in `moving` (whose rows are time) a row of the node reads; by operand.

    NeedsAll if that is no few rows at a fixed distance.
    """
    if isinstance(node.op, CELLS):
        return _of_cell(graph, node, moving)
    if isinstance(node.op, Repeat):
        return _of_loop(graph, node, node.op, moving)
    if isinstance(node.op, Reshape):
        return _of_reshape(graph, node)
    if isinstance(node.op, INTERPOLATES):
        return _of_interpolation(graph, node, node.op)
    nest = nest_of(graph, node)
    if len(node.outputs) > 1:
        raise NeedsAll("it has several results")
    row = nest.axis_loop(0)
    if row is None or nest.row_order is not None:
        raise NeedsAll("it does not make its rows one by one")
    found: dict[int, RowReads] = {}
    for read in nest.reads:
        if any(isinstance(axis, Affine) and _has(axis, row) for axis in read.index[1:]):
            raise NeedsAll("time becomes another axis")
        if node.inputs[read.operand] in moving:
            found[read.operand] = _reads(nest, read, row)
        elif read.index and read.shape[0] > 1 and not _same_in_all_rows(read, row):
            raise NeedsAll("its other operand differs from row to row")
    return found


def _has(axis: Affine, loop: str) -> bool:
    return any(name == loop and factor for name, factor in axis.terms)


def _same_in_all_rows(read: Access, row: str) -> bool:
    axis = read.index[0]
    return axis is None or (isinstance(axis, Affine) and not _has(axis, row))


def _reads(nest: Nest, read: Access, row: str) -> RowReads:
    axis = read.index[0] if read.index else None
    if isinstance(axis, Indexed) and axis.name == row and axis.extent == 1:
        return _of_table(axis.values)
    if not isinstance(axis, Affine) or not _has(axis, row):
        raise NeedsAll("each of its rows depends on rows near and far")
    loops = {loop.name: loop for loop in nest.loops}
    stride = sum(factor for name, factor in axis.terms if name == row)
    others = [(loops[name].extent, factor) for name, factor in axis.terms if name != row]
    if stride < 1 or any(loops[n].kind is not LoopKind.REDUCE for n, _ in axis.terms if n != row):
        raise NeedsAll("it reads its rows backward, or makes another axis of them")
    offsets = [[factor * i for i in range(extent)] for extent, factor in others]
    places = [axis.offset + sum(each) for each in product(*offsets)]
    return RowReads(stride, tuple(places)) if axis.divisor == 1 else _of_parts(places, stride, axis.divisor)


def _of_parts(places: Sequence[int], factor: int, up: int) -> RowReads:
    """Row r reads the rows (r + place) / up that are whole: a transposed convolution."""
    if factor != 1:
        raise NeedsAll("it makes rows of parts of rows")
    taps = {(r + at) // up for r, at in product(range(up), places) if (r + at) % up == 0}
    # the first window must begin at the first row read, or before it
    return RowReads(1, tuple(sorted(taps | {min(*taps, max(places) // up)})), up)


def _of_table(rows: Sequence[int]) -> RowReads:
    """Row r reads row `rows[r]`: those of a nearest resize repeat at a distance."""
    for up in range(1, len(rows) // 2 + 1):
        stride = rows[up] - rows[0]
        if stride > 0 and all(rows[r + up] - rows[r] == stride for r in range(len(rows) - up)):
            return RowReads(stride, tuple(sorted(set(rows[:up]))), up)
    raise NeedsAll("it does not make the same number of rows of each")


def _of_interpolation(graph: Graph, node: Node, op: ResizeLinear | ResizeInt8) -> dict[int, RowReads]:
    """Rows before the first are the first, and behind the last the last; weights must repeat as rows do."""
    first = _of_table(op.row_first)
    weights = graph.constants[node.inputs[1]]
    if any((weights[r] != weights[r % first.up]).any() for r in range(len(weights))):
        raise NeedsAll("it weighs the rows of each otherwise")
    taps = {row + tap for row in first.taps for tap in range(weights.shape[1])}
    return {0: RowReads(first.stride, tuple(sorted(taps)), first.up)}


def _of_reshape(graph: Graph, node: Node) -> dict[int, RowReads]:
    (x,), (y,) = graph.operands(node), (graph.tensors[name] for name in node.outputs)
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise NeedsAll("time does not stay the first axis")
    return {0: RowReads(1, (0,))}


def _of_cell(graph: Graph, node: Node, moving: Collection[str]) -> dict[int, RowReads]:
    op = node.op
    assert isinstance(op, CELLS)
    if op.backward:
        raise NeedsAll("it goes from the last step to the first")
    if "lengths" in op.operands:
        raise NeedsAll("the lengths of its sequences are an operand")
    if any(graph.consumers[name] or name in graph.kept for name in node.outputs[1:]):
        raise NeedsAll("what it holds after the last step is read")
    for operand in ("h", "c"):
        at = op.position(operand)
        if at is not None and not graph.is_constant(node.inputs[at]):
            raise NeedsAll(f"{operand} before the first step is computed")
    if node.inputs[0] not in moving:
        raise NeedsAll("its input is the same in all steps")
    return {0: RowReads(1, (0,))}


def _of_loop(graph: Graph, node: Node, op: Repeat, moving: Collection[str]) -> dict[int, RowReads]:
    """Of a loop over time: a step makes a row of those that it takes."""
    if op.kept:
        raise NeedsAll("what it holds after the last step is read")
    if op.made != (False,):
        raise NeedsAll(
            "it has several results" if len(op.made) > 1 else "it goes from the last step to the first"
        )
    if not all(graph.is_constant(name) for name in node.inputs[: op.carried]):
        raise NeedsAll("what its first step finds is computed")
    if any(name in moving for name in node.inputs[op.carried + len(op.scanned) :]):
        raise NeedsAll("each of its steps reads all rows")
    found: dict[int, RowReads] = {}
    for k, taken in enumerate(op.scanned, op.carried):
        if node.inputs[k] in moving:
            if taken.first or taken.stride < 1:
                raise NeedsAll("its steps take rows backward, or not from the first on")
            found[k] = RowReads(taken.stride, tuple(range(taken.extent)))
        elif taken.stride:
            raise NeedsAll("its other operand differs from step to step")
    if not found:
        raise NeedsAll("its input is the same in all steps")
    return found
