# SPDX-License-Identifier: Apache-2.0
"""Memory as it is while a plan runs: every grain of every tensor has a number, and memory holds numbers.

A node writes the numbers of what it makes, and must find those of what it reads. A grain is as many bytes as
nothing in the plan divides: the channels of a pixel where views leave them together, an element or less where
they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from mmcc.checker.grain import grain_of
from mmcc.checker.known import Extent, Key, Known
from mmcc.checker.memory import MOVING, UNWRITTEN, Memory, Numbers, early_constants, memory_bytes
from mmcc.checker.numbering import Numbering
from mmcc.checker.order import Event, Order
from mmcc.checker.views import only_moves
from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Group, Plan
from mmcc.ir.regions import WEIGHTS, External
from mmcc.ir.types import geometry

SCRATCH, SUM = -2, -3  # what a node keeps, a sum or constants that stay, is SUM - node
MOST_BYTES = 2**30  # of numbers, for memory and for views, besides as much as the values of states take
MOST = 20  # sentences reported at most: one fault can damage every row after it


def label(graph: Graph, index: int) -> str:
    """A node as the user knows it."""
    node = graph.nodes[index]
    name = f' "{printable(node.where[0].name)}"' if node.where else ""
    return f"node {index} ({node.op}){name}"


@dataclass(frozen=True, slots=True)
class _Read:
    """One access of a node to an activation."""

    access: int
    tensor: str
    elementwise: bool


@dataclass(frozen=True, slots=True)
class _Need:
    """What of a tensor one call reads."""

    read: _Read
    rows: Span
    cols: Span


class Replay:
    """Memory as it is while the plan runs; `run` gives what went wrong."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph, self._plan = graph, plan
        self._order = Order(graph, plan)
        self._unit = grain_of(graph, plan)  # bytes
        self._numbers = Numbering(graph, plan, self._unit)
        self._read: dict[int, list[_Read]] = {}
        self._columns: dict[tuple[int, int, Span], Span] = {}  # that a read needs for some of a node's
        self._held: dict[str, Span] = {}  # columns that a ring holds in this strip
        self._known = Known()
        self._label = [label(graph, index) for index in range(len(graph.nodes))]
        self._check_room(sum(memory_bytes(plan).values()))
        self._memory = Memory(plan, self._unit, self._numbers.kind)
        self._early = early_constants(plan)
        self.wrong = self._memory.wrong

    def _check_room(self, memory: int) -> None:
        """This machine's memory must not run out; as much as the values of states take may be taken again."""
        room = (memory + self._numbers.view_bytes) // self._unit * self._numbers.kind.itemsize
        allowed = MOST_BYTES + sum(state.initial.nbytes for state in self._graph.states)
        if room > allowed:
            raise CompileError(
                "MM901",
                f"the model is too large: its plan has {memory:,} bytes, and to check them {self._unit} by "
                f"{self._unit} takes {room:,} bytes of this machine's memory; {allowed:,} are allowed",
                exit=Exit.BAD_MODEL,
                hint="smaller sizes through --dim",
            )

    def run(self) -> list[str]:
        """Inputs are filled, states are there, every group runs row by row, outputs and states are read."""
        self.wrong += [
            f"{label(self._graph, index)} computes something, but is an alias without code"
            for index in sorted(self._plan.aliases)
            if not only_moves(self._graph, self._graph.nodes[index], self._numbers.shape)
        ]
        if self.wrong:
            return self.wrong
        begins = [state.begin for state in self._graph.states]
        for name in (*(port.tensor for port in self._graph.inputs), *begins):
            for row in range(geometry(self._graph.tensors[name].shape)[0]):
                self._rows(name, Span(row, row + 1))[...] = self._numbers.of(name, Span(row, row + 1))
        for index, name in self._plan.fetched.items():
            self._memory.of(name)[...] = SUM - index
        for step, group in enumerate(self._plan.groups):
            self._memory.move(step)
            self._stage(step)
            self._run(group)
            if len(self.wrong) >= MOST:
                return self.wrong
        self._memory.move(len(self._plan.groups))
        self._known.begin({}, ())
        kept = [port.tensor for port in self._graph.outputs if not self._graph.is_constant(port.tensor)]
        for name in kept:
            self._expect_all(f'output "{name}" is read', name)
        for state in self._graph.states:
            self._expect_all(f'state "{state.begin}" is left for the next run', state.end)
        for name in self._graph.input_names:
            if isinstance(self._plan.places[self._plan.slots[name].buffer].region, External):
                self._expect_all(f'input "{name}" is the caller\'s and must stay', name)
        return self.wrong

    def _stage(self, step: int) -> None:
        """Constants that stay while a group runs are there as it begins.

        Where the life of a buffer begins before its group, the move to it goes on from then: nothing else may
        come to these bytes.
        """
        for index, begins, needed in self._early:
            buffer = self._memory.of(self._plan.staged[index].buffers[0])
            if needed == step and (buffer != SUM - index).any():
                self.wrong.append(
                    f"constants of {label(self._graph, index)} are overwritten before their use"
                )
            if begins == step:
                buffer[...] = SUM - index
        for index in self._plan.groups[step].nodes:
            staged = self._plan.staged.get(index)
            if staged is not None and staged.resident:
                self._memory.of(staged.buffers[0])[...] = SUM - index

    def _use_constants(self, index: int) -> None:
        """Constants must still be there, or come to slots in which nothing may be that is needed later."""
        staged, fetched = self._plan.staged.get(index), self._plan.fetched.get(index)
        if fetched is not None:
            if (self._memory.of(fetched) != SUM - index).any():
                self.wrong.append(f"constants of {self._label[index]} are not where it looks for them")
            if str(self._memory.place(fetched).region) == str(WEIGHTS):
                self.wrong.append(f"constants of {self._label[index]} are not yet copied to an arena")
        if staged is None:
            return
        if staged.resident:
            if (self._memory.of(staged.buffers[0]) != SUM - index).any():
                self.wrong.append(f"constants of {label(self._graph, index)} are overwritten while in use")
            return
        for name in staged.buffers:
            self._fill(name, SCRATCH)

    def _fill(self, buffer: str, mark: int) -> None:
        """All bytes of a buffer are something that is no tensor's."""
        self._memory.of(buffer)[...] = mark
        self._known.filled(buffer)

    def _run(self, group: Group) -> None:
        narrow = self._order.narrow(group)
        for strip in range(max(1, len(group.strips))):
            held = self._order.columns(group, strip)
            self._held = {name: span for name, span in held.items() if name in narrow}
            self._known.begin(*self._extents(group))
            for event in self._order.events(group, strip):
                if len(self.wrong) < MOST:
                    self._make(event, group)
        self._held = {}

    def _extents(self, group: Group) -> tuple[dict[Key, Extent], set[str]]:
        """Where all is that a group writes, and the tensors that it reads, which are named."""
        plan, nodes = self._plan, self._graph.nodes
        read = {read.tensor for index in group.nodes for read in self._reads(index)}
        found: dict[Key, Extent] = {}
        for name in read.union(*(nodes[index].outputs for index in group.nodes)):
            slot, tensor = plan.slots[name], self._graph.tensors[name]
            pixel = tensor.dtype.bytes(geometry(tensor.shape)[2])
            place = self._memory.place(slot.buffer)
            found[name, False] = Extent.of(place, slot, self._all_columns(name), pixel)
        used = [(plan.scratch or {}).get(index) for index in group.nodes]
        used += [self._sums(index) for index in group.accumulating]
        used += [name for index in group.nodes if index in plan.staged for name in plan.staged[index].buffers]
        for name in (name for name in used if name):
            found[name, True] = Extent.buffer(self._memory.place(name), self._memory.bytes(name))
        return found, read

    def _all_columns(self, name: str) -> Span:
        """The columns of a tensor that memory holds."""
        held = self._held.get(name)
        return Span(0, geometry(self._graph.tensors[name].shape)[1]) if held is None else held

    def _expect_all(self, why: str, name: str) -> None:
        """Row by row up to the first that is wrong: all at once would take as much again as memory does."""
        height = geometry(self._graph.tensors[name].shape)[0]
        all(self._expect(why, name, Span(row, row + 1)) for row in range(height))

    def _reads(self, index: int) -> list[_Read]:
        if index in self._read:
            return self._read[index]
        nest, node = self._order.nest(index), self._graph.nodes[index]
        operands = self._plan.copied.get(index, range(len(node.inputs)))
        self._read[index] = [
            _Read(k, node.inputs[access.operand], nest.is_elementwise_in(k))
            for k, access in enumerate(nest.reads)
            if access.operand in operands and not self._graph.is_constant(node.inputs[access.operand])
        ]
        return self._read[index]

    def _make(self, event: Event, group: Group) -> None:
        """Run a node's kernel for one row: it may read at any time until what it reads it for is written.

        That is the whole row, or the few pixels that the kernel makes at a time.
        """
        index = event.node
        self._use_constants(index)
        if index in group.accumulating:
            self._take(event, group)
            return
        if self._graph.nodes[index].at_once:
            self._make_whole(index, event.rows, event.cols)
            return
        left_to_right = not group.backward and not self._order.by_blocks(index)
        pixels = self._plan.pixels.get(index, 0) if left_to_right else 0
        step = pixels or max(1, len(event.cols))
        for col in range(event.cols.lo, event.cols.hi, step):
            self._make_part(index, event.rows, Span(col, min(col + step, event.cols.hi)))

    def _make_whole(self, index: int, rows: Span, cols: Span) -> None:
        """A node with several results may write any of them while it still reads."""
        here = f"{self._label[index]} needs it"
        needed = self._needed(index, rows, cols)
        before = [self._expect(here, need.read.tensor, need.rows, need.cols) for need in needed]
        self._work(index)
        for name in self._graph.nodes[index].outputs:
            for row in range(geometry(self._graph.tensors[name].shape)[0]):
                self._rows(name, Span(row, row + 1))[...] = self._numbers.of(name, Span(row, row + 1))
                self._known.written(name, row, self._all_columns(name))
        self._work(index)
        for need, was in zip(needed, before, strict=True):
            if was:
                self._expect(here, need.read.tensor, need.rows, need.cols)

    def _needed(self, index: int, rows: Span, cols: Span) -> list[_Need]:
        """What a call reads."""
        found: list[_Need] = []
        for read in self._reads(index):
            key = index, read.access, cols
            if key not in self._columns:
                nest, each = self._order.nest(index), (Span(k, k + 1) for k in range(cols.lo, cols.hi))
                every = (nest.cols_needed(read.access, col) for col in each)  # of some none: of padding only
                self._columns[key] = reduce(Span.join, every, Span(0, 0))
            found.append(_Need(read, self._order.rows_of(index, read.access, rows), self._columns[key]))
        return found

    def _make_part(self, index: int, rows: Span, cols: Span) -> None:
        row, output = rows.lo, self._graph.nodes[index].output
        here = f"row {row} of {self._label[index]} needs it"
        needed = self._needed(index, rows, cols)
        failed: set[str] = set()
        for need in needed:
            if need.read.elementwise and not self._expect(here, need.read.tensor, need.rows, need.cols):
                failed.add(need.read.tensor)
        self._work(index, row)
        self._write(index, rows, cols)
        self._work(index, row)
        for need in needed:
            if need.read.elementwise and need.read.tensor not in failed:
                self._expect_elementwise(here, need.read.tensor, output, row, cols)
            elif not need.read.elementwise:
                self._expect(here, need.read.tensor, need.rows, need.cols)

    def _work(self, index: int, row: int | None = None) -> None:
        """Scratch holds nothing from call to call, but of a node whose rows come in an order, one a call."""
        scratch = (self._plan.scratch or {}).get(index)
        if scratch is None:
            return
        order = None if row is None else self._order.nest(index).row_order
        mark = SCRATCH if order is None else SUM - index
        first = self._order.first_row(index) == row
        if order is not None and not first and (self._memory.of(scratch) != mark).any():
            self.wrong.append(f"what {label(self._graph, index)} hands on is lost before row {row}")
        self._fill(scratch, mark)

    def _write(self, index: int, rows: Span, cols: Span) -> None:
        for row in range(rows.lo, rows.hi):  # in a ring, rows need not lie one behind the other
            self._write_row(index, Span(row, row + 1), cols)

    def _write_row(self, index: int, rows: Span, cols: Span) -> None:
        name = self._graph.nodes[index].output
        made, target = self._numbers.of(name, rows, cols), self._rows(name, rows, cols)
        first = self._numbers.first[name]
        if index in self._plan.copied:  # the rest was made in place and is not the node's to write
            mine = (made >= first) & (made < first + self._graph.tensors[name].bytes // self._unit)
            np.copyto(target, made, where=mine)
        else:
            target[...] = made
        self._known.written(name, rows.lo, cols)

    def _take(self, event: Event, group: Group) -> None:
        """One row of a sum: what was summed before must still be there, and so must what is read.

        Where the sums are the result itself, it begins as an operand that lies there: that is read once.
        """
        index, here = event.node, f"{self._label[event.node]} takes it in"
        result = self._graph.nodes[index].output
        name = self._sums(index)
        sums, mark, row = self._memory.of(name), SUM - index, event.rows.lo
        if row and (sums != mark).any():
            self.wrong.append(f"the sums of {label(self._graph, index)} are lost before row {row}")
        own = index not in self._plan.accumulators
        begins = [read for read in self._reads(index) if own and read.elementwise]
        for read in begins if row == 0 else ():
            self._expect_all(here, read.tensor)
        self._fill(name, mark)
        if event.rows.hi == self._order.height(index, group):
            height = geometry(self._graph.tensors[result].shape)[0]
            self._write(index, Span(0, height), self._all_columns(result))
        for read in (read for read in self._reads(index) if read not in begins):
            self._expect(here, read.tensor, self._order.rows_read(index, read.access, event.rows, group))

    def _sums(self, index: int) -> str:
        """The buffer in which an accumulating node keeps its sums."""
        result = self._graph.nodes[index].output
        return self._plan.accumulators.get(index, self._plan.slots[result].buffer)

    def _expect(self, why: str, name: str, rows: Span, cols: Span | None = None) -> bool:
        """True if memory holds these rows; says what it holds if not."""
        if not len(rows) or (cols is not None and not len(cols)):
            return True
        every = self._all_columns(name)
        if cols is not None and not every.lo <= cols.lo <= cols.hi <= every.hi:
            return self._expect_window(why, name, rows, cols)
        for part in self._known.missing(name, rows):
            if np.array_equal(self._rows(name, part, every), self._numbers.of(name, part, every)):
                self._known.found(name, part)
            elif not self._expect_window(why, name, part, cols):
                return False
        return True

    def _expect_window(self, why: str, name: str, rows: Span, cols: Span | None) -> bool:
        found, wanted = self._rows(name, rows, cols), self._numbers.of(name, rows, cols)
        if np.array_equal(found, wanted):
            return True
        at = np.argwhere(found != wanted)[0]
        self._report(why, name, rows.lo + int(at[0]), int(found[tuple(at)]))
        return False

    def _expect_elementwise(self, why: str, name: str, output: str, row: int, cols: Span) -> None:
        """Of an input read element by element, those may be gone that were read before they were written."""
        rows = Span(row, row + 1)
        if not self._known.missing(name, rows):
            return
        found, wanted = self._rows(name, rows, cols), self._numbers.of(name, rows, cols)
        gone = np.flatnonzero(found != wanted)
        if not len(gone):
            return
        size, out_size = (self._graph.tensors[n].dtype.size for n in (name, output))
        made = self._numbers.of(output, rows, cols)
        by = found.ravel()[gone]
        early = (by < made.flat[0]) | (by > made.flat[-1])
        for byte in (0, self._unit - 1):  # of a grain; if the elements there are in order, all between are
            writer = (
                (by - made.flat[0]) * self._unit + byte
            ) // out_size  # the row's element that is there now
            early |= writer < (gone * self._unit + byte) // size
        if early.any():
            self._report(why, name, row, int(by[early][0]))

    def _report(self, why: str, name: str, row: int, found: int) -> None:
        if found == UNWRITTEN:
            what = "was never written"
        elif found == SCRATCH:
            what = "was overwritten by a kernel's scratch or by constants"
        elif found < MOVING + len(self._plan.transfers):
            what = f"may be overwritten by the move of {self._plan.transfers[found - MOVING].move}"
        elif found <= SUM:
            what = f"was overwritten by the sums or constants of {label(self._graph, SUM - found)}"
        else:
            other = self._numbers.tensor(found)
            what = f'was overwritten by tensor "{other}"'
            if other == name:
                what = "holds other elements of it: its slot is wrong"
        self.wrong.append(f'tensor "{name}", row {row}, {what}, when {why}')

    def _rows(self, name: str, rows: Span, cols: Span | None = None) -> Numbers:
        """Memory of some rows of a tensor as [rows, columns, numbers]; a copy if they wrap around a ring."""
        slot, tensor = self._plan.slots[name], self._graph.tensors[name]
        _, width, channels = geometry(tensor.shape)
        cols = Span(0, width) if cols is None else cols
        first = rows.lo % slot.rows
        if first + len(rows) > slot.rows:
            return np.concatenate([self._rows(name, Span(r, r + 1), cols) for r in range(rows.lo, rows.hi)])
        skipped = (cols.lo - self._all_columns(name).lo) * slot.col_stride
        shape = len(rows), len(cols), tensor.dtype.bytes(channels) // self._unit
        return self._memory.window(slot, first * slot.row_stride + skipped, shape)
