# SPDX-License-Identifier: Apache-2.0
"""A plan with staged weights for the kernels of another target than it was made for."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import BLOCK_ALIGN, Blocks, Buffer, BufferKind, Place, Plan, Staged, aligned
from mmcc.ir.regions import External, Region
from mmcc.kernels.blocks import block_uses, blocks_to_pack, pack_block
from mmcc.kernels.tilings import planning_site, whole_size
from mmcc.target import Target

SLICE = "slice"  # the memory in which the output channels of the block at hand begin


def staged_for(graph: Graph, plan: Plan, target: Target) -> Plan:
    """A plan for kernels of another target, which pack constants in other ways, or have others.

    Groups, loops, iterations, blocks by their channels, what stays, and where tensors are do not change.
    Places that are too small for these kernels' blocks move above all others, each to bytes of its own. So do
    constants that only these kernels have, to the memory of all constants of their group; a node that had
    none is then made in one call, not in chunks.
    """
    plan = _unlimited(plan)
    some = next(plan.places[name].region for s in plan.staged.values() for name in s.buffers)
    assert isinstance(some, Region)
    ends, buffers, places = plan.regions(), {b.name: b for b in plan.buffers}, dict(plan.places)
    staged: dict[int, Staged] = {}
    for step, group in enumerate(plan.groups):
        others = (plan.staged[index].buffers[0] for index in group.nodes if index in plan.staged)
        here = next((plan.places[name].region for name in others), some)
        for index in group.nodes:
            known = plan.staged.get(index)
            blocks = _blocks_for(graph, index, target, known)
            if blocks is None:
                continue
            names = known.buffers if known is not None else (f"own{index}",)
            staged[index] = Staged(blocks, names)
            for name in names:
                new = Buffer(name, BufferKind.STAGED, 0, Span(step, step + 1), (here,), BLOCK_ALIGN)
                buffer, size = buffers.get(name, new), aligned(blocks.bytes)
                if buffer.size < size:
                    region = places[name].region if name in places else here
                    assert isinstance(region, Region)
                    at = aligned(ends[region])
                    buffers[name], places[name] = replace(buffer, size=size), Place(region, at)
                    ends[region] = at + size
    chunks = {index: each for index, each in plan.chunks.items() if index not in staged}
    return replace(plan, buffers=tuple(buffers.values()), places=places, staged=staged, chunks=chunks)


def _unlimited(plan: Plan) -> Plan:
    """The plan in regions that have as many bytes as it takes: another target's constants may need more."""

    def free(region: Region | External) -> Region | External:
        return replace(region, size=None) if isinstance(region, Region) else region

    def at(place: Place) -> Place:
        return replace(place, region=free(place.region))

    moves = [replace(t.move, source=at(t.move.source), target=at(t.move.target)) for t in plan.transfers]
    return replace(
        plan,
        places={name: at(place) for name, place in plan.places.items()},
        buffers=tuple(replace(b, regions=tuple(map(free, b.regions))) for b in plan.buffers),
        transfers=tuple(replace(t, move=move) for t, move in zip(plan.transfers, moves, strict=True)),
    )


def _blocks_for(graph: Graph, index: int, target: Target, known: Staged | None) -> Blocks | None:
    """A node's constants cut as another target's are; None if neither kernel has any."""
    site = planning_site(graph, index, target)
    if known is not None and known.blocks.count > 1:
        channels = known.blocks.channels
        uses = block_uses(graph, index, site, channels, blocks_to_pack(graph, index, channels))
        sizes = [pack_block(use).size for use in uses]
        return Blocks(channels, known.blocks.count, max(sizes), sizes[-1])
    size = whole_size(graph, index, target)
    if known is not None:
        return replace(known.blocks, bytes=size, last=size) if size else known.blocks
    shape = graph.tensors[graph.nodes[index].outputs[0]].shape
    return Blocks(shape[-1] if shape else 1, 1, size, size) if size else None
