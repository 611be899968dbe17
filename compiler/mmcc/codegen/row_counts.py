# SPDX-License-Identifier: Apache-2.0
"""How many rows of a producer a reader asks for: numbers, and the C expression that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmcc.ir.program import Table
from mmcc.planner.fusion.schedule import Need, fit


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a node asks of a producer: `counts[r]` of its rows before the call that begins with row r.

    There is one for each pair of nodes, so it is compared by identity.
    """

    reader: int
    producer: int
    counts: tuple[int, ...]

    @staticmethod
    def of(need: Need, reader: int, rows: int) -> Demand:
        """The demand of calls that make `rows` rows each."""
        last = len(need.rows) - 1
        counts = tuple(need.rows[min(r + rows - 1, last)] for r in range(len(need.rows)))
        return Demand(reader, need.producer, counts)

    @property
    def table(self) -> str:
        """The name of the table of counts."""
        return f"rows_{self.producer}_for_{self.reader}"

    def bound(self, row: str) -> str:
        """C expression for how many rows must be made before the call that begins with row `row`."""
        found = fit(self.counts)
        if found is None:
            return f"{self.table}[{row}]"
        slope, start, divisor = found
        most = max(self.counts)
        if slope == 0:
            return str(min(start // divisor, most))
        text = row if slope == 1 else f"{slope} * {row}"
        text = f"{text} + {start}" if start > 0 else f"{text} - {-start}" if start < 0 else text
        if divisor > 1:
            text = f"({text}) / {divisor}"
        never_beyond = (slope * (len(self.counts) - 1) + start) // divisor <= most
        return text if never_beyond else f"MIN({text}, {most})"


def demands(needs: Mapping[int, Sequence[Need]], last: int, tile: int) -> dict[int, tuple[Demand, ...]]:
    """What each node of a group asks for, in its order; the last makes `tile` rows a call."""
    return {
        index: tuple(Demand.of(need, index, tile if index == last else 1) for need in found)
        for index, found in needs.items()
    }


def tables(asked: Sequence[Demand]) -> tuple[Table, ...]:
    """Counts that no short expression gives."""
    return tuple(Table(demand.table, demand.counts) for demand in asked if fit(demand.counts) is None)
