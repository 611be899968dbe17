# SPDX-License-Identifier: Apache-2.0
"""States in the plan: memory of their own, in which the new value is written over the old one.

Within a graph both are tensors outside the arena. What keeps the old value whole until all have read it is an
order: every kernel that reads it comes before those that write the new one, and in another group. The one
exception is a kernel that reads and writes both element by element. `separate_states` (a pass) has made all
graphs so that there is such an order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Overlap, Place, Plan
from mmcc.ir.regions import STATE, Region
from mmcc.ir.state import State

ALIGN = 4  # of every state; elements larger than this align to themselves


def state_align(state: State, align: int) -> int:
    """What a state is aligned to, in bytes; `align` is that of all buffers (`PlanRequest.align`)."""
    return max(ALIGN, align, state.initial.dtype.itemsize)


def state_places(
    states: Sequence[State],
    align: int,
    homes: Mapping[str, Region] | None = None,
    first: Collection[str] = (),
) -> dict[str, Place]:
    """Where each state is, by the name of its `begin`: in each memory one behind the other.

    Those that align to more come before others, so that there are no gaps; `first`, which are saved as one
    piece, before all. `homes` has the memory of each, by `begin`; without, that of all is `STATE`. `align` as
    in `state_align`.
    """
    found: dict[str, Place] = {}
    ends: dict[Region, int] = {}
    for state in sorted(states, key=lambda state: (state.begin not in first, -state_align(state, align))):
        home, own = homes[state.begin] if homes else STATE, state_align(state, align)
        at = -(-ends.get(home, 0) // own) * own
        found[state.begin] = Place(home, at)
        ends[home] = at + state.initial.nbytes
    return found


def state_bytes(states: Sequence[State], places: Mapping[str, Place]) -> dict[Region, int]:
    """Bytes of each memory for states that has some."""
    found: dict[Region, int] = {}
    for state in states:
        place = places[state.begin]
        assert isinstance(place.region, Region), "no arena has the caller's memory"
        found[place.region] = max(found.get(place.region, 0), place.offset + state.initial.nbytes)
    return found


def kept_bytes(states: Sequence[State], align: int) -> int:
    """Bytes of all states in one memory; `align` as in `state_align`."""
    return sum(state_bytes(states, state_places(states, align)).values())


def place_states(graph: Graph, plan: Plan, states: Mapping[str, Place]) -> Plan:
    """The plan with its states where they are, by `begin`; they live as long as their values are needed."""
    if not graph.states:
        return plan
    where = _Where(graph, plan)
    buffers, places, overlaps = {b.name: b for b in plan.buffers}, dict(plan.places), list(plan.overlaps)
    end = max(1, len(plan.groups))
    for state in graph.states:
        place = states[state.begin]
        old, new = (plan.slots[name].buffer for name in (state.begin, state.end))
        places |= dict.fromkeys((old, new), place)
        if old == new:
            buffers[old] = _state(buffers[old], place, Span(0, end))
            continue
        read, written = where.last_read(old), where.first_written(new)
        buffers[old] = _state(buffers[old], place, Span(0, read + 1))
        buffers[new] = _state(buffers[new], place, Span(written, end))
        if read >= written:
            overlaps.append(Overlap(written, new, old, 0))
    ordered = tuple(buffers[b.name] for b in plan.buffers)
    return replace(plan, buffers=ordered, places=places, overlaps=tuple(overlaps))


def _state(buffer: Buffer, place: Place, live: Span) -> Buffer:
    return replace(buffer, kind=BufferKind.STATE, live=live, regions=(place.region,))


@dataclass(frozen=True, slots=True)
class _Where:
    """Steps at which the tensors of a buffer are read and written."""

    graph: Graph
    plan: Plan

    def last_read(self, buffer: str) -> int:
        """-1 if no node reads from it."""
        steps = [step for step, name in self._uses(reads=True) if self.plan.slots[name].buffer == buffer]
        return max(steps, default=-1)

    def first_written(self, buffer: str) -> int:
        return min(step for step, name in self._uses(reads=False) if self.plan.slots[name].buffer == buffer)

    def _uses(self, *, reads: bool) -> list[tuple[int, str]]:
        graph, plan = self.graph, self.plan
        return [
            (step, name)
            for step, group in enumerate(plan.groups)
            for index in group.nodes
            for node in (graph.nodes[index],)
            for name in (graph.activations(node) if reads else node.outputs)
        ]
