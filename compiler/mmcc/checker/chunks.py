# SPDX-License-Identifier: Apache-2.0
"""Kernels whose output is made in chunks, in any order or at the same time: no chunk may be in another's way.

Bytes are painted with the number of the chunk that writes them. Then whatever the order is, and however the
chunks interleave, each finds what it would find if it came first, and what it wrote stays: what another
writes, it neither reads nor writes. What a node reads is asked of its Nest, where it is of the plan's slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmcc.checker.memory import memory_bytes
from mmcc.checker.program_run import Made
from mmcc.errors import printable
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import Span
from mmcc.ir.plan import Along, Plan
from mmcc.ir.program import Columns
from mmcc.ir.regions import External, Region
from mmcc.ir.types import geometry
from mmcc.ops.paging import PageIn, PageOut
from mmcc.ops.stream import ReadRows, WriteRows

Painted = dict[Region | External, NDArray[np.int32]]
NOBODY = 0
CALLING_BACK = (PageIn, PageOut, ReadRows, WriteRows)  # whose functions need not bear several calls at once


def _label(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    name = f' "{printable(node.where[0].name)}"' if node.where else ""
    return f"node {index} ({node.op}){name}"


def check_chunks(graph: Graph, plan: Plan) -> list[str]:
    """Everything wrong with the chunks of a plan, as sentences; empty if they may run at the same time."""
    wrong: list[str] = []
    steps = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    for index in plan.chunks:
        if index not in steps:
            wrong.append(f"{_label(graph, index)} has chunks, but no step")
            continue
        found = list(_never(graph, plan, index, steps[index]))
        wrong += found or _Painting(graph, plan, index, steps[index]).collisions()
    return wrong


def _never(graph: Graph, plan: Plan, index: int, step: int) -> Iterator[str]:
    """Why a node can have no chunks wherever its tensors are."""
    here, node, group = _label(graph, index), graph.nodes[index], plan.groups[step]
    chunks = plan.chunks[index]
    if len(node.outputs) != 1 or node.handoff is not None or isinstance(node.op, CALLING_BACK):
        yield f"{here} is made in one call, and cannot have chunks"
        return
    if group.nodes != (index,) or group.strips or group.batched or group.backward or group.accumulating:
        yield f"{here} has chunks, but is not made by one call for all rows"
    if index in plan.staged or index in (plan.scratch or {}):
        yield f"{here} has chunks, which would work in the same bytes at the same time"
    if nest_of(graph, node).row_order is not None:
        yield f"rows of {here} come in an order, and cannot be in chunks"
    rows, cols, channels = geometry(graph.tensors[node.output].shape)
    extent = {Along.ROWS: rows, Along.COLUMNS: cols, Along.CHANNELS: channels}[chunks.along]
    if chunks.cuts[:1] != (0,) or chunks.cuts[-1:] != (extent,) or any(not len(s) for s in chunks.spans):
        what = f"all of its {extent} {chunks.along.value}"
        yield f"chunks of {here} end at {list(chunks.cuts)}, and are not {what}"
    if chunks.along is Along.CHANNELS and index in plan.fetched:
        yield f"{here} has chunks of channels, and constants that are copied as one"


class _Painting:
    """The chunks of one node, and the bytes of memory by who writes them."""

    def __init__(self, graph: Graph, plan: Plan, index: int, step: int) -> None:
        self._graph, self._plan, self._index, self._step = graph, plan, index, step
        self._nest, self._node = nest_of(graph, graph.nodes[index]), graph.nodes[index]
        whole = [Span(0, extent) for extent in geometry(graph.tensors[self._node.output].shape)]
        cut = list(Along).index(plan.chunks[index].along)
        self._made = [(*whole[:cut], span, *whole[cut + 1 :]) for span in plan.chunks[index].spans]
        self._painted: Painted = {r: np.zeros(n, np.int32) for r, n in memory_bytes(plan).items()}

    def collisions(self) -> list[str]:
        """The first byte that a chunk reads or writes and another writes."""
        here, output = _label(self._graph, self._index), self._node.output
        for chunk, made in enumerate(self._made, 1):
            for part in self._bytes(output, *made):
                if part[part != NOBODY].any():
                    other = int(part[part != NOBODY][0]) - 1
                    return [f"chunks {other} and {chunk - 1} of {here} write the same bytes"]
                part[...] = chunk
        for chunk, (rows, cols, _) in enumerate(self._made, 1):
            for read, access in enumerate(self._nest.reads):
                name = self._node.inputs[access.operand]
                if self._graph.is_constant(name):
                    continue
                needed = self._rows(read, rows), self._nest.cols_needed(read, cols)
                channels = Span(0, geometry(self._graph.tensors[name].shape)[2])
                for part in self._bytes(name, *needed, channels):
                    others = part[(part != NOBODY) & (part != chunk)]
                    if len(others):
                        what = f'chunk {chunk - 1} of {here} reads of tensor "{name}"'
                        return [f"{what} what chunk {int(others[0]) - 1} may have written by then"]
        return []

    def _rows(self, read: int, rows: Span) -> Span:
        """Rows of a read that rows of the output need: from the first to the last."""
        found = Span(0, 0)
        for row in range(rows.lo, rows.hi):
            found = found.join(self._nest.rows_needed(read, row))
        return found

    def _bytes(self, name: str, rows: Span, cols: Span, channels: Span) -> Iterator[NDArray[np.int32]]:
        """Who writes the bytes of some rows, columns and channels of a tensor: pixel by pixel, dense ones at
        once."""
        slot, tensor = self._plan.slots[name], self._graph.tensors[name]
        pixel = tensor.dtype.bytes(len(channels))
        place = self._plan.place_at(slot.buffer, self._step)
        memory = self._painted[place.region]
        for row in range(rows.lo, rows.hi):
            begin = place.offset + slot.offset + row % slot.rows * slot.row_stride
            begin += tensor.dtype.bytes(channels.lo)
            step = max(1, len(cols)) if slot.col_stride == pixel else 1
            for col in range(cols.lo, cols.hi, step):
                at = begin + col * slot.col_stride
                yield memory[at : at + step * pixel]


def check_chunk_calls(graph: Graph, plan: Plan, index: int, found: Sequence[Made]) -> Iterator[str]:
    """A node that has chunks in the plan must have just these in the program."""
    here, chunks = _label(graph, index), plan.chunks[index]
    rows, cols, _ = geometry(graph.tensors[graph.nodes[index].output].shape)
    whole = Made(index, range(rows), 0, (Columns(0, cols),))
    wanted = [
        {
            Along.ROWS: replace(whole, rows=range(span.lo, span.hi), chunk=number),
            Along.COLUMNS: replace(whole, columns=(Columns(span.lo, span.hi),), chunk=number),
            Along.CHANNELS: replace(whole, chunk=number, kernel=number),
        }[chunks.along]
        for number, span in enumerate(chunks.spans)
    ]
    if len(found) != len(wanted):
        yield f"{here} is made in {len(found)} chunks, not in {len(wanted)}"
        return
    for made, planned in zip(found, wanted, strict=True):
        if made != planned:
            yield f"{here} is made as {made}, not as {planned}"
            return
