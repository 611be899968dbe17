# SPDX-License-Identifier: Apache-2.0
"""Check a lowered program against the plan of its module, on every compile; shares no code with lowering."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.entry import check_entry
from mmcc.checker.replay import MOST
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import EntryCode, Program
from mmcc.ir.regions import SLOW, Region
from mmcc.ops.repeat import Repeat


def check_program(module: Module, plan: MemoryPlan, program: Program) -> list[str]:
    """Everything in which `program` is not what a sound `plan` says, as sentences; empty if it is."""
    names = [[entry.name for entry in value.entries] for value in (module, program)]
    if names[0] != names[1]:
        return [f"the program has the entries {names[1]}, the module {names[0]}"]
    wrong = list(_states(module, plan, program))
    first = staged = 0
    bodies = sum(len(entry.graph.nodes) for entry in module.entries)
    for entry, code in zip(module.entries, program.entries, strict=True):
        own = plan.entries[entry.name]
        wrong += _too_small(own, program)
        if code.first != first:
            wrong.append(f"nodes of entry {entry.name} are numbered from {code.first} on, not from {first}")
        wrong += check_entry(entry, own, code, staged)
        wrong += _numbered(entry.graph, code, bodies)
        bodies += sum(node.op.nodes for node in entry.graph.nodes if isinstance(node.op, Repeat))
        first += len(entry.graph.nodes)
        staged += own.staged_bytes
    return wrong[:MOST]


def _numbered(graph: Graph, code: EntryCode, first: int) -> Iterator[str]:
    """Nodes of bodies are numbered one body behind the other, those within a body behind its own."""
    if code.bodies != first:
        yield f"nodes of bodies in {code.name} are numbered from {code.bodies} on, not from {first}"
    found = {node.index: node.body for node in code.nodes}
    for index, node in enumerate(graph.nodes):
        body = found.get(index)
        if not isinstance(node.op, Repeat) or body is None:
            continue
        if body.first != first:
            yield f"nodes of the body of node {index} are numbered from {body.first} on, not from {first}"
        yield from _numbered(node.op.body, body, first + len(node.op.body.nodes))
        first += node.op.nodes


def _states(module: Module, plan: MemoryPlan, program: Program) -> Iterator[str]:
    """Initial values must lie where the entries find their states."""
    found = [(state.memory, state.offset, state.data.tobytes()) for state in program.states]
    places = [plan.states[state.begin] for state in module.states]
    wanted = [
        (str(place.region), place.offset, state.initial.tobytes())
        for place, state in zip(places, module.states, strict=True)
    ]
    if found != wanted:
        yield "states do not begin with their initial values where the plan has them"
    memory = next((str(plan.states[name].region) for name in module.parameters), None)
    if program.saved is not None and program.saved.memory != memory:
        yield f"parameters are saved from {program.saved.memory}, but lie in {memory}"


def _too_small(plan: Plan, program: Program) -> Iterator[str]:
    stays = plan.stays()
    for buffer in plan.buffers:
        for place in (stay.place for stay in stays[buffer.name]):
            end, region = place.offset + buffer.size, place.region
            if not isinstance(region, Region) or region.write_cost is None:
                continue  # no arena
            if end > (program.slow if region == SLOW else program.regions.get(region, 0)):
                yield f'buffer "{buffer.name}" ends beyond the arena in {region}'
