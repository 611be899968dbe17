# SPDX-License-Identifier: Apache-2.0
"""Moves of buffers between regions, as statements between the steps of a program."""

from __future__ import annotations

from mmcc.codegen.places import address_of
from mmcc.ir.module import Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import BufferMove, Copy, Moves, Start, Wait
from mmcc.ir.regions import Place, Region


def buffer_moves(entry: Entry, plan: Plan) -> tuple[BufferMove, ...]:
    """The moves of a plan's transfers, in their order; those that are asynchronous are numbered."""
    size = {b.name: b.size for b in plan.buffers}
    found: list[BufferMove] = []
    numbers = 0
    for transfer in plan.transfers:
        move = transfer.move
        number = numbers if move.asynchronous else None
        numbers += move.asynchronous
        source, target = (address_of(entry.graph, end, entry.name) for end in (move.source, move.target))
        cleans, invalidates = (move.asynchronous and _cached(end) for end in (move.source, move.target))
        found.append(BufferMove(move.buffer, source, target, size[move.buffer], number, cleans, invalidates))
    return tuple(found)


def _cached(place: Place) -> bool:
    """True if a data cache is between a place and the processor."""
    return isinstance(place.region, Region) and place.region.cache_line > 0


def moves_before(plan: Plan, moves: tuple[BufferMove, ...], step: int) -> tuple[Moves, ...]:
    """What happens before a step: what was started earlier is waited for, then the others in their order."""
    timed = list(zip(plan.transfers, moves, strict=True))
    body: list[Start | Wait | Copy] = [Wait(move) for t, move in timed if t.start < t.wait == step]
    for transfer, move in timed:
        if transfer.start != step:
            continue
        if move.number is None:
            body.append(Copy(move))
        else:
            body.append(Start(move))
            body += [Wait(move)] if transfer.wait == step else []
    return (Moves(step, tuple(body)),) if body else ()
