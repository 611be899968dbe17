# SPDX-License-Identifier: Apache-2.0
"""Rows as numbers: for every step of a kernel, what it waits for, reads and writes, in bytes of allocations.

A step makes one row of the kernel's output. A kernel with several results makes them all in one step, and
never runs together with others. A kernel that accumulates has a step for every row that it reads, and its
output is there after the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Slot
from mmcc.ir.types import geometry
from mmcc.planner.fusion.schedule import Ints, Sources, Spans
from mmcc.planner.memory.allocations import MemoryModel
from mmcc.planner.memory.layout import Layout, slot_of
from mmcc.planner.request import PlanRequest

UNWRITTEN = -(2**40)  # the end of what a step has written that leaves all bytes as they are


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """An operand of a kernel. Arrays have an entry a step; `low` and `line` one more, for after the last."""

    tensor: str
    allocation: int
    own: Ints  # first byte of the allocation that the step reads; its size if the step reads nothing
    low: Ints  # first byte that this step or a later one reads
    line: Ints  # the same as a row of the tensor
    reach: int  # bytes of its output row that the step may write before it has read the bytes above them
    elementwise: bool


@dataclass(frozen=True, slots=True, eq=False)
class KernelRows:
    steps: int
    needs: tuple[tuple[int, tuple[int, ...]], ...]  # a kernel, and how many of its steps come before each one
    reads: tuple[Read, ...]
    start: Ints  # first byte of the allocation that the step writes
    end: Ints  # end of what this step and those before have written, UNWRITTEN if that is nothing
    accumulates: int | None  # bytes of the accumulator, 0 if that is its result; None if it takes in no rows
    results: tuple[tuple[int, int, int], ...] = ()  # allocation, first byte, end: of each of several results

    def written(self, allocation: int) -> tuple[Ints, Ints]:
        """First byte, and end, of what each step has written of an allocation by then."""
        if not self.results:
            return self.start, self.end
        own = [(start, end) for other, start, end in self.results if other == allocation]
        return np.array([min(start for start, _ in own)]), np.array([max(end for _, end in own)])


@dataclass(frozen=True, slots=True)
class AllocationRows:
    """An allocation as rows; a ring is possible if all that lies in it has the same rows."""

    height: int
    line: int  # bytes of a row
    pixel: int  # bytes of a column of it
    ring: bool
    members: int  # tensors that lie in it


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    kernels: tuple[KernelRows, ...]
    alone: tuple[KernelRows, ...]  # the same for a kernel in a group of its own, which need not accumulate
    allocations: tuple[AllocationRows, ...]
    slots: dict[str, Slot]  # of whole tensors


def make_rows(
    graph: Graph, layout: Layout, model: MemoryModel, request: PlanRequest, spans: Spans | None = None
) -> Rows:
    """The rows of all kernels and allocations; who makes them for several layouts shares `spans`."""
    maker = _Maker(graph, layout, model, request, spans or Spans(graph))
    alone = tuple(maker.kernel(k) for k in range(len(model.kernels)))
    return Rows(
        tuple(maker.accumulating(k, kernel) for k, kernel in enumerate(alone)),
        alone,
        tuple(maker.allocation(k) for k in range(len(model.allocations))),
        maker.slots,
    )


def remaining(values: Ints, end: int) -> Ints:
    """The least of this and all that follow; one more entry for when none does."""
    return np.minimum.accumulate(np.append(values, end)[::-1])[::-1]


class _Maker:
    def __init__(
        self, graph: Graph, layout: Layout, model: MemoryModel, request: PlanRequest, spans: Spans
    ) -> None:
        self._graph, self._layout, self._model = graph, layout, model
        self._accumulators, self._pixels = request.accumulators, request.pixels
        self._number = {allocation.name: k for k, allocation in enumerate(model.allocations)}
        self._kernel_of = {kernel.node: k for k, kernel in enumerate(model.kernels)}
        self._sources = Sources(graph, layout.aliases, request.accumulators, spans, request.riders)
        self._spans = spans
        self.slots: dict[str, Slot] = {}
        for name, view in layout.views.items():
            slot = slot_of(view, graph.tensors[name])
            assert slot is not None
            self.slots[name] = slot

    def kernel(self, index: int) -> KernelRows:
        """The rows of one kernel alone."""
        kernel = self._model.kernels[index]
        if kernel.at_once:
            return self._at_once(kernel.node)
        name = self._graph.nodes[kernel.node].output
        slot, tensor = self.slots[name], self._graph.tensors[name]
        height, cols, channels = geometry(tensor.shape)
        start = slot.offset + np.arange(height) * slot.row_stride
        end = start + (cols - 1) * slot.col_stride + tensor.dtype.bytes(channels)
        return KernelRows(height, self._needs(kernel.node), self._reads(kernel.node), start, end, None)

    def _at_once(self, index: int) -> KernelRows:
        """A kernel with several results, as one step."""
        node = self._graph.nodes[index]
        needs = tuple((kernel, counts[-1:]) for kernel, counts in self._needs(index))
        names = (name for name in dict.fromkeys(node.inputs) if not self._graph.is_constant(name))
        reads = tuple(self._read_at_once(index, name) for name in names)
        results: list[tuple[int, int, int]] = []
        for name in node.outputs:
            slot = self.slots[name]
            end = slot.offset + (slot.rows - 1) * slot.row_stride + self._end_of_row(name)
            results.append((self._number[slot.buffer], slot.offset, end))
        start, end = np.array([results[0][1]]), np.array([results[0][2]])
        return KernelRows(1, needs, reads, start, end, None, tuple(results))

    def _read_at_once(self, index: int, name: str) -> Read:
        slot = self.slots[name]
        allocation = self._number[slot.buffer]
        size, first = self._model.allocations[allocation].bytes, slot.rows
        for operand, other in enumerate(self._graph.nodes[index].inputs):
            if other == name:
                low, high = self._spans.rows(index, operand)
                first = min(first, int(low[high > low].min(initial=first)))
        own = np.array([slot.offset + first * slot.row_stride if first < slot.rows else size])
        return Read(
            name, allocation, own, remaining(own, size), remaining(np.array([first]), slot.rows), 0, False
        )

    def accumulating(self, index: int, alone: KernelRows) -> KernelRows:
        """The rows of one kernel in a larger group. One that accumulates has a step for each row of what it
        takes in, in order; the last writes the output."""
        node = self._model.kernels[index].node
        room = self._accumulators.get(node)
        if room is None:
            return alone
        steps = self._sources.steps(node)
        first = np.full(steps, alone.start[0])
        before_last = UNWRITTEN if room else alone.end[-1]  # sums in the result hold all of it at once
        written = np.append(np.full(steps - 1, before_last), alone.end[-1])
        size = int(alone.end[-1] - alone.start[0])
        reads = tuple(self._taken(node, read, steps, read.reach if room else size) for read in alone.reads)
        return KernelRows(steps, alone.needs, reads, first, written, room)

    def _taken(self, node: int, read: Read, steps: int, reach: int) -> Read:
        """What a kernel that accumulates reads of a tensor, by steps; each may write `reach` bytes first."""
        slot, size = self.slots[read.tensor], self._model.allocations[read.allocation].bytes
        line, some = np.full(steps, slot.rows, np.int64), np.zeros(steps, bool)
        for operand, other in enumerate(self._graph.nodes[node].inputs):
            if other == read.tensor:
                low, high = self._spans.taken(node, operand)
                line = np.where(high > low, np.minimum(line, low), line)
                some |= high > low
        own = np.where(some, slot.offset + line * slot.row_stride, size)
        low, line = remaining(own, size), remaining(line, slot.rows)
        return Read(read.tensor, read.allocation, own, low, line, reach, False)

    def allocation(self, index: int) -> AllocationRows:
        """Rows of an allocation; one that a view sees in other rows can be no ring."""
        name = self._model.allocations[index].name
        whole = self.slots[name]
        members = [
            (self.slots[n], self._graph.tensors[n])
            for n, v in self._layout.views.items()
            if v.allocation == name
        ]
        ring = True
        for slot, tensor in members:
            _, cols, channels = geometry(tensor.shape)
            wide = slot.offset + (cols - 1) * slot.col_stride + tensor.dtype.bytes(channels)
            same = slot.rows == whole.rows and (slot.rows == 1 or slot.row_stride == whole.row_stride)
            ring = ring and same and wide <= whole.row_stride
        return AllocationRows(whole.rows, whole.row_stride, whole.col_stride, ring, len(members))

    def _needs(self, index: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
        needs = self._sources.needs(index)
        return tuple(
            (self._kernel_of[need.producer], need.rows) for need in needs if need.producer in self._kernel_of
        )

    def _reads(self, index: int) -> tuple[Read, ...]:
        node = self._graph.nodes[index]
        operands = self._layout.copied.get(index, range(len(node.inputs)))
        names = dict.fromkeys(node.inputs[k] for k in operands if not self._graph.is_constant(node.inputs[k]))
        return tuple(self._read(index, name) for name in names)

    def _read(self, index: int, name: str) -> Read:
        node = self._graph.nodes[index]
        slot = self.slots[name]
        allocation = self._number[slot.buffer]
        size = self._model.allocations[allocation].bytes
        steps = geometry(self._graph.tensors[node.output].shape)[0]
        line, some = np.full(steps, slot.rows, np.int64), np.zeros(steps, bool)
        for operand, other in enumerate(node.inputs):
            if other == name:
                low, high = self._spans.rows(index, operand)
                line = np.where(high > low, np.minimum(line, low), line)
                some |= high > low
        own = np.where(some, slot.offset + line * slot.row_stride, size)
        most, elementwise = self._spans.reach(index, name, self._pixels.get(index, 0))
        dense = self._is_dense(name) and self._is_dense(node.output)
        return Read(
            name,
            allocation,
            own,
            remaining(own, size),
            remaining(line, slot.rows),
            most if dense else self._end_of_row(node.output),
            elementwise,
        )

    def _is_dense(self, name: str) -> bool:
        slot, (_, cols, channels) = self.slots[name], geometry(self._graph.tensors[name].shape)
        pixel = self._graph.tensors[name].dtype.bytes(channels)
        return slot.col_stride == pixel and slot.row_stride == cols * slot.col_stride

    def _end_of_row(self, name: str) -> int:
        slot, tensor = self.slots[name], self._graph.tensors[name]
        _, cols, channels = geometry(tensor.shape)
        return (cols - 1) * slot.col_stride + tensor.dtype.bytes(channels)
