# SPDX-License-Identifier: Apache-2.0
"""Columns that kernels compute when a group runs in vertical strips; those at the seams are made twice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import Nest, Span
from mmcc.ir.types import geometry
from mmcc.ops.stream import ReadRows
from mmcc.planner.fusion.rows import Rows
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.memory.allocations import MemoryModel, bits

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16)  # numbers of strips worth trying


@dataclass(frozen=True, slots=True)
class Cut:
    """A last kernel's output in strips: by kernel, the columns that each strip makes of its output, how many
    the whole output needs, and the part of its work that strips make once more inside it."""

    strips: tuple[Span, ...]
    held: dict[int, tuple[Span, ...]]
    needed: dict[int, int]
    seams: dict[int, float]

    def width(self, kernel: int) -> int:
        """Columns that a ring for the output of a kernel holds."""
        return max(map(len, self.held[kernel]))

    def share(self, kernel: int) -> float:
        """Columns computed over those that are needed, with what strips make once more inside a kernel. Never
        below 1: that a column which nobody needs is left out is no reason for strips."""
        return sum(map(len, self.held[kernel])) / self.needed[kernel] + self.seams[kernel]


class Strips:
    """The ways to cut what a kernel demands."""

    def __init__(self, graph: Graph, model: MemoryModel, rows: Rows) -> None:
        self._graph, self._model, self._rows = graph, model, rows
        self._kernel_of = {
            name: k for k, kernel in enumerate(model.kernels) for name in graph.nodes[kernel.node].outputs
        }
        self._nests: dict[int, Nest] = {}
        self._cuts: dict[tuple[int, int, int], Cut | None] = {}
        self._reaches: dict[int, dict[int, tuple[Ints, Ints]]] = {}
        self._weights = [self._weight(k) for k in range(len(model.kernels))]
        self.widths = [
            geometry(graph.tensors[graph.nodes[u.node].outputs[0]].shape)[1] for u in model.kernels
        ]

    def allowed(self, members: int, last: int, inside: int, defined: int) -> bool:
        """True if a group can run in strips: nothing is read but once, and all but its output is its own."""
        if members == 1 << last or defined & (defined - 1):
            return False
        if any(self._rows.allocations[allocation].members > 1 for allocation in bits(inside)):
            return False
        for kernel in bits(members):
            op = self._graph.nodes[self._model.kernels[kernel].node].op
            once = isinstance(op, ReadRows) and not op.again
            seen = kernel != last and not inside >> self._model.kernels[kernel].output & 1
            if (
                once
                or seen
                or (
                    self._rows.kernels[kernel].accumulates is not None
                    and self._rows.kernels[kernel].steps > 1
                )
            ):
                return False
        return True

    def cut(self, last: int, members: int, count: int) -> Cut | None:
        """The output of kernel `last` in so many strips of about equal rings; None if it is too narrow."""
        key = (last, members, count)
        if key not in self._cuts:
            self._cuts[key] = self._cut(last, members, count)
        return self._cuts[key]

    def _cut(self, last: int, members: int, count: int) -> Cut | None:
        width = self.widths[last]
        if width < 2 * count:
            return None
        reach = self._reach(last)
        low = np.zeros(width)
        high = np.zeros(width)
        for kernel in bits(members):
            low += self._weights[kernel] * reach[kernel][0]
            high += self._weights[kernel] * reach[kernel][1]
        ends = _even(low, high, count)
        strips = tuple(Span(a, b) for a, b in pairwise(ends))
        held = {
            kernel: tuple(Span(int(reach[kernel][0][s.lo]), int(reach[kernel][1][s.hi - 1])) for s in strips)
            for kernel in bits(members)
        }
        needed = {kernel: max(1, int(reach[kernel][1][-1] - reach[kernel][0][0])) for kernel in held}
        return Cut(strips, held, needed, {kernel: self._nest(kernel).seams(count) for kernel in held})

    def _reach(self, last: int) -> dict[int, tuple[Ints, Ints]]:
        """By kernel, the first column and the column behind the last that each column of the output needs."""
        if last not in self._reaches:
            columns = [self._held(last, Span(col, col + 1)) for col in range(self.widths[last])]
            self._reaches[last] = {
                kernel: _reach_of([held[kernel] for held in columns]) for kernel in columns[0]
            }
        return self._reaches[last]

    def _held(self, last: int, strip: Span) -> dict[int, Span]:
        """For one strip: the columns of each kernel that feeds the last one, as far as there are no views."""
        held = {last: strip}
        for kernel in reversed(range(last + 1)):
            if kernel not in held:
                continue
            node = self._graph.nodes[self._model.kernels[kernel].node]
            nest = self._nest(kernel)
            for read, access in enumerate(nest.reads):
                source = self._kernel_of.get(node.inputs[access.operand])
                if source is not None:
                    span = nest.cols_needed(read, held[kernel])
                    held[source] = held.get(source, Span(0, 0)).join(span)
        return held

    def _weight(self, kernel: int) -> int:
        """Bytes of a column of a kernel's output in a ring, roughly: as many rows as one row reads."""
        if self._model.kernels[kernel].at_once:
            return 1  # never in strips
        output = self._model.kernels[kernel].output
        rows = 1
        for reader in bits(self._model.allocations[output].users):
            counts = dict(self._rows.kernels[reader].needs).get(kernel)
            for read in self._rows.kernels[reader].reads if counts else ():
                if read.allocation == output and counts:
                    rows = max(rows, max(int(n - at) for n, at in zip(counts, read.line, strict=False)))
        return rows * self._rows.allocations[output].pixel

    def _nest(self, kernel: int) -> Nest:
        if kernel not in self._nests:
            node = self._graph.nodes[self._model.kernels[kernel].node]
            self._nests[kernel] = nest_of(self._graph, node)
        return self._nests[kernel]


def _reach_of(spans: list[Span]) -> tuple[Ints, Ints]:
    """The first column that each of these or one to the right needs, and the end of what each or one to the
    left does. Columns that need none, since all they have is padding, say nothing."""
    some = [span for span in spans if len(span)] or [Span(0, 0)]
    least, most = min(span.lo for span in some), max(span.hi for span in some)
    low = np.array([span.lo if len(span) else most for span in spans], np.int64)
    high = np.array([span.hi if len(span) else least for span in spans], np.int64)
    return np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high)


def _even(low: NDArray[np.float64], high: NDArray[np.float64], count: int) -> list[int]:
    """Where to cut so that the largest of high[end - 1] - low[begin] is as small as can be."""
    least, most = float((high - low).max()), float(high[-1] - low[0])
    while most - least > 0.5:
        middle = (least + most) / 2
        least, most = (least, middle) if len(_filled(low, high, middle)) <= count + 1 else (middle, most)
    ends = _filled(low, high, most)
    while len(ends) <= count:  # fewer would do; the widest is halved
        at = max(range(len(ends) - 1), key=lambda k: ends[k + 1] - ends[k])
        ends.insert(at + 1, (ends[at] + ends[at + 1]) // 2)
    return ends


def _filled(low: NDArray[np.float64], high: NDArray[np.float64], room: float) -> list[int]:
    """Cuts from left to right, each strip as wide as there is room for, and one column at least."""
    ends = [0]
    while ends[-1] < len(high):
        end = int(np.searchsorted(high, room + float(low[ends[-1]]), side="right"))
        ends.append(max(end, ends[-1] + 1))
    return ends
