"""Columns that the units of a group compute when it runs in vertical strips; those at the seams are made twice."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.ir.graph import Graph, geometry
from mmcc.ir.nest import Nest, Span
from mmcc.ops.stream import ReadRows
from mmcc.planner.model import MemoryModel, bits
from mmcc.planner.rows import Rows

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16)  # numbers of strips worth trying


@dataclass(frozen=True, slots=True)
class Cut:
    """A last unit's output in strips: by unit, the columns that each strip makes of its output."""

    strips: tuple[Span, ...]
    held: dict[int, tuple[Span, ...]]

    def width(self, unit: int) -> int:
        """Columns that a ring for the output of a unit holds."""
        return max(map(len, self.held[unit]))

    def share(self, unit: int, width: int) -> float:
        """Columns computed over columns of the output."""
        return sum(map(len, self.held[unit])) / width


class Strips:
    """The ways to cut what a unit pulls."""

    def __init__(self, graph: Graph, model: MemoryModel, rows: Rows) -> None:
        self._graph, self._model, self._rows = graph, model, rows
        self._unit_of = {graph.nodes[unit.node].output: k for k, unit in enumerate(model.units)}
        self._nests: dict[int, Nest] = {}
        self._cuts: dict[tuple[int, int], Cut | None] = {}
        self.widths = [geometry(graph.tensors[graph.nodes[u.node].output].shape)[1] for u in model.units]

    def allowed(self, members: int, last: int, inside: int, born: int) -> bool:
        """True if a group can run in strips: nothing is read but once, and all but its output is its own."""
        if members == 1 << last or born & (born - 1):
            return False
        if any(self._rows.roots[root].members > 1 for root in bits(inside)):
            return False
        for unit in bits(members):
            op = self._graph.nodes[self._model.units[unit].node].op
            once = isinstance(op, ReadRows) and not op.again
            if once or (self._rows.units[unit].accumulates and self._rows.units[unit].steps > 1):
                return False
        return True

    def cut(self, last: int, count: int) -> Cut | None:
        """The output of unit `last` in so many strips, as even as can be; None if it is too narrow."""
        if (last, count) not in self._cuts:
            self._cuts[last, count] = self._cut(last, count)
        return self._cuts[last, count]

    def _cut(self, last: int, count: int) -> Cut | None:
        width = self.widths[last]
        if width < 2 * count:
            return None
        ends = [round(width * k / count) for k in range(count + 1)]
        strips = tuple(Span(a, b) for a, b in zip(ends, ends[1:], strict=False))
        held: dict[int, list[Span]] = {}
        for strip in strips:
            for unit, span in self._held(last, strip).items():
                held.setdefault(unit, []).append(span)
        return Cut(strips, {unit: tuple(spans) for unit, spans in held.items()})

    def _held(self, last: int, strip: Span) -> dict[int, Span]:
        """For one strip: the columns of each unit that feeds the last one, as far as there are no views."""
        held = {last: strip}
        for unit in reversed(range(last + 1)):
            if unit not in held:
                continue
            node = self._graph.nodes[self._model.units[unit].node]
            nest = self._nest(unit)
            for read, access in enumerate(nest.reads):
                source = self._unit_of.get(node.inputs[access.operand])
                if source is not None:
                    span = nest.cols_needed(read, held[unit])
                    held[source] = held.get(source, Span(0, 0)).join(span)
        return held

    def _nest(self, unit: int) -> Nest:
        if unit not in self._nests:
            node = self._graph.nodes[self._model.units[unit].node]
            self._nests[unit] = node.op.nest(*(t.shape for t in self._graph.operands(node)))
        return self._nests[unit]
