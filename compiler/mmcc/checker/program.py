# SPDX-License-Identifier: Apache-2.0
"""Check a lowered program against the plan of its module, on every compile; shares no code with lowering."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.entry import check_entry
from mmcc.checker.replay import MOST
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Program
from mmcc.ir.regions import SLOW, Region


def check_program(module: Module, plan: MemoryPlan, program: Program) -> list[str]:
    """Everything in which `program` is not what a sound `plan` says, as sentences; empty if it is."""
    names = [[entry.name for entry in value.entries] for value in (module, program)]
    if names[0] != names[1]:
        return [f"the program has the entries {names[1]}, the module {names[0]}"]
    wrong = list(_states(module, plan, program))
    first = staged = 0
    for entry, code in zip(module.entries, program.entries, strict=True):
        own = plan.entries[entry.name]
        wrong += _too_small(own, program)
        if code.first != first:
            wrong.append(f"nodes of entry {entry.name} are numbered from {code.first} on, not from {first}")
        wrong += check_entry(entry, own, code, staged)
        first += len(entry.graph.nodes)
        staged += own.staged_bytes
    return wrong[:MOST]


def _states(module: Module, plan: MemoryPlan, program: Program) -> Iterator[str]:
    """Initial values must lie where the entries find their states."""
    found = [(state.offset, state.data.tobytes()) for state in program.states]
    wanted = [(plan.states[state.begin], state.initial.tobytes()) for state in module.states]
    if found != wanted:
        yield "states do not begin with their initial values where the plan has them"


def _too_small(plan: Plan, program: Program) -> Iterator[str]:
    stays = plan.stays()
    for buffer in plan.buffers:
        for place in (stay.place for stay in stays[buffer.name]):
            end, region = place.offset + buffer.size, place.region
            if not isinstance(region, Region) or region.write_cost is None:
                continue  # no arena
            if end > (program.slow if region == SLOW else program.regions.get(region, 0)):
                yield f'buffer "{buffer.name}" ends beyond the arena in {region}'
