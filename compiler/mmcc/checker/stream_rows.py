# SPDX-License-Identifier: Apache-2.0
"""Rows that a graph of a stream moves and reads, as numbers of rows of the whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from mmcc.checker.views import only_moves
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Access, Affine, Indexed, Nest
from mmcc.ir.state import State
from mmcc.ir.streaming import Hops
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat
from mmcc.ops.int16 import ConvInt16
from mmcc.ops.movement import Pad
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool
from mmcc.ops.recurrent_int8 import CELLS
from mmcc.ops.repeat import Repeat
from mmcc.ops.resize import ResizeInt8, ResizeLinear, ResizeNearest
from mmcc.ops.sequence_start import CountHops, MaskBeforeStart, RepeatFirstRow

COUNTED = CountHops | MaskBeforeStart | RepeatFirstRow  # their last operand is a count of hops

Row = tuple[str, int | str]  # a row of a tensor of the whole graph, a value that stands for one, or a count
PADDING = "padding"
HOPS = "hops since the reset"
NOTHING: Row = "nothing", 0  # read in a turn of a kernel's loops
BEHIND: Row = "behind the last row", 0
# of an operator, what a hop has otherwise: it sees other rows
OF_ROWS = ("window", "counted", "before", "after", "starts", "shape", "operands", "last", "lag", "hop")
OF_STEPS = ("steps", "kept")  # of a loop, as many steps as a hop has rows, and all that it hands on
UPSAMPLED: Mapping[type, str] = {  # of those that make several rows of one, besides
    ConvTranspose: "size",
    ConvTransposeInt8: "size",
    ConvTransposeInt8ToFloat: "size",
    ResizeNearest: "rows",
    ResizeLinear: "row_first",
    ResizeInt8: "row_first",
}
INTERPOLATES = ResizeLinear | ResizeInt8  # beside their operand they read its first or last row


def other_constants(whole: Graph, part: Graph) -> Iterator[str]:
    """Constants that are none of the whole's, but for row weights of interpolations."""
    weights = {node.inputs[1] for node in part.nodes if isinstance(node.op, INTERPOLATES)}
    for name, data in part.constants.items():
        if name not in weights and (not whole.is_constant(name) or whole.constants[name] is not data):
            yield f"%{name} is no constant of the whole"


def padding_row(value: float | None) -> Row:
    """A row of nothing but a value; zeros of both signs are two."""
    return PADDING, "of different values" if value is None else repr(float(value))


def first_rows(state: State) -> list[Row]:
    """What a state holds before the first hop, where it holds rows."""
    same = (row.tobytes() == row.flat[0].tobytes() * row.size for row in state.initial)
    return [padding_row(row.flat[0] if one else None) for row, one in zip(state.initial, same, strict=True)]


def padding_of(graph: Graph, node: Node) -> float | None:
    """What a node takes for rows beside its operand."""
    match node.op:
        case (
            ConvInt8()
            | ConvInt8ToFloat()
            | ConvTransposeInt8()
            | ConvTransposeInt8ToFloat()
            | AveragePoolInt8()
        ):
            return node.op.x_zero
        case Conv() | ConvTranspose() | ConvInt16():
            return 0.0
        case AveragePool():
            return 0.0 if node.op.counted[0] >= node.op.window.pads[0] else None
        case MaxPool():
            return graph.tensors[node.inputs[0]].dtype.least
        case Pad():
            return node.op.value
        case _:
            return None


def held_by_cells(step: Graph, hops: Hops) -> dict[tuple[str, str], str]:
    """What stands for h and c of each cell that goes on from hop to hop, by its result and "h" or "c".

    A cell over a window begins anew in each hop. h is a row of the result where the cell does not hand it on
    apart from that; c never is one.
    """
    return {
        (node.outputs[0], name): f"{name} of {node.outputs[0]}" if name in node.op.last else node.outputs[0]
        for node in step.nodes
        if isinstance(node.op, CELLS) and node.outputs[0] in hops.rows
        for name in (("h", "c") if node.op.cell == "lstm" else ("h",))
    }


def handed_on(step: Graph, hops: Hops) -> dict[tuple[str, int], str]:
    """What stands for each value that a loop over time hands on, by its result and the value's number."""
    return {
        (result_of(node), k): f"value {k} of {result_of(node)}"
        for node in step.nodes
        if isinstance(node.op, Repeat) and result_of(node) in hops.rows
        for k in range(node.op.carried)
    }


def result_of(node: Node) -> str:
    """The tensor whose rows a node makes: a loop's comes after the values that it hands on."""
    return node.outputs[-1 if isinstance(node.op, Repeat) else 0]


def before_start(rows: Sequence[Row]) -> int:
    """How many rows come before row 0 of their tensor."""
    return sum(isinstance(at, int) and at < 0 for _, at in rows)


def cell_rows(made: Sequence[Row]) -> list[Row]:
    """What stands for the rows of a cell's result: row -1 for all before row 0, which hold its beginning."""
    return [(name, max(-1, at)) if isinstance(at, int) else (name, at) for name, at in made]


def early_steps(node: Node, rows: Mapping[str, list[Row]], steps: int) -> int | None:
    """How many steps of a cell leave its state as it is; None if what it counts by is no count of hops."""
    op = node.op
    assert isinstance(op, CELLS)
    at = op.position("hops")
    if at is None:
        return 0
    match rows.get(node.inputs[at]):
        case [(str(name), int(hops))] if name == HOPS:
            return min(steps, max(0, op.lag - hops * op.hop))
        case _:
            return None


class Carrier:
    """Which rows a node of a graph moves where, counts or masks; None of a node that does more than that."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._movers: dict[Node, bool] = {}

    def __call__(self, node: Node, rows: Mapping[str, list[Row]]) -> list[Row] | None:
        if isinstance(node.op, COUNTED):
            return _counted(node.op, node, rows)
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
                if at is not None and 0 <= at < read.shape[0]
            ]
            found.append(sources[0] if len(sources) == 1 else padding_row(None))
        return found


def _counted(
    op: CountHops | MaskBeforeStart | RepeatFirstRow, node: Node, rows: Mapping[str, list[Row]]
) -> list[Row] | None:
    """What becomes of a count of hops, or of rows by it."""
    match rows.get(node.inputs[-1]):
        case [(str(name), int(hops))] if name == HOPS:
            if isinstance(op, CountHops):
                return [(HOPS, min(hops + 1, op.most))]
            found = rows[node.inputs[0]]
            if isinstance(op, RepeatFirstRow):
                first = min(len(found) - 1, op.lag - hops * op.hop)
                return [found[max(at, first)] for at in range(len(found))]
            masked = min(len(found), max(0, op.lag - hops * op.hop))
            return [padding_row(op.value)] * masked + found[masked:]
        case _:
            return None


def _inner(access: Access) -> tuple[Any, ...]:
    """The index of an access within a row."""
    ours = zip(access.index[1:], access.shape[1:], strict=True)
    return tuple(axis if extent > 1 else None for axis, extent in ours)


def _taps(nest: Nest, read: Access, row: int) -> list[int | None]:
    """The rows of an operand that a row of the result reads, turn by turn of the loops; None: no row."""
    axis = read.index[0]
    if isinstance(axis, Indexed):
        return [_by_table(axis, row)]
    if not isinstance(axis, Affine):  # a reshape that keeps its rows
        return [row]
    by_row = nest.axis_loop(0)
    extents = {loop.name: loop.extent for loop in nest.loops}
    ranges = [[c * i for i in range(extents[name])] for name, c in axis.terms if name != by_row]
    begin = axis.offset + sum(c * row for name, c in axis.terms if name == by_row)
    places = [begin + sum(each) for each in product(*ranges)]
    return [at // axis.divisor if at % axis.divisor == 0 else None for at in places]


def _by_table(axis: Indexed, row: int) -> int | None:
    """The row that a table gives; behind its end it goes on as it was, if all of it repeats at a distance."""
    values = axis.values
    if 0 <= row < len(values):
        return values[row]
    for period in range(1, len(values) // 2 + 1):
        steps = {late - early for early, late in zip(values, values[period:], strict=False)}
        if len(steps) == 1:
            return values[row % period] + row // period * steps.pop()
    return None


def reads_of(graph: Graph, node: Node, operand: int, row: int) -> list[int | None]:
    """The rows of an operand that a row of a node's result reads, in the order of its accesses."""
    if isinstance(node.op, INTERPOLATES):
        first = _by_table(Indexed("", node.op.row_first), row)
        taps = graph.constants[node.inputs[1]].shape[1]
        return [None if first is None else first + tap for tap in range(taps)]
    if isinstance(node.op, Repeat):
        return _of_step(graph, node, node.op, operand, row)
    nest = nest_of(graph, node)
    return [at for read in nest.reads if read.operand == operand for at in _taps(nest, read, row)]


def _of_step(graph: Graph, node: Node, op: Repeat, operand: int, step: int) -> list[int | None]:
    """The rows of an operand that a step of a loop takes: all of what is no slice."""
    if not 0 <= operand - op.carried < len(op.scanned):
        return [*range(graph.tensors[node.inputs[operand]].shape[0])]
    taken = op.scanned[operand - op.carried]
    return [*range(taken.begin(step), taken.begin(step) + taken.extent)]


def meant(
    original: Node, name: str, reads: Sequence[int | None], padding: Row, end: int | None = None
) -> list[Row]:
    """What stands for rows of a tensor that a node of the whole reads; its rows end at `end`, if they do."""
    rows: list[Row] = []
    for at in reads:
        if at is None:
            rows.append(NOTHING)
        elif isinstance(original.op, INTERPOLATES):
            rows.append((name, max(0, at if end is None else min(at, end - 1))))
        elif at < 0:
            rows.append(padding)
        else:
            rows.append(BEHIND if end is not None and at >= end else (name, at))
    return rows


def found_rows(
    node: Node, rows: Sequence[Row], reads: Sequence[int | None], *, ends: bool = False
) -> list[Row]:
    """The rows at places of an operand; beside it what is said of the place, or nothing where it `ends`."""
    found: list[Row] = []
    for at in reads:
        if at is None:
            found.append(NOTHING)
        elif 0 <= at < len(rows):
            found.append(rows[at])
        elif isinstance(node.op, INTERPOLATES) and ends and at >= 0:
            found.append(rows[-1])
        else:
            found.append(BEHIND if ends and at >= 0 else ("beside the operand", at))
    return found


def other_row_weights(whole: Graph, original: Node, part: Graph, node: Node, first: int) -> bool:
    """True if an interpolation weighs rows otherwise than the whole does from row `first` on."""
    assert isinstance(original.op, INTERPOLATES)
    theirs, mine = whole.constants[original.inputs[1]], part.constants[node.inputs[1]]
    table, rows = original.op.row_first, len(theirs)
    for period in range(1, rows // 2 + 1):
        steps = {late - early for early, late in zip(table, table[period:], strict=False)}
        if len(steps) == 1 and all((theirs[r] == theirs[r % period]).all() for r in range(rows)):
            return any(row.tobytes() != theirs[(first + r) % period].tobytes() for r, row in enumerate(mine))
    return True


def differences(whole: Graph, original: Node, step: Graph, node: Node) -> Iterator[str]:
    """Where a node of a stream is another than that of the whole, besides its rows."""
    named = f'"{node.outputs[0]}"'
    if type(original.op) is not type(node.op):
        yield f"{named} is made by {node.op}, not by {original.op}"
        return
    others = {*OF_ROWS, UPSAMPLED.get(type(node.op), ""), *(OF_STEPS if isinstance(node.op, Repeat) else ())}
    for each in fields(original.op):  # type: ignore[arg-type]  # every op is a dataclass
        one, other = getattr(original.op, each.name), getattr(node.op, each.name)
        # the body of a loop is the whole's own
        if each.name not in others and one is not other and (each.name == "body" or one != other):
            yield f"{each.name} of {named} is another"
    if isinstance(node.op, Repeat):
        yield from _other_operands(whole, original, node, node.op.carried)
        return
    one, other = nest_of(whole, original), nest_of(step, node)
    if one.write.shape[1:] != other.write.shape[1:]:
        yield f"{named} has rows of another shape"
    for read in one.reads:
        twin = next((r for r in other.reads if _inner(r) == _inner(read)), None)
        if twin is None and not isinstance(node.op, CELLS):
            yield f"{named} reads its operand {read.operand} otherwise within a row"
    for k, name in enumerate(original.inputs):
        weighs = k == 1 and isinstance(node.op, INTERPOLATES)  # see other_row_weights
        if whole.is_constant(name) and name not in node.inputs and not (weighs or isinstance(node.op, CELLS)):
            yield f"{named} does not read constant {k}, %{name}"


def _other_operands(whole: Graph, original: Node, node: Node, carried: int) -> Iterator[str]:
    """Constants that each step of a loop reads must be the whole's, at the same places."""
    for k, (of_whole, name) in enumerate(zip(original.inputs, node.inputs, strict=True)):
        if k >= carried and whole.is_constant(of_whole) and name != of_whole:
            yield f'"{node.outputs[-1]}" reads %{name} for constant {k}, %{of_whole}'
