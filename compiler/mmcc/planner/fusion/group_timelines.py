# SPDX-License-Identifier: Apache-2.0
"""The schedules of a space's groups: a group is looked at in that of its last kernel, which many share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

import numpy as np

from mmcc.planner.fusion.rows import Rows
from mmcc.planner.fusion.timeline import Timeline, batch, demand
from mmcc.planner.memory.allocations import MemoryModel, bits

WINDOW = 16  # kernels of the shortest schedules; groups that end alike and are about as long share one


class GroupTimelines:
    """Makes each schedule once."""

    def __init__(
        self, model: MemoryModel, rows: Rows, order: Sequence[int], single: int, cut: Iterable[int]
    ) -> None:
        """`single` kernels (a mask) run with no other; the constants of those that are `cut` may come in
        blocks."""
        self._model, self._rows, self._order, self._single = model, rows, order, single
        self._atomic = sum(1 << k for k in cut)
        self._position = {kernel: at for at, kernel in enumerate(order)}
        self._alone = [Timeline(k, {k: np.arange(kernel.steps)}) for k, kernel in enumerate(rows.alone)]
        self._nearest: dict[tuple[int, int], int] = {}
        self._lines: dict[tuple[object, ...], Timeline] = {}

    def of(self, rows: Rows) -> GroupTimelines:
        """The schedules of the same kernels where they need other rows."""
        return GroupTimelines(self._model, rows, self._order, self._single, bits(self._atomic))

    def line(self, before: int, members: int, last: int, outside: int) -> tuple[Timeline, tuple[int, ...]]:
        """The schedule of a group, and the kernels that make the rest of their rows at its end since
        allocations are read `outside`."""
        near = self._window(last, members)
        if members == 1 << last:
            return self._alone[last], ()
        if (last, near) not in self._lines:
            self._lines[last, near] = demand(self._rows, last, near)
        line = self._lines[last, near]
        kept = self._unfinished(line, members, last, outside)
        if kept and (last, kept, before) not in self._lines:
            self._lines[last, kept, before] = demand(self._rows, last, members, kept)
        return (self._lines[last, kept, before] if kept else line), kept

    def tiled(self, members: int, last: int, tile: int) -> Timeline:
        """That of a group in tiles: `tile` steps of its last kernel in an iteration."""
        near = self._window(last, members)
        if (last, near, tile) not in self._lines:
            self._lines[last, near, tile] = batch(self._rows, last, near, tile, self._atomic)
        return self._lines[last, near, tile]

    def nearest(self, last: int, members: int, size: int) -> int:
        """Of a group, so many kernels that are nearest to its last one."""
        while members.bit_count() > (members & self._near(last, size)).bit_count() < size // 2:
            size *= 2  # many kernels between do not belong to it
        return members & self._near(last, size)

    def _window(self, last: int, members: int) -> int:
        """The kernels of the schedule in which a group is looked at: the group, and more that feed it."""
        size = WINDOW
        while members & ~self._near(last, size):
            size *= 2
        return self._near(last, size)

    def _near(self, last: int, size: int) -> int:
        """So many kernels that feed one, the nearest in the order, and it."""
        if (last, size) not in self._nearest:
            found, edge, seen = 1 << last, [-self._position[last]], {last}
            while edge and found.bit_count() < size:
                nearest = self._order[-heappop(edge)]
                found |= 1 << nearest
                for kernel, _ in self._rows.kernels[nearest].needs:
                    if kernel not in seen and not self._single >> kernel & 1:
                        seen.add(kernel)
                        heappush(edge, -self._position[kernel])
            self._nearest[last, size] = found
        return self._nearest[last, size]

    def _unfinished(self, line: Timeline, members: int, last: int, outside: int) -> tuple[int, ...]:
        """Kernels whose output is read outside the group, but of which it does not demand all rows."""
        return tuple(
            kernel
            for kernel in bits(members)
            if kernel != last
            and outside >> self._model.kernels[kernel].output & 1
            and len(line.times.get(kernel, ())) < self._rows.kernels[kernel].steps
        )
