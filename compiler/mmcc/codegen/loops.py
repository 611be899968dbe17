# SPDX-License-Identifier: Apache-2.0
"""The loop of a group over rows, once for each column strip.

Where constants are staged, their moves are among the statements, each started as the one before is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmcc.codegen.demand_driven import GroupCode, demand_driven
from mmcc.codegen.row_counts import Demand, tables
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Along, BufferKind, Group, Plan
from mmcc.ir.program import (
    Batch,
    ByBlocks,
    Call,
    Columns,
    Constants,
    Count,
    Following,
    For,
    InChunks,
    Start,
    Stmt,
    Wait,
)
from mmcc.ir.types import geometry
from mmcc.planner.fusion.schedule import Need, needs, sources_of, strip_columns, wanted

STRIP = "strip"
CHUNK = "chunk"


def group_code(graph: Graph, plan: Plan, step: int) -> GroupCode:
    """The code of the group that is step number `step`."""
    group = plan.groups[step]
    columns = {index: _columns(graph, plan, group, index) for index in group.nodes}
    sources = sources_of(graph, group, plan.aliases)
    steps = {index: sources.steps(index) for index in group.nodes}
    staging = _Staging(plan, step)
    if group.batched:
        code = GroupCode(_batched(graph, plan, group, columns, staging))
    elif len(group.nodes) == 1:
        index = group.nodes[0]
        body = _single(index, columns[index], steps[index], group)
        code = GroupCode(body if index not in plan.chunks else _in_chunks(index, steps[index], plan, columns))
    else:
        code = demand_driven(needs(graph, group, plan.aliases), columns, steps, group)
    body = code.body
    if len(group.strips) > 1:
        body = (For(STRIP, str(len(group.strips)), body),)
    return replace(code, body=(*staging.first(), *body))


@dataclass(frozen=True, slots=True)
class _Staging:
    """The order in which a group's constants are moved."""

    plan: Plan
    step: int

    def _of(self, step: int, *, resident: bool) -> list[int]:
        """Nodes of a group whose constants stay, or do not."""
        staged = self.plan.staged
        nodes = self.plan.groups[step].nodes
        return [k for k in nodes if k in staged and staged[k].resident == resident]

    def _starts(self, step: int) -> int | None:
        """The node whose constants are moved first in a step, if the move can start in the step before."""
        if step >= len(self.plan.groups):
            return None
        nodes = [*self._of(step, resident=True), *self._of(step, resident=False)]
        if not nodes:
            return None
        name = self.plan.staged[nodes[0]].buffers[0]
        buffer = next(b for b in self.plan.buffers if b.name == name)
        return nodes[0] if buffer.live.lo < step else None

    def first(self) -> tuple[Stmt, ...]:
        """The moves before the group's calls."""
        stay, come = self._of(self.step, resident=True), self._of(self.step, resident=False)
        after = come[0] if come else self._starts(self.step + 1)
        if not stay and not come and after is not None:
            return (Start(Constants(after)),)
        following = [*stay[1:], after]
        return tuple(Wait(Constants(k), Following(then)) for k, then in zip(stay, following, strict=False))

    def wrap(self, call: Call, more_iterations: str) -> Stmt:
        """A call whose node's constants come block by block; `more_iterations` holds if there is another."""
        come = self._of(self.step, resident=False)
        if call.node not in come:
            return call
        following = Following(self._starts(self.step + 1), more_iterations, come[0])
        if call.node != come[-1]:
            following = Following(come[come.index(call.node) + 1])
        return ByBlocks(call, following, bool(self._of(self.step, resident=True)))


def _batched(
    graph: Graph, plan: Plan, group: Group, columns: dict[int, tuple[Columns, ...]], staging: _Staging
) -> tuple[Stmt, ...]:
    """A tile iteration is a few rows of the last node; what each node makes for it, it makes in one call."""
    counts = wanted(graph, group, plan.aliases)
    *inner, last = counts
    row, height, tile = f"y{last}", len(counts[last]), group.tile_rows
    end = f"{row} + {tile}" if height % tile == 0 else f"MIN({row} + {tile}, {height})"
    more = f"{row} + {tile} < {height}" if tile < height else ""
    found: list[Stmt] = []
    iteration: list[Stmt] = []
    for index in inner:
        demand = Demand.of(Need(index, counts[index]), last, tile)
        found += [*tables([demand]), Count(f"y{index}")]
        call = Call(index, columns[index], f"y{index}", f"y{index}_end")
        iteration.append(Batch(f"y{index}", demand.bound(row), (staging.wrap(call, more),)))
    if not more:
        return (staging.wrap(Call(last, columns[last], "0", str(height)), more),)
    iteration.append(staging.wrap(Call(last, columns[last], row, end), more))
    return (*found, For(row, str(height), tuple(iteration), step=tile))


def _single(index: int, columns: tuple[Columns, ...], height: int, group: Group) -> tuple[Stmt, ...]:
    if group.backward and height > 1:
        return (For("row", str(height), (Call(index, columns, "row", "row + 1"),), backward=True),)
    return (Call(index, columns, "0", str(height)),)


def _in_chunks(
    index: int, height: int, plan: Plan, columns: dict[int, tuple[Columns, ...]]
) -> tuple[Stmt, ...]:
    """A node in chunks of rows or of columns, which are equal but for one, or of channels."""
    chunks = plan.chunks[index]
    count = len(chunks.spans)
    if chunks.along is Along.CHANNELS:
        return (InChunks(Call(index, columns[index], "0", str(height)), count, by_channels=True),)
    if chunks.along is Along.COLUMNS:
        parts = tuple(Columns(span.lo, span.hi) for span in chunks.spans)
        return (InChunks(Call(index, parts, "0", str(height)), count),)
    begin, end = (f"{chunk} * {height} / {count}" for chunk in (CHUNK, f"({CHUNK} + 1)"))
    return (InChunks(Call(index, columns[index], begin, end), count),)


def _columns(graph: Graph, plan: Plan, group: Group, index: int) -> tuple[Columns, ...]:
    """The columns of one node's calls, one entry a strip."""
    node = graph.nodes[index]
    width = geometry(graph.tensors[node.outputs[0]].shape)[1]
    if not group.strips:
        return (Columns(0, width),)
    rings = {b.name for b in plan.buffers if b.kind is BufferKind.RING}
    inside = {name for k in group.nodes for name in graph.nodes[k].outputs}
    narrow = {name for name in inside if plan.slots[name].buffer in rings}
    rows: list[Columns] = []
    for strip in group.strips:
        held = strip_columns(graph, group, strip.columns)
        own = held.get(node.output, Span(0, width))
        firsts = [held[name].lo if name in narrow else 0 for name in node.inputs]
        rows.append(Columns.of(own, firsts, own.lo if node.output in narrow else 0))
    return tuple(rows)
