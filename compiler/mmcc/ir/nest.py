# SPDX-License-Identifier: Apache-2.0
"""Loop level: how one op walks its tensors, as loops and affine access functions.

Everything the planner asks about an op (input rows of a tile, halo, ring size, overlap distance, MACs) is
derived from a `Nest`; no op answers such a question by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from math import prod

from mmcc.ir.types import Shape


class LoopKind(Enum):
    PARALLEL = auto()  # the loop indexes the output: it may be tiled and reordered
    REDUCE = auto()  # the loop is summed away: it stays inside one kernel call
    FORWARD = auto()  # iterations run from first to last, once each: one may hand something on to the next
    BACKWARD = auto()  # the same from the last to the first


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range [lo, hi)."""

    lo: int
    hi: int

    def __len__(self) -> int:
        return max(0, self.hi - self.lo)

    def clamp(self, extent: int) -> Span:
        """The part inside [0, extent); empty if a tile lies wholly in padding."""
        lo = min(max(self.lo, 0), extent)
        return Span(lo, max(lo, min(self.hi, extent)))

    def join(self, other: Span) -> Span:
        """The least span that holds both; an empty one adds nothing."""
        if not len(self):
            return other
        return Span(min(self.lo, other.lo), max(self.hi, other.hi)) if len(other) else self


@dataclass(frozen=True, slots=True)
class Affine:
    """`floor((sum(coefficient * loop) + offset) / divisor)`; built with arithmetic on loops.

    The divisor is for ops that make several output rows of one input row (Resize, ConvTranspose).
    """

    terms: tuple[tuple[str, int], ...]
    offset: int = 0
    divisor: int = 1

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.offset + other * self.divisor, self.divisor)
        assert self.divisor == other.divisor == 1
        return Affine(self.terms + other.terms, self.offset + other.offset)

    def __sub__(self, other: Affine | int) -> Affine:
        return self + other * -1

    def __mul__(self, factor: int) -> Affine:
        assert self.divisor == 1
        return Affine(tuple((loop, c * factor) for loop, c in self.terms), self.offset * factor)

    def __floordiv__(self, divisor: int) -> Affine:
        assert self.divisor == 1
        assert divisor > 0
        return Affine(self.terms, self.offset, divisor)

    def span(self, box: dict[str, Span]) -> Span:
        """The values taken while every loop runs over its (non-empty) span in `box`."""
        lo = hi = self.offset
        for loop, c in self.terms:
            ends = (c * box[loop].lo, c * (box[loop].hi - 1))
            lo, hi = lo + min(ends), hi + max(ends)
        return Span(lo // self.divisor, hi // self.divisor + 1)

    @property
    def loop(self) -> str | None:
        """The loop this index is, if it is exactly one loop's counter."""
        if self.offset == 0 and self.divisor == 1 and len(self.terms) == 1 and self.terms[0][1] == 1:
            return self.terms[0][0]
        return None


CONSTANT = Affine(())  # index 0: a broadcast axis


@dataclass(frozen=True, slots=True)
class Indexed:
    """`values[loop] .. values[loop] + extent - 1`: an index that a table gives (Resize, Gather)."""

    name: str
    values: tuple[int, ...]
    extent: int = 1

    def span(self, box: dict[str, Span]) -> Span:
        """The values taken while the loop runs over its (non-empty) span in `box`."""
        taken = self.values[box[self.name].lo : box[self.name].hi]
        return Span(min(taken), max(taken) + self.extent)

    @property
    def loop(self) -> str | None:
        return None


Index = Affine | Indexed | None


@dataclass(frozen=True, slots=True)
class Loop:
    name: str
    extent: int
    kind: LoopKind = LoopKind.PARALLEL

    @property
    def i(self) -> Affine:
        """This loop's counter, for use in access functions."""
        return Affine(((self.name, 1),))


@dataclass(frozen=True, slots=True)
class Access:
    """Which element of operand (or result) number `operand`, of the given shape, one iteration touches.

    An index of None means: any element of that axis (a table look-up, a reshape).
    """

    operand: int
    shape: Shape
    index: tuple[Index, ...]

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.index)


@dataclass(frozen=True, slots=True)
class Nest:
    """The loops of one op, its reads, and its writes, one a result. `multiplies`: one MAC an iteration.

    The op is walked by the rows of its first result. The others are there when all of these are.
    Unless `in_place`, nothing that a row reads is written over in that row, not even the same element.
    Where columns are cut into strips, each strip but one makes `seam` MACs more than its columns have.
    """

    loops: tuple[Loop, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    multiplies: bool = False
    in_place: bool = True
    seam: int = 0

    @property
    def write(self) -> Access:
        """The write of the result by whose rows the op is walked."""
        return self.writes[0]

    @property
    def row_order(self) -> LoopKind | None:
        """FORWARD or BACKWARD if rows are made once each, in that order; None if in any order."""
        kinds = {loop.name: loop.kind for loop in self.loops}
        kind = kinds.get(self.axis_loop(0) or "")
        return kind if kind in (LoopKind.FORWARD, LoopKind.BACKWARD) else None

    @property
    def iterations(self) -> int:
        return prod(loop.extent for loop in self.loops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding counted as everybody counts it."""
        return self.iterations if self.multiplies else 0

    def seams(self, strips: int) -> float:
        """The part of all MACs that so many strips of columns make once more."""
        return (strips - 1) * self.seam / self.macs if self.seam else 0.0

    def needed(self, read: int, axis: int, tile: dict[str, Span]) -> Span:
        """The part of an axis of read number `read` that `tile` touches, clamped.

        Loops that `tile` does not name run in full.
        """
        access = self.reads[read]
        index, extent = access.index[axis], access.shape[axis]
        if index is None:
            return Span(0, extent)
        box = {loop.name: tile.get(loop.name, Span(0, loop.extent)) for loop in self.loops}
        return index.span(box).clamp(extent)

    def axis_loop(self, axis: int) -> str | None:
        """The loop that walks `axis` of the first result, or None if no single loop does."""
        index = self.write.index
        if axis >= len(index):
            return None
        access = index[axis]
        return access.loop if access is not None else None

    def rows_needed(self, read: int, row: int) -> Span:
        """Rows (axis 0, clamped) of read number `read` that output row `row` needs.

        All of them where the op does not walk its output by rows. Reads of rank 0 and 1 have one row.
        """
        access = self.reads[read]
        if len(access.shape) < 2:
            return Span(0, 1)
        loop = self.axis_loop(0) if len(self.write.shape) >= 2 else None
        if loop is None:
            return Span(0, access.shape[0])
        return self.needed(read, 0, {loop: Span(row, row + 1)})

    def once_in_order(self, *, in_place: bool) -> Nest:
        """The same with rows that are made once each, from the first to the last."""
        rows = self.axis_loop(0) if len(self.write.shape) >= 2 else None
        loops = tuple(
            replace(loop, kind=LoopKind.FORWARD)
            if loop.name == rows and loop.kind is LoopKind.PARALLEL
            else loop
            for loop in self.loops
        )
        return replace(self, loops=loops, in_place=in_place)

    @property
    def taken(self) -> int:
        """The read whose rows an op that sums over rows can take in one by one: the last whose rows are one
        loop that is summed away, or the first of all."""
        summed = {loop.name for loop in self.loops if loop.kind is LoopKind.REDUCE}
        return max((k for k in range(len(self.reads)) if self._row_loop(k) in summed), default=0)

    def _row_loop(self, read: int) -> str | None:
        """The loop that walks the rows of a read, if it is a single one."""
        index = self.reads[read].index[:1]
        return index[0].loop if index and index[0] is not None else None

    def rows_taken(self, read: int, row: int) -> Span:
        """Rows (axis 0, clamped) of read number `read` that go with row `row` of the one that is `taken`."""
        access = self.reads[read]
        if len(access.shape) < 2:
            return Span(0, 1)
        if read == self.taken:
            return Span(row, row + 1)
        loop = self._row_loop(self.taken)
        if loop is None:
            return Span(0, access.shape[0])
        return self.needed(read, 0, {loop: Span(row, row + 1)})

    def cols_needed(self, read: int, cols: Span) -> Span:
        """Columns (axis 1, clamped) of read number `read` that output columns `cols` need.

        Where columns are one loop, none need none: a strip may lie wholly in what a Pad adds.
        """
        access = self.reads[read]
        if len(access.shape) < 3:
            return Span(0, 1)
        loop = self.axis_loop(1) if len(self.write.shape) >= 3 else None
        if loop is None:
            return Span(0, access.shape[1])
        if not len(cols):
            return Span(0, 0)
        return self.needed(read, 1, {loop: cols})

    def is_elementwise_in(self, read: int) -> bool:
        """True if each element written depends on just the same element of that read, and may lie over it."""
        access = self.reads[read]
        return self.in_place and access.shape == self.write.shape and access.index == self.write.index
