# SPDX-License-Identifier: Apache-2.0
"""What a replay found right in memory, and nothing was written to since: it need not be looked at again.

A node may read all rows of a tensor for each row that it makes. Rows found right stay so until something is
written to bytes of theirs, by whatever name; then they are looked at again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mmcc.ir.nest import Span
from mmcc.ir.plan import Slot
from mmcc.ir.regions import External, Place, Region

Key = tuple[str, bool]  # the name of a tensor, or (True) of a buffer


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a memory where rows lie: row r begins at `begin + (r mod rows) * stride` and has `wide`.

    Of a tensor these are the columns that memory holds, `pixel` bytes each, `col_stride` bytes apart.
    """

    memory: Region | External
    begin: int
    stride: int
    rows: int
    columns: Span
    col_stride: int
    pixel: int

    @staticmethod
    def of(place: Place, slot: Slot, columns: Span, pixel: int) -> Extent:
        """A tensor whose buffer is at a place."""
        begin = place.offset + slot.offset
        return Extent(place.region, begin, slot.row_stride, slot.rows, columns, slot.col_stride, pixel)

    @staticmethod
    def buffer(place: Place, size: int) -> Extent:
        """All bytes of a buffer."""
        return Extent(place.region, place.offset, 0, 1, Span(0, 1), 0, size)

    @property
    def wide(self) -> int:
        """Bytes from the first of a row to the last."""
        return (len(self.columns) - 1) * self.col_stride + self.pixel

    @property
    def end(self) -> int:
        """Behind the last byte of the last row."""
        return self.begin + (self.rows - 1) * self.stride + self.wide

    def meets(self, other: Extent) -> bool:
        """True if some byte of one may be a byte of the other."""
        return self.memory == other.memory and self.begin < other.end and other.begin < self.end

    def touched(self, lo: int, hi: int) -> Span:
        """Rows modulo `rows` that may have bytes in [lo, hi)."""
        if not self.stride:
            return Span(0, self.rows if lo < self.end and self.begin < hi else 0)
        first = (lo - self.begin - self.wide) // self.stride + 1
        last = (hi - 1 - self.begin) // self.stride
        return Span(max(0, first), min(self.rows, last + 1))


class Known:
    """Rows that are right while a group runs, one span a tensor."""

    def __init__(self) -> None:
        self._right: dict[str, Span] = {}
        self._extents: Mapping[Key, Extent] = {}
        self._read: Collection[str] = ()
        self._near: dict[
            Key, list[str]
        ] = {}  # tensors read that may have bytes in common with what is written

    def begin(self, extents: Mapping[Key, Extent], read: Collection[str]) -> None:
        """Nothing is known. From now on tensors in `read` are read, and what has an extent is written."""
        self._right, self._near = {}, {}
        self._extents, self._read = extents, read

    def missing(self, name: str, rows: Span) -> tuple[Span, ...]:
        """Those of some rows of a tensor that must be looked at, in order."""
        right = self._right.get(name)
        if right is None:
            return (rows,)
        below = Span(rows.lo, min(rows.hi, right.lo))
        above = Span(max(rows.lo, right.hi), rows.hi)
        return tuple(part for part in (below, above) if len(part))

    def found(self, name: str, rows: Span) -> None:
        """Some rows of a tensor are right, in all columns that memory holds."""
        if name not in self._read:
            return
        right = self._right.get(name)
        together = right is not None and right.lo <= rows.hi and rows.lo <= right.hi
        self._right[name] = rows.join(right) if right is not None and together else rows

    def written(self, name: str, row: int, cols: Span) -> None:
        """Some columns of a row of a tensor are written."""
        own = self._extents[name, False]
        begin = own.begin + row % own.rows * own.stride + (cols.lo - own.columns.lo) * own.col_stride
        self._overwritten((name, False), begin, begin + (len(cols) - 1) * own.col_stride + own.pixel)

    def filled(self, buffer: str) -> None:
        """All bytes of a buffer are written."""
        extent = self._extents[buffer, True]
        self._overwritten((buffer, True), extent.begin, extent.end)

    def _overwritten(self, key: Key, lo: int, hi: int) -> None:
        if key not in self._near:
            own = self._extents[key]
            self._near[key] = [name for name in self._read if self._extents[name, False].meets(own)]
        for name in self._near[key]:
            right, extent = self._right.get(name), self._extents[name, False]
            if right is not None:
                self._right[name] = _without(right, extent.touched(lo, hi), extent.rows)


def _without(rows: Span, places: Span, ring: int) -> Span:
    """Some rows up to the first, or from the last, that is at one of some places of a ring: the longer."""
    turns = range(rows.lo - rows.lo % ring, rows.hi, ring)
    gone = [Span(max(rows.lo, turn + places.lo), min(rows.hi, turn + places.hi)) for turn in turns]
    gone = [span for span in gone if len(span)]
    if not gone:
        return rows
    below, above = Span(rows.lo, gone[0].lo), Span(gone[-1].hi, rows.hi)
    return below if len(below) > len(above) else above
