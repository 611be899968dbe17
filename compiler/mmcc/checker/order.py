# SPDX-License-Identifier: Apache-2.0
"""The calls of a group in order, for the checker: found from Nests, apart from the planner's schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import LoopKind, Nest, Span
from mmcc.ir.plan import BufferKind, Group, Plan
from mmcc.ir.types import geometry


@dataclass(frozen=True, slots=True)
class Event:
    """A node makes some rows of some columns; one that accumulates takes in those rows of its input.

    It is one row, or all rows of a call that reads its input until the last of them is written.
    """

    node: int
    rows: Span
    cols: Span


class Order:
    """What nodes ask of each other, aliases looked through."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph, self._plan = graph, plan
        self._index = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
        self._nests: dict[int, Nest] = {}
        self._spans: dict[tuple[int, int], list[Span]] = {}  # by node and read: rows that each row needs
        self._joined: dict[tuple[int, int, Span], Span] = {}
        self._needed: dict[tuple[int, Span], tuple[tuple[int, int], ...]] = {}
        self._behind: dict[tuple[int, str, Span], dict[int, int]] = {}  # by last node of a group, and view

    def nest(self, index: int) -> Nest:
        """The loops of a node, made once."""
        if index not in self._nests:
            node = self._graph.nodes[index]
            self._nests[index] = nest_of(self._graph, node)
        return self._nests[index]

    def height(self, index: int, group: Group) -> int:
        """Rows that a node makes, or takes in."""
        node = self._graph.nodes[index]
        taken = index in group.accumulating
        name = self._taken(index) if taken else node.outputs[0]
        return geometry(self._graph.tensors[name].shape)[0]

    def first_row(self, index: int) -> int:
        """The row that a node makes first, alone or in a group."""
        last = geometry(self._graph.tensors[self._graph.nodes[index].outputs[0]].shape)[0] - 1
        return last if self.nest(index).row_order is LoopKind.BACKWARD else 0

    def by_blocks(self, index: int) -> bool:
        """True if a call goes over its rows again for each block of constants."""
        return index in self._plan.staged and self._plan.staged[index].blocks.count > 1

    def events(self, group: Group, strip: int) -> Iterator[Event]:
        """One strip of a group, row by row, as the last node demands."""
        last = group.nodes[-1]
        held = self.columns(group, strip)
        width = {k: self._held(held, k) for k in group.nodes}
        if self._graph.nodes[last].at_once:  # alone, and in one call
            yield Event(last, Span(0, self.height(last, group)), width[last])
            return
        if group.backward:
            rows = reversed(range(self.height(last, group)))
            yield from (Event(last, Span(row, row + 1), width[last]) for row in rows)
            return
        if group.batched:
            yield from self._batched(group, width)
            return
        made = dict.fromkeys(group.nodes, 0)
        height = self.height(last, group)
        tile = group.tile_rows or (1 if len(group.nodes) == 1 else height)
        for top in range(0, height, tile):
            rows = Span(top, min(top + tile, height))
            yield from self._fed(last, rows, group, made, width)
            yield from (Event(last, Span(row, row + 1), width[last]) for row in range(rows.lo, rows.hi))
        for index in group.drained:
            while made[index] < self.height(index, group):
                row = Span(made[index], made[index] + 1)
                yield from self._fed(index, row, group, made, width)
                yield Event(index, row, width[index])
                made[index] = row.hi

    def _fed(
        self, index: int, rows: Span, group: Group, made: dict[int, int], width: dict[int, Span]
    ) -> Iterator[Event]:
        """What must be there before a node makes some rows, each row of it behind what that needs.

        Who waits for whom is a list, since groups may be deep.
        """
        waiting = [(index, rows, list(self._sources(index, rows, group)))]
        while waiting:
            node, rows, due = waiting[-1]
            while due and made[due[0][0]] >= due[0][1]:
                due.pop(0)
            if due:
                source = due[0][0]
                row = Span(made[source], made[source] + 1)
                waiting.append((source, row, list(self._sources(source, row, group))))
                continue
            waiting.pop()
            if waiting:
                yield Event(node, rows, width[node])
                made[node] = rows.hi

    def _batched(self, group: Group, width: dict[int, Span]) -> Iterator[Event]:
        """In each iteration every node makes at once what is needed of it, readers behind what they read."""
        last = group.nodes[-1]
        made = dict.fromkeys(group.nodes, 0)
        height = self.height(last, group)
        for top in range(0, height, group.tile_rows):
            until = {last: min(top + group.tile_rows, height)}
            for index in sorted(group.nodes, reverse=True):
                rows = Span(made[index], until.get(index, 0))  # those before asked for what is made
                for source, count in self._sources(index, rows, group):
                    until[source] = max(until.get(source, 0), count)
            for index in sorted(group.nodes):
                rows = Span(made[index], max(made[index], until.get(index, 0)))
                made[index] = rows.hi
                if len(rows) and self.by_blocks(index):
                    yield Event(index, rows, width[index])
                else:
                    yield from (Event(index, Span(r, r + 1), width[index]) for r in range(rows.lo, rows.hi))

    def narrow(self, group: Group) -> set[str]:
        """Tensors of which a group in strips holds the columns of one strip at a time."""
        rings = {b.name for b in self._plan.buffers if b.kind is BufferKind.RING}
        every = (name for k in group.nodes for name in self._graph.nodes[k].outputs)
        made = set(every) if group.strips else set[str]()
        return {name for name in made if self._plan.slots[name].buffer in rings}

    def columns(self, group: Group, strip: int) -> dict[str, Span]:
        """The columns of each tensor that one strip makes; none are given for a group without strips."""
        if not group.strips:
            return {}
        held = {self._graph.nodes[group.nodes[-1]].output: group.strips[strip].columns}
        waiting = sorted(group.nodes, reverse=True)
        for index in waiting:
            node = self._graph.nodes[index]
            if node.output not in held:
                continue
            for read, access in enumerate(self.nest(index).reads):
                name = node.inputs[access.operand]
                if not self._graph.is_constant(name):
                    span = self.nest(index).cols_needed(read, held[node.output])
                    held[name] = held.get(name, Span(0, 0)).join(span)
        return held

    def _held(self, held: dict[str, Span], index: int) -> Span:
        name = self._graph.nodes[index].outputs[0]
        return held.get(name, Span(0, geometry(self._graph.tensors[name].shape)[1]))

    def _sources(self, index: int, rows: Span, group: Group) -> tuple[tuple[int, int], ...]:
        """Nodes of the group that some rows of a node need, in operand order, and up to which rows."""
        key = index, rows
        if key not in self._needed:
            found: dict[int, int] = {}
            node = self._graph.nodes[index]
            for read, access in enumerate(self.nest(index).reads):
                name = node.inputs[access.operand]
                if self._graph.is_constant(name):
                    continue
                span = self.rows_read(index, read, rows, group)
                _join(found, self._makers(name, span, group))
            for rider, host in group.riding:
                if host == index:
                    _join(found, self._ridden(index, rider, rows, group))
            self._needed[key] = tuple(found.items())
        return self._needed[key]

    def rows_read(self, index: int, read: int, rows: Span, group: Group) -> Span:
        """Rows that one read of a node needs for some of its steps in a group."""
        if index not in group.accumulating:
            return self.rows_of(index, read, rows)
        need = Span(0, 0)
        for row in range(rows.lo, rows.hi):
            need = need.join(self.nest(index).rows_taken(read, row))
        return need

    def _taken(self, index: int) -> str:
        """What an accumulating node takes in row by row."""
        nest = self.nest(index)
        return self._graph.nodes[index].inputs[nest.reads[nest.taken].operand]

    def _ridden(self, index: int, rider: int, rows: Span, group: Group) -> dict[int, int]:
        """How far a node that rides has to be before some rows of its host: as far as that reads."""
        nest, need, shared = self.nest(index), Span(0, 0), self._taken(rider)
        for read, access in enumerate(nest.reads):
            if self._graph.nodes[index].inputs[access.operand] == shared:
                need = need.join(self.rows_read(index, read, rows, group))
        return {rider: need.hi if len(need) else 0}

    def _makers(self, name: str, rows: Span, group: Group) -> dict[int, int]:
        """Nodes of the group that make some rows of a tensor, and how many of theirs that takes.

        A view may see another through several views of it: each is asked once.
        """
        index = self._index.get(name)
        if index is None:
            return {}
        if index in group.nodes:
            whole = self.height(index, group)
            return {index: (whole if index in group.accumulating else rows.hi) if len(rows) else 0}
        key = group.nodes[-1], name, rows
        if key not in self._behind:
            found: dict[int, int] = {}
            node = self._graph.nodes[index]
            for read, access in enumerate(self.nest(index).reads if index in self._plan.aliases else ()):
                inner = node.inputs[access.operand]
                if not self._graph.is_constant(inner):
                    _join(found, self._makers(inner, self.rows_of(index, read, rows), group))
            self._behind[key] = found
        return self._behind[key]

    def rows_of(self, index: int, read: int, rows: Span) -> Span:
        """Rows that one read of a node needs for some rows of its output; each is asked of the nest once."""
        key = (index, read, rows)
        if key not in self._joined:
            need, each = Span(0, 0), self._each_row(index, read)
            for row in range(rows.lo, min(rows.hi, rows.lo + 1 if len(each) == 1 else rows.hi)):
                need = need.join(each[min(row, len(each) - 1)])
            self._joined[key] = need
        return self._joined[key]

    def _each_row(self, index: int, read: int) -> list[Span]:
        """Rows that each row of a node's output needs; just one entry where all rows need the same."""
        if (index, read) not in self._spans:
            nest = self.nest(index)
            height = geometry(self._graph.tensors[self._graph.nodes[index].outputs[0]].shape)[0]
            walked = nest.axis_loop(0) is not None and len(nest.write.shape) >= 2
            self._spans[index, read] = [nest.rows_needed(read, row) for row in range(height if walked else 1)]
        return self._spans[index, read]


def _join(found: dict[int, int], more: dict[int, int]) -> None:
    for maker, until in more.items():
        found[maker] = max(found.get(maker, 0), until)
