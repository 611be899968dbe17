# SPDX-License-Identifier: Apache-2.0
"""Weights that init copies to RAM: which nodes' fit into what a limit leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcc.codegen.weights import ALIGN
from mmcc.driver.build import Built, Job, package_of
from mmcc.driver.memories import home_of
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import nest_of
from mmcc.ir.program import ProgramNode
from mmcc.kernels.blocks import constants_of
from mmcc.kernels.loads import about_passes
from mmcc.target import Target

ROUNDS = 3  # times at most that what does not fit after all is made less


@dataclass(frozen=True, slots=True)
class _Constants:
    """Of a node: their bytes, and how often a run reads all of them."""

    entry: str
    node: int
    bytes: int
    passes: float


def copies_weights(job: Job) -> bool:
    """Whether init is to copy weights: as asked; where nothing was said, if a limit may leave room for those
    of the one entry, and the target says what a byte costs more in flash."""
    options, target = job.options, job.target
    if options.weights_in_ram is not None:
        return options.weights_in_ram
    limited = bool(options.ram) and options.weights != "staged" and len(target.memory) == 1
    return limited and target.weights_cost > 0 and len(job.module.entries) == 1


def check_one_memory(target: Target) -> None:
    """CompileError (MM003) where the target has several memories: the planner copies there what pays."""
    if len(target.memory) > 1:
        message = f"{target.name} has several memories: weights are copied to them where that pays"
        raise CompileError("MM003", message, exit=Exit.USAGE, hint="leave out --weights-in-ram")


def with_weights_in_ram(job: Job, built: Built) -> Built:
    """The package with the weights in RAM that are read most often; as it is if there is room for none, with
    a warning where they were asked for."""
    limit = min((size for size in (job.options.ram, home_of(job.target).size) if size), default=0)
    room = limit - built.report["ram"]["total"] if limit else None
    found = built
    for _ in range(ROUNDS):
        chosen = _chosen(built, room)
        if not any(chosen.values()):
            break
        entries = {name: replace(built.plan.entries[name], in_ram=nodes) for name, nodes in chosen.items()}
        found = package_of(job, built, entries)
        over = found.report["ram"]["total"] - limit
        if room is None or over <= 0:
            return found
        room = found.report["ram"]["weights"] - over  # less than these: equal constants are in them once
    bare = built if found is built else package_of(job, built, dict(built.plan.entries))
    least = min((each.bytes for each in _constants(built)), default=0)
    if least and job.options.weights_in_ram:
        left = f"{limit - bare.report['ram']['total']:,} bytes of {limit:,} are left"
        bare.report["warnings"].append(
            f"no weights are in RAM: {left}, and the smallest take {least:,} and some stack"
        )
    return bare


def _bytes(node: ProgramNode) -> int:
    """Of all its constants, each as it is aligned."""
    constants = (constant for _, use in node.uses for constant in constants_of(use))
    return sum(-(-constant.data.nbytes // ALIGN) * ALIGN for constant in constants)


def _constants(built: Built) -> list[_Constants]:
    """Of all nodes of all entries that have any."""
    module = built.planned.module
    found: list[_Constants] = []
    for entry, code in zip(module.entries, built.program.entries, strict=True):
        for node in code.nodes:
            if node.body is not None:  # its kernels look for constants of the body where all are
                continue
            nest = nest_of(entry.graph, entry.graph.nodes[node.index])
            found.append(_Constants(entry.name, node.index, _bytes(node), about_passes(node.use, nest)))
    return [each for each in found if each.bytes]


def _chosen(built: Built, room: int | None) -> Mapping[str, frozenset[int]]:
    """Nodes of each entry, those first whose constants are read most often; of equal ones the larger."""
    chosen: dict[str, set[int]] = {entry.name: set() for entry in built.planned.module.entries}
    for each in sorted(_constants(built), key=lambda c: (-c.passes, -c.bytes, c.entry, c.node)):
        if room is None or each.bytes <= room:
            chosen[each.entry].add(each.node)
            room = None if room is None else room - each.bytes
    return {name: frozenset(nodes) for name, nodes in chosen.items()}
