"""Replay a plan byte by byte. Shares no code with the solvers, so it can convict them.

Every element of every tensor has a number of its own. Memory holds numbers: a node writes those of the rows
it makes, and must find those of the rows it reads. What a view means is asked of the op's numpy reference.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mmcc.errors import printable
from mmcc.ir.graph import Graph, geometry
from mmcc.ir.nest import Nest, Span
from mmcc.ir.plan import Group, Plan, Slot
from mmcc.ops.movement import Concat, Reshape, Slice, Transpose

Numbers = NDArray[Any]  # int32 or int64, one for each `unit` bytes
UNWRITTEN, SCRATCH = -1, -2
MOST = 20  # sentences reported at most: one fault can damage every row after it


def check_plan(graph: Graph, plan: Plan, capacity: Mapping[str, int] | None = None) -> list[str]:
    """Everything wrong with `plan`, as sentences; empty when it is sound. `capacity` is by tier."""
    wrong = _incomplete(graph, plan)
    if not wrong:
        wrong = [*_misplaced(graph, plan, capacity or {})]
        if not any("outside" in text for text in wrong):
            wrong += _collisions(plan)
            wrong += _outlived(graph, plan)
            wrong += _Replay(graph, plan).run()
    return wrong[:MOST]


def _label(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    name = f' "{printable(node.where[0].name)}"' if node.where else ""
    return f"node {index} ({node.op}){name}"


def _used(graph: Graph) -> list[str]:
    names = [port.tensor for port in (*graph.inputs, *graph.outputs)]
    names += [name for node in graph.nodes for name in (*node.inputs, node.output)]
    return [name for name in dict.fromkeys(names) if name not in graph.constants]


def _incomplete(graph: Graph, plan: Plan) -> list[str]:
    """What is missing or named twice; nothing else can be checked before this holds."""
    wrong: list[str] = []
    runs = [k for group in plan.groups for k in group.nodes]
    for index, node in enumerate(graph.nodes):
        times = runs.count(index) + (index in plan.aliases)
        if times != 1:
            wrong.append(f"{_label(graph, index)} is in {times} groups or aliases, not in one")
        if index in plan.aliases and not isinstance(node.op, Reshape | Slice | Transpose | Concat):
            wrong.append(f"{_label(graph, index)} computes something, but is an alias without code")
        if index in plan.copied and not isinstance(node.op, Concat):
            wrong.append(f"{_label(graph, index)} is no Concat, but copies only some operands")
    if any(group.strips for group in plan.groups):
        wrong.append("a group runs in strips, which cannot be replayed")
    buffers = {b.name for b in plan.buffers}
    for name in _used(graph):
        if name not in plan.slots:
            wrong.append(f'tensor "{name}" has no slot')
        elif plan.slots[name].buffer not in buffers:
            wrong.append(f'tensor "{name}" is in buffer "{plan.slots[name].buffer}", which does not exist')
    for name in (plan.scratch or {}).values():
        if name not in buffers:
            wrong.append(f'scratch buffer "{name}" does not exist')
    wrong += [f'buffer "{name}" has no place' for name in buffers if name not in plan.places]
    return wrong


def _misplaced(graph: Graph, plan: Plan, capacity: Mapping[str, int]) -> Iterator[str]:
    """Wrong tier, alignment or size of buffers and slots."""
    size = {b.name: b.size for b in plan.buffers}
    for b in plan.buffers:
        place = plan.places[b.name]
        end, most = place.offset + b.size, capacity.get(place.tier)
        if place.tier not in b.tiers:
            yield f'buffer "{b.name}" may not be in {place.tier}'
        if place.offset % b.align:
            yield f'buffer "{b.name}" is at {place.offset}, not aligned to {b.align}'
        if place.offset < 0 or (most is not None and end > most):
            yield f'buffer "{b.name}" is outside {place.tier}: bytes [{place.offset}, {end}) of {most}'
    for name in _used(graph):
        slot, tensor = plan.slots[name], graph.tensors[name]
        _, cols, channels = geometry(tensor.shape)
        wide = (cols - 1) * slot.col_stride + channels * tensor.dtype.size
        end = slot.offset + (slot.rows - 1) * slot.row_stride + wide
        if min(slot.offset, slot.row_stride, slot.col_stride, slot.rows - 1) < 0 or end > size[slot.buffer]:
            yield (
                f'tensor "{name}" is outside its buffer "{slot.buffer}": '
                f"bytes [{slot.offset}, {end}) of {size[slot.buffer]}"
            )
        addresses = (plan.places[slot.buffer].offset + slot.offset, slot.row_stride, slot.col_stride)
        if any(a % tensor.dtype.size for a in addresses):
            yield f'tensor "{name}" has elements not aligned to their {tensor.dtype.size} bytes'


def _collisions(plan: Plan) -> Iterator[str]:
    """Buffers that live together and share bytes without an overlap that says so."""
    allowed = {(o.output, o.input) for o in plan.overlaps} | {(o.input, o.output) for o in plan.overlaps}
    begin = np.array([plan.places[b.name].offset for b in plan.buffers])
    end = begin + np.array([b.size for b in plan.buffers])
    lo, hi = np.array([b.live.lo for b in plan.buffers]), np.array([b.live.hi for b in plan.buffers])
    tier = np.array([plan.places[b.name].tier for b in plan.buffers])
    for k, b in enumerate(plan.buffers):
        together = (lo[:k] < hi[k]) & (lo[k] < hi[:k]) & (tier[:k] == tier[k])
        for j in np.flatnonzero(together & (begin[:k] < end[k]) & (begin[k] < end[:k])):
            other = plan.buffers[j].name
            if (b.name, other) not in allowed:
                yield f'buffers "{other}" and "{b.name}" live together and share bytes of {tier[k]}'


def _outlived(graph: Graph, plan: Plan) -> Iterator[str]:
    """Tensors that are used when their buffers do not live."""
    live = {b.name: b.live for b in plan.buffers}
    for step, group in enumerate(plan.groups):
        for index in group.nodes:
            node = graph.nodes[index]
            names = [*_operands(graph, plan, index), node.output]
            scratch = (plan.scratch or {}).get(index)
            buffers = {name: plan.slots[name].buffer for name in names}
            for name, buffer in (buffers | ({scratch: scratch} if scratch else {})).items():
                if not live[buffer].lo <= step < live[buffer].hi:
                    yield (
                        f'{_label(graph, index)} uses "{name}" at step {step}, but its buffer "{buffer}" '
                        f"lives in steps [{live[buffer].lo}, {live[buffer].hi})"
                    )
    for port in graph.inputs:
        if live[plan.slots[port.tensor].buffer].lo > 0:
            yield f'input "{port.tensor}" is filled before step 0, but its buffer does not live then'
    for port in graph.outputs:
        if port.tensor in plan.slots and live[plan.slots[port.tensor].buffer].hi < len(plan.groups):
            yield f'output "{port.tensor}" is read after the last step, but its buffer does not live then'


def _operands(graph: Graph, plan: Plan, index: int) -> list[str]:
    """Activations that a node's code reads."""
    node = graph.nodes[index]
    read = [node.inputs[k] for k in plan.copied.get(index, range(len(node.inputs)))]
    return [name for name in read if name not in graph.constants]


@dataclass(frozen=True, slots=True)
class _Read:
    """One access of a node to an activation."""

    access: int
    tensor: str
    elementwise: bool


class _Replay:
    """Memory as it is while the plan runs; `run` gives what went wrong."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph, self._plan = graph, plan
        self._unit = _unit(graph, plan)
        self._nests: dict[int, Nest] = {}
        self._index = {node.output: k for k, node in enumerate(graph.nodes)}
        self._read: dict[int, list[_Read]] = {}
        self._first: dict[str, int] = {}  # number of a tensor's first element
        total = 0
        for name in _used(graph):
            self._first[name] = total
            total += graph.tensors[name].bytes // self._unit
        self._kind = np.int32 if total < 2**31 else np.int64
        self._starts, self._names = list(self._first.values()), list(self._first)
        self._viewed: dict[str, Numbers] = {}
        ends: dict[str, int] = {}
        for b in plan.buffers:
            place = plan.places[b.name]
            ends[place.tier] = max(ends.get(place.tier, 0), place.offset + b.size)
        self._memory = {t: np.full(n // self._unit, UNWRITTEN, self._kind) for t, n in ends.items()}
        self._scratch: dict[int, Numbers] = {}
        size = {b.name: b.size for b in plan.buffers}
        for node, name in (plan.scratch or {}).items():
            at = plan.places[name].offset // self._unit
            memory = self._memory[plan.places[name].tier]
            self._scratch[node] = memory[at : at + size[name] // self._unit]
        self.wrong: list[str] = []

    def run(self) -> list[str]:
        """Inputs are filled, every group runs row by row, outputs are read."""
        for port in self._graph.inputs:
            for row in range(geometry(self._graph.tensors[port.tensor].shape)[0]):
                self._rows(port.tensor, Span(row, row + 1))[...] = self._numbers(
                    port.tensor, Span(row, row + 1)
                )
        for group in self._plan.groups:
            for index, row in self._events(group):
                self._make(index, row)
            if len(self.wrong) >= MOST:
                return self.wrong
        kept = [port.tensor for port in self._graph.outputs if port.tensor not in self._graph.constants]
        for name in kept:
            self._expect(f'output "{name}" is read', name, self._whole(name))
        for name in self._graph.input_names:
            if self._plan.places[self._plan.slots[name].buffer].tier.startswith("io:"):
                self._expect(f'input "{name}" is the caller\'s and must stay', name, self._whole(name))
        return self.wrong

    def _whole(self, name: str) -> Span:
        return Span(0, geometry(self._graph.tensors[name].shape)[0])

    def _nest(self, index: int) -> Nest:
        if index not in self._nests:
            node = self._graph.nodes[index]
            self._nests[index] = node.op.nest(*(t.shape for t in self._graph.operands(node)))
        return self._nests[index]

    def _reads(self, index: int) -> list[_Read]:
        if index in self._read:
            return self._read[index]
        nest, node = self._nest(index), self._graph.nodes[index]
        operands = self._plan.copied.get(index, range(len(node.inputs)))
        self._read[index] = [
            _Read(k, node.inputs[access.operand], nest.is_elementwise_in(k))
            for k, access in enumerate(nest.reads)
            if access.operand in operands and node.inputs[access.operand] not in self._graph.constants
        ]
        return self._read[index]

    def _events(self, group: Group) -> Iterator[tuple[int, int]]:
        """Node and row, in the order in which the group's loop makes them: pulled by the last node."""
        nodes, last = self._graph.nodes, group.nodes[-1]
        maker = {nodes[k].output: k for k in group.nodes}
        height = {k: geometry(self._graph.tensors[nodes[k].output].shape)[0] for k in group.nodes}
        made = dict.fromkeys(group.nodes, 0)
        reads = {k: self._reads(k) for k in group.nodes}

        def pull(index: int, rows: Span) -> Iterator[tuple[int, int]]:
            for row in range(rows.lo, rows.hi):
                for read in reads[index]:
                    source = maker.get(read.tensor)
                    if source is not None and source != index:
                        until = self._nest(index).rows_needed(read.access, row).hi
                        yield from pull(source, Span(made[source], until))
            for row in range(max(rows.lo, made[index]), rows.hi):
                yield index, row
                made[index] = row + 1

        tile = group.tile_rows or (1 if len(group.nodes) == 1 else height[last])
        if group.backward:
            yield from ((last, row) for row in reversed(range(height[last])))
            return
        for row in range(0, height[last], tile):
            yield from pull(last, Span(row, min(row + tile, height[last])))
        for index in group.nodes:  # rows that only other groups need
            yield from pull(index, Span(made[index], height[index]))

    def _make(self, index: int, row: int) -> None:
        """Run a node's kernel for one row: it may read at any time until the row is written."""
        node, here = self._graph.nodes[index], f"row {row} of {_label(self._graph, index)} needs it"
        reads = self._reads(index)
        needed = [(read, self._nest(index).rows_needed(read.access, row)) for read in reads]
        failed: set[str] = set()
        for read, rows in needed:
            if read.elementwise and not self._expect(here, read.tensor, rows):
                failed.add(read.tensor)
        if index in self._scratch:
            self._scratch[index][...] = SCRATCH
        made, target = (
            self._numbers(node.output, Span(row, row + 1)),
            self._rows(node.output, Span(row, row + 1)),
        )
        first = self._first[node.output]
        if index in self._plan.copied:  # the rest was made in place and is not the node's to write
            mine = (made >= first) & (made < first + self._graph.tensors[node.output].bytes // self._unit)
            np.copyto(target, made, where=mine)
        else:
            target[...] = made
        if index in self._scratch:
            self._scratch[index][...] = SCRATCH
        for read, rows in needed:
            if read.elementwise and read.tensor not in failed:
                self._expect_elementwise(here, read.tensor, node.output, row)
            elif not read.elementwise:
                self._expect(here, read.tensor, rows)

    def _expect(self, why: str, name: str, rows: Span) -> bool:
        """True if memory holds these rows; says what it holds if not."""
        if not len(rows):
            return True
        found, wanted = self._rows(name, rows), self._numbers(name, rows)
        if np.array_equal(found, wanted):
            return True
        at = np.argwhere(found != wanted)[0]
        self._report(why, name, rows.lo + int(at[0]), int(found[tuple(at)]))
        return False

    def _expect_elementwise(self, why: str, name: str, output: str, row: int) -> None:
        """Of an input read element by element, those may be gone that were read before they were written."""
        found, wanted = self._rows(name, Span(row, row + 1)), self._numbers(name, Span(row, row + 1))
        gone = np.flatnonzero(found != wanted)
        if not len(gone):
            return
        in_width, out_width = (self._graph.tensors[n].dtype.size // self._unit for n in (name, output))
        made = self._numbers(output, Span(row, row + 1))
        by = found.ravel()[gone]
        writer = (by - made.flat[0]) // out_width  # element of this row that is there now
        early = (by < made.flat[0]) | (by > made.flat[-1]) | (writer < gone // in_width)
        if early.any():
            self._report(why, name, row, int(by[early][0]))

    def _report(self, why: str, name: str, row: int, found: int) -> None:
        if found == UNWRITTEN:
            what = "was never written"
        elif found == SCRATCH:
            what = "was overwritten by a kernel's scratch"
        else:
            k = bisect_right(self._starts, found) - 1
            what = f'was overwritten by tensor "{self._names[k]}"'
            if self._names[k] == name:
                what = "holds other elements of it: its slot is wrong"
        self.wrong.append(f'tensor "{name}", row {row}, {what}, when {why}')

    def _rows(self, name: str, rows: Span) -> Numbers:
        """Memory of some rows of a tensor as [rows, columns, numbers]; a copy if they wrap around a ring."""
        slot, tensor = self._plan.slots[name], self._graph.tensors[name]
        _, cols, channels = geometry(tensor.shape)
        first = rows.lo % slot.rows
        if first + len(rows) > slot.rows:
            return np.concatenate([self._rows(name, Span(r, r + 1)) for r in range(rows.lo, rows.hi)])
        place = self._plan.places[slot.buffer]
        at = (place.offset + slot.offset + first * slot.row_stride) // self._unit
        memory = self._memory[place.tier][at:]
        strides = (slot.row_stride, slot.col_stride, self._unit)
        return as_strided(
            memory,
            (len(rows), cols, channels * tensor.dtype.size // self._unit),
            tuple(s // self._unit * memory.itemsize for s in strides),
        )

    def _numbers(self, name: str, rows: Span) -> Numbers:
        """What these rows should hold."""
        tensor = self._graph.tensors[name]
        height, cols, channels = geometry(tensor.shape)
        width = channels * tensor.dtype.size // self._unit
        if self._is_view(name):
            if name not in self._viewed:
                parts = np.arange(tensor.dtype.size // self._unit, dtype=self._kind)
                elements = self._elements(name)[..., None] + parts
                self._viewed[name] = elements.reshape(height, cols, width)
            return self._viewed[name][rows.lo : rows.hi]
        first = self._first[name] + rows.lo * cols * width
        flat = np.arange(first, first + len(rows) * cols * width, dtype=self._kind)
        return flat.reshape(len(rows), cols, width)

    def _is_view(self, name: str) -> bool:
        index = self._index.get(name)
        return index in self._plan.aliases or index in self._plan.copied

    def _elements(self, name: str) -> Numbers:
        """The number of each element of a tensor, in its own shape; a view has those of what it views."""
        tensor = self._graph.tensors[name]
        step = tensor.dtype.size // self._unit
        own = self._first[name] + step * np.arange(prod(tensor.shape), dtype=self._kind).reshape(tensor.shape)
        if not self._is_view(name):
            return own
        node, index = self._graph.producer[name], self._index[name]
        copied = self._plan.copied.get(index, ())
        parts = [self._elements(n) if k not in copied else None for k, n in enumerate(node.inputs)]
        filled = [
            np.full(self._graph.tensors[n].shape, -1, self._kind) if part is None else part
            for n, part in zip(node.inputs, parts, strict=True)
        ]
        seen = node.op.reference(*filled).reshape(tensor.shape)
        return np.where(seen < 0, own, seen)


def _unit(graph: Graph, plan: Plan) -> int:
    """Bytes that every size and address is a multiple of: memory is kept at that grain."""
    sizes = [graph.tensors[name].dtype.size for name in _used(graph)]
    for name in _used(graph):
        slot: Slot = plan.slots[name]
        sizes += [slot.offset, slot.row_stride, slot.col_stride]
    for b in plan.buffers:
        sizes += [b.size, plan.places[b.name].offset]
    return max(1, gcd(*sizes))
