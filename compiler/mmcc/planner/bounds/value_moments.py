# SPDX-License-Identifier: Apache-2.0
"""How many rows of each piece are made and needed at the moments of a group's schedule."""

from __future__ import annotations

import numpy as np

from mmcc.planner.bounds.value_rows import PieceRead, ValueRows
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.fusion.timeline import Timeline
from mmcc.planner.memory.allocations import bits

SAMPLES = 96  # moments of a group that are looked at, besides those where a node begins or ends


class Moments:
    """One schedule: how many rows of each piece are made and needed at some moments of it.

    With `by_last` these are the steps of the last node. What is made by then is what it asks for, so it does
    not matter in which order that is made.
    """

    def __init__(self, rows: ValueRows, line: Timeline, *, by_last: bool = False) -> None:
        self.rows, self.line, self._by_last = rows, line, by_last
        if by_last:
            self.at = line.of(line.last)
            self._held: dict[tuple[str, int, int], Ints] = {}
            return
        times = [at for at in line.times.values() if len(at)]
        every = np.unique(np.concatenate(times))
        ends = [at[[0, -1]] for at in times]
        self.at = np.unique(np.concatenate([every[:: max(1, len(every) // SAMPLES)], *ends]))
        self._held = {}

    def inside(self, piece: int) -> Ints:
        """Bytes of a piece of which nobody outside sees anything: rows made, and not yet done with."""
        mask = self.rows.readers[piece]
        key = ("inside", piece, mask)
        if key not in self._held:
            newest, oldest = self._made(piece, self.at, running=True), self._needed(piece, mask, self.at)
            held = np.maximum(newest - oldest, 0)
            if self.rows.rings >> piece & 1 and not self._by_last:
                held = self._ring(piece, mask, held)
            self._held[key] = held * self.rows.pieces[piece].line
        return self._held[key]

    def _ring(self, piece: int, readers: int, held: Ints) -> Ints:
        """Rows of the ring that a piece is in while anybody uses it; of one row only while it holds that."""
        own = self.line.of(self.rows.pieces[piece].maker)
        depth = int((self._made(piece, own, running=True) - self._needed(piece, readers, own)).max(initial=1))
        if depth <= 1:
            return held
        end = max(self.line.last_need(node, self._read(node, piece).low) for node in bits(readers))
        return np.where((self.at >= own[0]) & (self.at <= max(end, own[-1])), depth, 0)

    def last_used(self, piece: int, members: int) -> Ints:
        """Bytes of a piece from the first row that the group still reads."""
        mask = self.rows.readers[piece] & members
        key = ("last", piece, mask)
        if key not in self._held:
            own = self.rows.pieces[piece]
            self._held[key] = (own.height - self._needed(piece, mask, self.at)) * own.line
        return self._held[key]

    def defined(self, piece: int, *, over: bool) -> Ints:
        """Bytes made of a piece so far; of the row being made only those that lie over nothing, if its maker
        reads something for the last time that it may lie `over`."""
        key = ("defined", piece, int(over))
        if key not in self._held:
            own = self.rows.pieces[piece]
            before, made = (self._made(piece, self.at, running=running) for running in (False, True))
            apart = self.rows.apart(own) if over else own.line
            self._held[key] = before * own.line + (made - before) * apart
        return self._held[key]

    def sums(self, node: int) -> Ints:
        """Bytes in which a node keeps sums."""
        begin, end = self.line.begin(node), self.line.end(node)
        return ((self.at >= begin) & (self.at <= end)) * self.rows.accumulates(node)

    def _made(self, piece: int, moments: Ints, *, running: bool) -> Ints:
        own = self.rows.pieces[piece]
        at = self.line.of(own.maker)
        done = np.searchsorted(at, moments, side="right" if running else "left")
        if self.rows.at_once >> own.maker & 1 or self.rows.takes(own.maker):
            return np.where(done >= max(1, self.rows.steps(own.maker)), own.height, 0)
        return own.among(done)

    def _read(self, node: int, piece: int) -> PieceRead:
        return next(read for read in self.rows.reads[node] if read.piece == piece)

    def _needed(self, piece: int, readers: int, moments: Ints) -> Ints:
        """The first row that some of the readers still need at each moment."""
        oldest = np.full(len(moments), self.rows.pieces[piece].height, np.int64)
        for node in bits(readers):
            read, at = self._read(node, piece), self.line.of(node)
            # what goes element by element may be written over the row that it reads
            done = np.searchsorted(at, moments, side="right" if read.elementwise else "left")
            oldest = np.minimum(oldest, np.where(done < len(at), read.low[done], read.low[-1]))
        return oldest
