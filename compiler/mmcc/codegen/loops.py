"""The loop of a group: nested pulled loops over rows, once for each column strip."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.ir.graph import Graph, geometry
from mmcc.ir.nest import Span
from mmcc.ir.plan import BufferKind, Group, Plan
from mmcc.ir.program import Call, Columns, Count, For, Stmt, Table
from mmcc.planner.walk import Need, Sources, fit, needs, strip_columns

STRIP = "strip"


def group_body(graph: Graph, plan: Plan, group: Group) -> tuple[Stmt, ...]:
    """The statements of one group."""
    columns = {index: _columns(graph, plan, group, index) for index in group.nodes}
    sources = Sources(graph, plan.aliases, group.accumulating)
    steps = {index: sources.steps(index) for index in group.nodes}
    if len(group.nodes) == 1:
        body = _single(group.nodes[0], columns[group.nodes[0]], steps[group.nodes[0]], group)
    else:
        body = _Pulled(needs(graph, group, plan.aliases), columns, steps, group).body()
    if len(group.strips) > 1:
        return (For(STRIP, str(len(group.strips)), body),)
    return body


def _single(index: int, columns: tuple[Columns, ...], height: int, group: Group) -> tuple[Stmt, ...]:
    if group.backward and height > 1:
        return (For("row", str(height), (Call(index, columns, "row", "row + 1"),), backward=True),)
    return (Call(index, columns, "0", str(height)),)


@dataclass(frozen=True, slots=True)
class _Pulled:
    """The loops of a group of several nodes."""

    needs: dict[int, tuple[Need, ...]]
    columns: dict[int, tuple[Columns, ...]]
    steps: dict[int, int]
    group: Group

    def body(self) -> tuple[Stmt, ...]:
        """Counts of rows made, the loop over the last node's rows, and rows that nobody pulled."""
        *inner, last = self.group.nodes
        row, height = f"y{last}", self.steps[last]
        tile = self.group.tile_rows or height
        end = f"{row} + {tile}" if height % tile == 0 else f"MIN({row} + {tile}, {height})"
        turn = (*self._pulls(last, row, tile), Call(last, self.columns[last], row, end))
        rest = tuple(self._until(index, str(self.steps[index])) for index in self.group.completed)
        loop = For(row, str(height), turn, step=tile)
        return (*self._tables(tile), *(Count(f"y{index}") for index in inner), loop, *rest)

    def _pulls(self, index: int, row: str, rows: int) -> tuple[Stmt, ...]:
        """Make the rows that rows `row` .. `row + rows - 1` of a node need."""
        return tuple(self._until(need.producer, _bound(need, index, row, rows)) for need in self.needs[index])

    def _until(self, index: int, bound: str) -> Stmt:
        """Make rows of a node, one at a time, until there are so many."""
        made = f"y{index}"
        call = Call(index, self.columns[index], made, f"{made} + 1")
        return For(made, bound, (*self._pulls(index, made, 1), call), fresh=False)

    def _tables(self, tile: int) -> tuple[Stmt, ...]:
        """Counts that no short expression gives."""
        last = self.group.nodes[-1]
        found: list[Stmt] = []
        for index, wanted in self.needs.items():
            for need in wanted:
                counts = _counts(need, tile if index == last else 1)
                if fit(counts) is None:
                    found.append(Table(_table(need, index), counts))
        return tuple(found)


def _counts(need: Need, rows: int) -> tuple[int, ...]:
    """Steps of the producer before rows r .. r + rows - 1 of the reader, for each r."""
    return tuple(need.rows[min(r + rows - 1, len(need.rows) - 1)] for r in range(len(need.rows)))


def _table(need: Need, reader: int) -> str:
    return f"rows_{need.producer}_for_{reader}"


def _bound(need: Need, reader: int, row: str, rows: int) -> str:
    """C expression for how many rows must be made before row `row + rows - 1` of the reader."""
    counts = _counts(need, rows)
    found = fit(counts)
    if found is None:
        return f"{_table(need, reader)}[{row}]"
    slope, start, divisor = found
    most = max(counts)
    if slope == 0:
        return str(min(start // divisor, most))
    text = row if slope == 1 else f"{slope} * {row}"
    text = f"{text} + {start}" if start > 0 else f"{text} - {-start}" if start < 0 else text
    if divisor > 1:
        text = f"({text}) / {divisor}"
    never_beyond = (slope * (len(counts) - 1) + start) // divisor <= most
    return text if never_beyond else f"MIN({text}, {most})"


def _columns(graph: Graph, plan: Plan, group: Group, index: int) -> tuple[Columns, ...]:
    """The columns of one node's calls, one entry a strip."""
    node = graph.nodes[index]
    width = geometry(graph.tensors[node.output].shape)[1]
    inputs = max(3, len(node.inputs))
    if not group.strips:
        return (Columns(0, width, (0,) * inputs),)
    rings = {b.name for b in plan.buffers if b.kind is BufferKind.RING}
    inside = {graph.nodes[k].output for k in group.nodes}
    narrow = {name for name in inside if plan.slots[name].buffer in rings}
    rows: list[Columns] = []
    for strip in group.strips:
        held = strip_columns(graph, group, strip.columns)
        own = held.get(node.output, Span(0, width))
        firsts = [held[name].lo if name in narrow else 0 for name in node.inputs]
        firsts += [0] * (inputs - len(firsts))
        rows.append(Columns(own.lo, own.hi, tuple(firsts), own.lo if node.output in narrow else 0))
    return tuple(rows)
