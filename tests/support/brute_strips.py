# SPDX-License-Identifier: Apache-2.0
"""A group of a tiny graph in vertical strips: where it is cut, which columns they make, what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from brute_group import FREE, Group, allocation_name
from brute_laid import Laid, bits
from mmcc.ir.nest import Span
from mmcc.ir.types import geometry

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16)  # of strips, as DESIGN has them


@dataclass(frozen=True)
class Cut:
    """A group in strips: how many there are, and the columns that each makes of the output of each kernel."""

    count: int
    made: dict[int, list[range]]

    def share(self, k: int) -> float:
        """Columns that a kernel makes over those that anybody needs."""
        every = {col for cols in self.made[k] for col in cols}
        return sum(map(len, self.made[k])) / len(every)


def cuts(laid: Laid, mask: int, last: int) -> Iterator[Cut]:
    """Every number of strips that the last kernel's output is wide enough for; rings are about equally large.

    A strip is as wide as the largest ring allows, from left to right; where that makes fewer strips than
    asked for, the widest are halved.
    """
    reach = [_needed(laid, mask, last, range(col, col + 1)) for col in range(_width(laid, last))]
    weights = {k: _column_bytes(laid, k) for k in bits(mask)}
    for count in COUNTS:
        if len(reach) < 2 * count:
            return
        for room in range(sum(w * _width(laid, k) for k, w in weights.items()) + 1):
            ends = _filled(reach, weights, room)
            if ends and len(ends) <= count + 1:
                break
        while len(ends) <= count:
            wide = max(b - a for a, b in pairwise(ends))
            at = next(k for k, (a, b) in enumerate(pairwise(ends)) if b - a == wide)
            ends.insert(at + 1, (ends[at] + ends[at + 1]) // 2)
        strips = [_needed(laid, mask, last, range(a, b)) for a, b in pairwise(ends)]
        yield Cut(count, {k: [strip[k] for strip in strips] for k in bits(mask)})


def _filled(reach: list[dict[int, range]], weights: dict[int, int], room: int) -> list[int]:
    """Where strips end of which none has rings above `room`; nothing if one column already has."""
    ends = [0]
    while ends[-1] < len(reach):
        fits = [
            end
            for end in range(ends[-1] + 1, len(reach) + 1)
            if sum(w * (reach[end - 1][k].stop - reach[ends[-1]][k].start) for k, w in weights.items())
            <= room
        ]
        if not fits:
            return []
        ends.append(max(fits))
    return ends


def _width(laid: Laid, k: int) -> int:
    return geometry(laid.graph.tensors[laid.graph.nodes[laid.kernels[k].node].output].shape)[1]


def _needed(laid: Laid, mask: int, last: int, cols: range) -> dict[int, range]:
    """Columns of the output of each kernel of a group that some columns of the last one's need."""
    found = {last: cols}
    for k in sorted(bits(mask), reverse=True):
        node, nest = laid.graph.nodes[laid.kernels[k].node], laid.nest(laid.kernels[k].node)
        for read, access in enumerate(nest.reads):
            maker = laid.maker.get(node.inputs[access.operand])
            if maker is None or not mask >> maker & 1 or k not in found:
                continue
            for col in found[k]:
                span = nest.cols_needed(read, Span(col, col + 1))
                old = found.get(maker, range(span.lo, span.hi))
                if len(span):
                    found[maker] = range(min(old.start, span.lo), max(old.stop, span.hi))
    return found


def _column_bytes(laid: Laid, k: int) -> int:
    """Bytes of a column of what a kernel makes, in as many rows as one row of a reader needs."""
    name = laid.graph.nodes[laid.kernels[k].node].output
    view = laid.views[name]
    rows = 1
    for reader in bits(laid.users[view.allocation]):
        kernel = laid.kernels[reader]
        counts = dict(kernel.needs).get(k, [])
        node = laid.graph.nodes[kernel.node]
        for other in kernel.reads if counts else ():
            if laid.views[other].allocation == view.allocation:
                spans = [
                    [laid.step_reads(reader, o, step, alone=False) for step in range(len(counts))]
                    for o, n in enumerate(node.inputs)
                    if n == other
                ]
                for step, count in enumerate(counts):
                    still = [lo for each in spans for lo, hi in each[step:] if hi > lo]
                    rows = max(rows, count - min(still)) if still else rows
    _, _, channels = geometry(laid.graph.tensors[view.allocation].shape)
    return rows * laid.graph.tensors[view.allocation].dtype.bytes(channels)


def may_be_cut(group: Group, last: int) -> bool:
    """True if a group may run in strips: one result, nothing inside has parts, and nothing is summed up."""
    laid = group.laid
    if group.mask == 1 << last or len(group.defined) > 1 or group.summing:
        return False
    if any(group.mask >> k & 1 for k in laid.ordered):
        return False
    others = [laid.allocation_of(laid.kernels[k]) for k in bits(group.mask) if k != last]
    return all(a in group.inside for a in others) and all(len(laid.members[a]) == 1 for a in group.inside)


class InStrips(Group):
    """The same group, cut: rings are as wide as the widest strip, and only those of one row take turns.

    Every strip begins with the rows that the one before ended with, so nothing is given up before the last.
    """

    def __init__(self, whole: Group, cut: Cut) -> None:
        super().__init__(
            whole.laid,
            whole.events,
            whole.mask,
            whole.before,
            whole.after,
            whole.inside,
            whole.merged,
            backward=False,
        )
        self.cut = cut

    def ring(self, allocation: str) -> tuple[int, bool]:
        laid = self.laid
        _, short = super().ring(allocation)
        makers = [k for k in bits(self.mask) if self.top(laid.allocation_of(laid.kernels[k])) == allocation]
        width = max(len(cols) for k in makers for cols in self.cut.made[k])
        _, _, channels = geometry(laid.graph.tensors[allocation].shape)
        size = self.depth(allocation) * width * laid.graph.tensors[allocation].dtype.bytes(channels)
        align = laid.align(allocation)
        return -(-size // align) * align, short

    def _distance(self, lower: Any, upper: Any) -> int:
        size = next(t.size for t in self.things if t.key == lower)
        a, b = allocation_name(lower), allocation_name(upper)
        if not {a, b} <= self.inside or not (self.ring(a)[1] and self.ring(b)[1]):
            return size
        together = any(lo <= top and at <= hi for lo, hi in self.uses(a) for at, top in self.uses(b))
        return size if together else FREE
