# SPDX-License-Identifier: Apache-2.0
"""The plans of a module's entries together: each is sound, and none touches states that it does not have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from mmcc.checker.plan import check_plan
from mmcc.checker.replay import MOST
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.regions import External, Region


def check_memory_plan(module: Module, plan: MemoryPlan) -> list[str]:
    """Everything wrong with the plan of a module, as sentences; empty when it is sound."""
    wrong = [*_crowded(module, plan), *_in_the_way(module, plan)]
    for entry in module.entries:
        own = plan.entries[entry.name]
        faults = check_plan(entry.graph, own) or _strayed(entry.graph, own, plan)
        wrong += [f"entry {entry.name}: {text}" for text in faults] if len(module.entries) > 1 else faults
    return wrong[:MOST]


def _crowded(module: Module, plan: MemoryPlan) -> Iterator[str]:
    """States that share bytes or leave their memory, and memories larger than what they are part of."""
    ends: dict[Region | External, tuple[int, str]] = {}
    for state in sorted(module.states, key=lambda state: plan.states[state.begin].offset):
        name, place = state.begin, plan.states[state.begin]
        end, last = ends.get(place.region, (0, ""))
        if place.offset < end:
            yield f'states "{last}" and "{name}" share bytes'
        end = place.offset + state.initial.nbytes
        most = plan.state_bytes.get(place.region, 0) if isinstance(place.region, Region) else 0
        if end > most:
            yield f'state "{name}" ends at byte {end} of {most}'
        if not isinstance(place.region, Region) or not place.region.keeps:
            yield f'state "{name}" is in {place.region}, where nothing lives from run to run'
        ends[place.region] = end, name
    sizes = plan.regions()
    arenas = {region.name: size for region, size in sizes.items() if not region.keeps}
    for memory in plan.state_bytes:
        arena = arenas.get(memory.states_of or "", 0)
        if memory.size is not None and arena + sizes[memory] > memory.size:
            taken = f"states take {sizes[memory]} bytes of {memory.states_of}, and the arena {arena}"
            yield f"{taken}: more than {memory.size}"


def _in_the_way(module: Module, plan: MemoryPlan) -> Iterator[str]:
    """Buffers of entries that may run at the same time, and share bytes: both may be in use at any time."""
    for one, other in itertools.combinations([entry.name for entry in module.entries], 2):
        if not module.may_meet(one, other):
            continue
        for mine, theirs in itertools.product(_taken(plan.entries[one]), _taken(plan.entries[other])):
            if mine[1] == theirs[1] and mine[2] < theirs[3] and theirs[2] < mine[3]:
                yield f'buffer "{mine[0]}" of {one} and "{theirs[0]}" of {other} share bytes of {mine[1]}'


def _taken(plan: Plan) -> list[tuple[str, Region, int, int]]:
    """Each buffer in an arena, one place after the other: where it begins and ends."""
    stays = plan.stays()
    return [
        (b.name, stay.place.region, stay.place.offset, stay.place.offset + b.size)
        for b in plan.buffers
        for stay in stays[b.name]
        if isinstance(stay.place.region, Region) and stay.place.region.write_cost is not None and b.size
    ]


def _strayed(graph: Graph, plan: Plan, whole: MemoryPlan) -> list[str]:
    """States that are not where all entries have them, and other buffers among the states."""
    wrong: list[str] = []
    for state in graph.states:
        slot = plan.slots[state.begin]
        place = plan.places[slot.buffer]
        if replace(place, offset=place.offset + slot.offset) != whole.states[state.begin]:
            wrong.append(f'state "{state.begin}" is not where the other entries have it')
    mine = {plan.slots[name].buffer for state in graph.states for name in (state.begin, state.end)}
    wrong += [
        f'buffer "{b.name}" lies among the states, but is none'
        for b in plan.buffers
        if isinstance(region := plan.places[b.name].region, Region) and region.keeps and b.name not in mine
    ]
    return wrong
