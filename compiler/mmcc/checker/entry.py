# SPDX-License-Identifier: Apache-2.0
"""Check an entry's code against the plan it was made from; shares no code with lowering.

The plan is known to be sound (`checker/plan.py`). So every number of the program that says where something
is, or when it is made, must be the plan's: views, columns and their origins, the order of the calls' rows,
what a callback is given, and where constants that are staged come to. Numbers that a kernel alone knows are
not seen here; running the code shows those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mmcc.checker.bands import check_bands
from mmcc.checker.chunks import check_chunk_calls
from mmcc.checker.kinds import check_kinds
from mmcc.checker.missing import missing
from mmcc.checker.order import Order
from mmcc.checker.program_constants import Constants
from mmcc.checker.program_moves import check_moves, memory_name
from mmcc.checker.program_pages import check_pages
from mmcc.checker.program_run import Made, Moved, run_step
from mmcc.checker.repeats import check_bodies
from mmcc.checker.replay import MOST, label
from mmcc.checker.work import check_work, part_of_work
from mmcc.ir.module import Entry, port_symbol
from mmcc.ir.nest import Span
from mmcc.ir.plan import FILLED, Along, Chunks, Plan
from mmcc.ir.program import (
    Address,
    Columns,
    EntryCode,
    FetchedConstants,
    KernelUse,
    ProgramNode,
    StagedBlocks,
    Step,
    View,
)
from mmcc.ir.types import geometry
from mmcc.ops.conv_gradient import ConvInputGradient, WeightGradient
from mmcc.ops.elementwise import Where
from mmcc.ops.indexing import TakeAlong
from mmcc.ops.matmul import MatMul, MatMulInt8, MatMulInt16
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.recurrent_gradient import RecurrentGradient
from mmcc.ops.repeat import Repeat
from mmcc.ops.stream import ReadRows, WriteRows

OUTPUT = -1  # stands for the output where operands are numbers from 0
SUMS, WORK = -2, -3  # for what an accumulating node keeps, and what a kernel works in
SLICE = "slice"


def check_entry(entry: Entry, plan: Plan, code: EntryCode, staged: int = 0) -> list[str]:
    """Everything in which `code` is not what a sound `plan` says, as sentences; empty if it is.

    Its staged constants begin at byte `staged` of the file.
    """
    graph = entry.graph
    wrong = missing(graph, plan, code)
    if not wrong:
        check = _Check(entry, plan, code, staged)
        wrong = [*check.ports(), *check.views(), *check.streams(), *check.blocks(), *check.fetched()]
        wrong += check.steps()
        wrong += check_moves(entry, plan, code)
        wrong += check_pages(graph, plan, code)
        wrong += [*check_work(graph, plan, code), *check_bands(graph, plan, code)]
        wrong += check_bodies(graph, plan, code, check_entry)
    return wrong[:MOST]


class _Check:
    def __init__(self, entry: Entry, plan: Plan, program: EntryCode, staged: int) -> None:
        graph = entry.graph
        self._entry, self._staged = entry, staged
        self._graph, self._plan, self._program = graph, plan, program
        self._order = Order(graph, plan)
        self._nodes = {node.index: node for node in program.nodes}
        self._step = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}

    # ---- where tensors are

    def ports(self) -> Iterator[str]:
        """The caller fills and reads inputs and outputs as dense arrays."""
        for name, view in self._program.ports.items():
            tensor = self._graph.tensors[name]
            rows, cols, channels = geometry(tensor.shape)
            found = (view.row_stride if rows > 1 else 0, view.col_stride if cols > 1 else 0, view.rows)
            row = tensor.dtype.bytes(cols * channels)
            if found != (row if rows > 1 else 0, channels if cols > 1 else 0, rows):
                yield f'the caller\'s tensor "{name}" is not dense: {_text(view)}'
            where = self._where(name, FILLED if name in self._graph.input_names else len(self._plan.groups))
            if view != where:
                yield f'the caller\'s tensor "{name}" is at {_text(view)}, not at {_text(where)}'

    def views(self) -> Iterator[str]:
        """The views of every kernel, operand by operand."""
        for node in self._program.nodes:
            chunks = self._plan.chunks.get(node.index, Chunks(()))
            parts = chunks.spans if chunks.along is Along.CHANNELS else ()
            if node.blocks is None and len(node.uses) != max(1, len(parts)):
                here = label(self._graph, node.index)
                yield f"{here} has {len(node.uses)} kernels for {len(parts)} chunks of channels"
                continue
            for number, (_, use) in enumerate(node.uses):
                channels = parts[number] if parts else None
                for name, view in use.fields:
                    if isinstance(view, View):
                        yield from self._view(node, use, name, view, channels)
                if channels is not None:
                    yield from self._made(node, use, channels)

    def _made(self, node: ProgramNode, use: KernelUse, channels: Span) -> Iterator[str]:
        """A kernel that makes a chunk's channels must make no others."""
        if use.channels != len(channels):
            here = f"a kernel of {label(self._graph, node.index)}"
            yield f"{here} makes {use.channels} channels, not [{channels.lo}, {channels.hi})"

    def _view(
        self, node: ProgramNode, use: KernelUse, name: str, view: View, channels: Span | None
    ) -> Iterator[str]:
        here, operand = label(self._graph, node.index), self._operand(node.index, use, name)
        if operand in (SUMS, WORK):
            own = self._plan.accumulators if operand == SUMS else self._plan.scratch or {}
            place, what = self._plan.places[own[node.index]], "keeps its sums" if operand == SUMS else "works"
            if operand == WORK and name != "work":
                yield from part_of_work(self._entry, self._plan, node.index, use, name)
            elif view != View(memory_name(self._entry, place), place.offset, 0, 0, 1):  # all of it is one row
                yield f"{here} {what} at {_text(view)}, not at byte {place.offset} of {place.region}"
            return
        if operand >= use.origins:
            yield f"{here} needs the first column of operand {operand}, but has those of {use.origins} only"
        made = self._graph.nodes[node.index]
        tensor = made.outputs[_result(name)] if operand == OUTPUT else made.inputs[operand]
        if self._graph.is_constant(tensor):
            lies = self._constant(tensor, view, node.index)
            allowed = self._seen(tensor, lies, node.index, operand)
            allowed += tuple(self._cut(tensor, view, node) if node.index in self._plan.staged else ())
        else:
            where = self._where(tensor, self._step[node.index])
            sliced = operand == OUTPUT and node.blocks is not None and node.blocks.count > 1
            where = View(SLICE, where.offset, *_shape(where)) if sliced else where
            if operand == OUTPUT and channels is not None:
                first = self._graph.tensors[tensor].dtype.bytes(channels.lo)
                slot = self._plan.slots[tensor]
                begin = self._plan.place_at(slot.buffer, self._step[node.index]).offset + slot.offset
                where = replace(where, offset=begin + first)
            allowed = self._seen(tensor, where, node.index, operand)
        if (
            isinstance(self._graph.nodes[node.index].op, MatMul | MatMulInt8 | MatMulInt16)
            and operand != OUTPUT
        ):
            view = replace(view, col_stride=allowed[0].col_stride, rows=allowed[0].rows)  # its own steps
        if view not in allowed:
            what = "its output" if operand == OUTPUT else f"operand {operand}"
            yield f'{here} finds {what}, "{tensor}", at {_text(view)}, but it is at {_text(allowed[0])}'

    def _operand(self, index: int, use: KernelUse, name: str) -> int:
        """Which operand of a node a kernel's view is for."""
        if name[0] == "y" or name == "sums" or name.startswith("work"):
            return OUTPUT if name[0] == "y" else SUMS if name == "sums" else WORK
        order = dict(use.options).get("order")
        if name in ("a", "b", "c") and isinstance(self._graph.nodes[index].op, Where):
            return "cab".index(name)
        if name in ("a", "b") and isinstance(order, tuple):
            return int(order["ab".index(name)])  # pyright: ignore[reportUnknownArgumentType]
        return int(name[1:]) if name[1:] else {"x": 0, "a": 0, "b": 1}[name]

    def _where(self, name: str, step: int) -> View:
        """A tensor as the plan has it while a step runs."""
        slot, size = self._plan.slots[name], self._graph.tensors[name].dtype.size
        place = self._plan.place_at(slot.buffer, step)
        return View(
            memory_name(self._entry, place),
            place.offset + slot.offset,
            slot.row_stride,
            slot.col_stride // size,
            slot.rows,
        )

    def _constant(self, name: str, view: View, index: int) -> View:
        """A constant as it lies in the weights: dense."""
        rows, cols, channels = self._aligned(name, index)
        if isinstance(
            self._graph.nodes[index].op, MatMul | MatMulInt8 | MatMulInt16 | TakeAlong
        ):  # whose first axes go together
            rows, cols, channels = geometry(self._graph.tensors[name].shape)
        row = self._graph.tensors[name].dtype.bytes(cols * channels)
        return View("weights", view.offset, row, channels, rows)

    def _cut(self, name: str, view: View, node: ProgramNode) -> Iterator[View]:
        """A constant with the output channels of one block of it, where these are its last axis."""
        shape, cut = self._graph.tensors[name].shape, self._plan.staged[node.index].blocks
        op = self._graph.nodes[node.index].op
        if isinstance(op, ConvInputGradient | MatMul):
            for some in (cut.channels, shape[-1] - (cut.count - 1) * cut.channels):
                rows, cols, channels = geometry((*shape[:-1], some))
                row = self._graph.tensors[name].dtype.bytes(cols * channels)
                found = View("weights", view.offset, row, channels, rows)
                whole = self._constant(name, view, node.index)  # a product's own steps are not seen
                yield replace(whole, row_stride=row) if isinstance(op, MatMul) else found

    def _aligned(self, name: str, index: int) -> tuple[int, int, int]:
        """Rows, columns, channels of an operand whose last axes are the output's, or are its own."""
        shape, out = (self._graph.tensors[n].shape for n in (name, self._graph.nodes[index].outputs[0]))
        if isinstance(self._graph.nodes[index].op, Recurrent | RecurrentGradient | Repeat | WeightGradient):
            return geometry(shape)
        return geometry((1,) * (len(out) - len(shape)) + tuple(shape))

    def _seen(self, name: str, view: View, index: int, operand: int) -> tuple[View, ...]:
        """A view, and the same as a kernel may have it that repeats rows or columns."""
        if operand == OUTPUT:
            return (view,)
        rows, cols = (extent == 1 for extent in self._aligned(name, index)[:2])
        return tuple(
            View(view.memory, view.offset, view.row_stride, stride, held)
            for held in ((view.rows, 1) if rows else (view.rows,))
            for stride in ((view.col_stride, 0) if cols else (view.col_stride,))
        )

    # ---- streams

    def streams(self) -> Iterator[str]:
        """Which callback is called; those rows and pixels that it has at once are dense in the view."""
        for node in self._program.nodes:
            op = self._graph.nodes[node.index].op
            if not isinstance(op, ReadRows | WriteRows):
                continue
            made, reads = self._graph.nodes[node.index], isinstance(op, ReadRows)
            tensor, outer = self._graph.tensors[made.output], made.inputs[0] if reads else made.output
            _, cols, channels = geometry(tensor.shape)
            options, fields = dict(node.use.options), dict(node.use.fields)
            view, here = fields["y" if reads else "x"], f"{label(self._graph, node.index)} calls back for"
            number = [p.tensor for p in (self._graph.inputs if reads else self._graph.outputs)].index(outer)
            callback = port_symbol(self._entry.name, "input" if reads else "output", number)
            found, wanted = (options["port"], options["ctype"]), (callback, tensor.dtype.ctype)
            if found != wanted:
                yield f"{here} {' of '.join(found)}, not {' of '.join(wanted)}"
            assert isinstance(view, View)
            apart = f"but in memory they are {view.col_stride} elements apart"
            if options["window"] != "pixel" and cols > 1 and view.col_stride != channels:
                yield f"{here} rows of dense pixels of {channels} elements, {apart}"
            row = tensor.dtype.bytes(cols * channels)
            if options["window"] == "rows" and (view.row_stride != row or fields["columns"] != cols):
                apart = f"but in memory they are {view.row_stride} bytes apart"
                yield f"{here} several dense rows of {cols} columns, {row} bytes, {apart}"

    # ---- constants that are staged

    def blocks(self) -> Iterator[str]:
        """Where blocks are in the file, where they come to, and which channels they are for."""
        for index in sorted(self._plan.staged):
            staged, node = self._plan.staged[index], self._nodes[index]
            here, found = label(self._graph, index), node.blocks
            tensor = self._graph.nodes[index].outputs[0]
            cut, where = staged.blocks, self._where(tensor, self._step[index])
            moves = self._plan.block_moves(index)
            offset = self._staged + moves[0][0].source.offset
            places = tuple(move.target.offset for move in moves[0])
            arena = memory_name(self._entry, moves[0][0].target)
            if any(move.target.region != moves[0][0].target.region for move in moves[0]):
                yield f"constants of {here} come to several regions, but its code knows one"
            step = self._graph.tensors[tensor].dtype.bytes(cut.channels)
            wanted = StagedBlocks(offset, cut.bytes, cut.last, cut.count, places, arena, where.memory, step)
            if found is None:
                yield f"constants of {here} are staged, but its code does not know"
            elif found != wanted:
                yield f"constants of {here} are staged as {found}, not as {wanted}"
            yield from check_kinds(self._graph, node, cut)
        for node in self._program.nodes:
            if node.blocks is not None and node.index not in self._plan.staged:
                yield f"constants of {label(self._graph, node.index)} are staged, but not in the plan"

    def fetched(self) -> Iterator[str]:
        """Where nodes find constants that are copied out of the weights."""
        size = {b.name: b.size for b in self._plan.buffers}
        for node in self._program.nodes:
            name, wanted = self._plan.fetched.get(node.index), None
            if name is not None:
                to = self._plan.place_at(name, self._step[node.index])
                target = Address(memory_name(self._entry, to), to.offset)
                wanted = FetchedConstants(self._plan.places[name].offset, target, size[name])
            here = f"constants of {label(self._graph, node.index)}"
            if node.in_ram != (node.index in self._plan.in_ram):
                yield f"{here} are {'' if node.in_ram else 'not '}read in RAM, other than in the plan"
            if node.fetched != wanted:
                yield f"{here} are found as {node.fetched}, but the plan has {wanted}"

    # ---- calls

    def steps(self) -> Iterator[str]:
        """Every row of every strip in the order that the plan was replayed in, with the plan's columns."""
        for step in (part for part in self._program.body if isinstance(part, Step)):
            index = self._plan.groups[step.group].nodes[0]
            try:
                happenings = run_step(step)
                if index in self._plan.chunks:
                    yield from self._chunks(step.group, index, happenings)
                else:
                    yield from self._calls(step.group, happenings)
            except ValueError as error:
                yield f"step {step.group} cannot run: {error}"

    def _chunks(self, number: int, index: int, happenings: Iterable[Made | Moved]) -> Iterator[str]:
        """A node in chunks reads its constants where they are; those of the next step may be on their way."""
        constants, found = Constants(self._graph, self._plan, number), list(happenings)
        for moved in (each for each in found if isinstance(each, Moved)):
            yield from constants.moved(moved)
        made = [each for each in found if isinstance(each, Made)]
        yield from check_chunk_calls(self._graph, self._plan, index, made)

    def _calls(self, number: int, happenings: Iterable[Made | Moved]) -> list[str]:
        """Faults of the calls of one step, up to the first."""
        group = self._plan.groups[number]
        due = (
            (event, row, strip)
            for strip in range(max(1, len(group.strips)))
            for event in self._order.events(group, strip)
            for row in range(event.rows.lo, event.rows.hi)
        )
        constants = Constants(self._graph, self._plan, number)
        seen: set[tuple[int, int]] = set()
        wrong: list[str] = []
        for happens in happenings:
            if isinstance(happens, Moved):
                wrong += constants.moved(happens)
                continue
            if happens.node not in group.nodes:
                return [*wrong, f"step {number} runs node {happens.node}, which is not in its group"]
            if happens.chunk is not None:
                here = label(self._graph, happens.node)
                return [*wrong, f"{here} is made in chunks, but not in the plan"]
            wrong += constants.use(happens)
            key = (happens.node, id(happens.columns))
            if key not in seen:
                seen.add(key)
                wrong += self._columns(number, happens.node, happens.columns)
            rows = Span(happens.rows.start, happens.rows.stop)
            for row in happens.rows:
                event, wanted, strip = next(due, (None, 0, 0))
                node = event.node if event is not None else None
                at_once = event is None or not self._order.by_blocks(event.node) or event.rows == rows
                if (node, wanted, strip) != (happens.node, row, happens.strip) or not at_once:
                    wrong.append(self._untimely(happens, row, node, wanted, strip))
                    break
            if wrong:
                return wrong
        late = next(due, None)
        if late is None:
            return wrong
        missing = label(self._graph, late[0].node)
        return [*wrong, f"row {late[1]} of {missing}, strip {late[2]}, is never made"]

    def _untimely(self, made: Made, row: int, node: int | None, wanted: int, strip: int) -> str:
        rows = f"rows [{made.rows.start}, {made.rows.stop})"
        due = "nothing" if node is None else f"row {wanted} of {label(self._graph, node)}, strip {strip},"
        here = f"{label(self._graph, made.node)} makes {rows} of strip {made.strip}"
        return f"{here}, but at its row {row} {due} is due"

    def _columns(self, number: int, index: int, columns: tuple[Columns, ...]) -> Iterator[str]:
        group, node = self._plan.groups[number], self._graph.nodes[index]
        here = label(self._graph, index)
        if len(columns) != max(1, len(group.strips)):
            yield f"{here} has columns for {len(columns)} strips, its group has {max(1, len(group.strips))}"
            return
        narrow = self._order.narrow(group)
        width = geometry(self._graph.tensors[node.outputs[0]].shape)[1]
        for strip, found in enumerate(columns):
            held = self._order.columns(group, strip)
            own = held.get(node.outputs[0])
            lo, hi = (own.lo, own.hi) if own is not None else (0, width)
            if (found.begin, found.end) != (lo, hi):
                yield f"{here} makes columns [{found.begin}, {found.end}) of strip {strip}, not [{lo}, {hi})"
            origins = [(f"operand {k}", name, found.origin(k)) for k, name in enumerate(node.inputs)]
            results = [("its output", name, found.output) for name in node.outputs]
            for what, name, origin in (*origins, *results):
                first = held[name].lo if name in narrow else 0
                if origin != first:
                    yield (
                        f'{here} takes column {origin} for the first that memory holds of {what}, "{name}", '
                        f"in strip {strip}, but that is column {first}"
                    )


def _result(name: str) -> int:
    """Which result of a node a kernel's view is for: "y", "y1", "y2", ..."""
    return int(name[1:] or 0)


def _shape(view: View) -> tuple[int, int, int]:
    return view.row_stride, view.col_stride, view.rows


def _text(view: View) -> str:
    offset = view.offset if isinstance(view.offset, int) else view.offset.name
    steps = f"rows {view.row_stride} bytes and columns {view.col_stride} elements apart"
    return f"byte {offset} of {view.memory}, {steps}, {view.rows} rows held"
