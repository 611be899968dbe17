# SPDX-License-Identifier: Apache-2.0
"""Can the transfers of a plan happen at all? What they do to memory is replayed (`checker/replay.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.ir.plan import Buffer, BufferKind, Plan, Transfer
from mmcc.ir.regions import External, Move, Region


def check_transfers(plan: Plan) -> Iterator[str]:
    """Moves of what is not there, from or to where they cannot go, or at no time that there is."""
    buffers = {b.name: b for b in plan.buffers}
    for k, transfer in enumerate(plan.transfers):
        move = transfer.move
        if move.buffer not in buffers:
            yield f'a move is of buffer "{move.buffer}", which does not exist'
            continue
        earlier = [t for t in plan.transfers[:k] if t.move.buffer == move.buffer]
        yield from _impossible(plan, buffers[move.buffer], transfer, earlier)
        yield from _unreachable(move)
        yield from _shared_lines(move, buffers[move.buffer].size)
    started = [transfer.start for transfer in plan.transfers]
    if started != sorted(started):
        yield f"moves are not in the order in which they start: before steps {started}"


def _impossible(plan: Plan, buffer: Buffer, transfer: Transfer, earlier: list[Transfer]) -> Iterator[str]:
    """A buffer is moved from where it is, while it lives."""
    move, here = transfer.move, f"the move of {transfer.move}"
    source = earlier[-1].move.target if earlier else plan.places[buffer.name]
    if move.source != source:
        yield f"{here}, is not from where the buffer is, {source}"
    if earlier and transfer.start < earlier[-1].wait:
        there = f"the buffer is there only before step {earlier[-1].wait}"
        yield f"{here}, starts before step {transfer.start}, but {there}"
    if not buffer.live.lo <= transfer.start <= transfer.wait <= min(buffer.live.hi, len(plan.groups)):
        when = f"from step {transfer.start} to {transfer.wait}"
        yield f"{here}, is {when}, but the buffer lives in steps [{buffer.live.lo}, {buffer.live.hi})"
    if not move.asynchronous and transfer.start != transfer.wait:
        yield f"{here}, takes from step {transfer.start} to {transfer.wait}"
    if move.target.region not in buffer.regions:
        yield f'buffer "{buffer.name}" may not be in {move.target.region}'
    if buffer.kind in (BufferKind.STATE, BufferKind.STAGED):
        yield f'buffer "{buffer.name}" is moved, but must be where it is: it holds {buffer.kind.value}'


def _unreachable(move: Move) -> Iterator[str]:
    """Regions that are only read, or that no transfer in the background reaches."""
    target = move.target.region
    if isinstance(target, Region) and target.write_cost is None:
        yield f"the move of {move}, writes to {target}, which is only read"
    for region in (move.source.region, target):
        if move.asynchronous and (isinstance(region, External) or not region.dma):
            yield f"the move of {move}, goes on while the model computes, but no DMA reaches {region}"


def _shared_lines(move: Move, size: int) -> Iterator[str]:
    """Ends of a move in the background that share lines of a cache with what the processor may change."""
    for place in (move.source, move.target) if move.asynchronous else ():
        line = place.region.cache_line if isinstance(place.region, Region) else 0
        if line and (place.offset % line or size % line):
            yield f"the move of {move}, of {size} bytes, shares lines of {line} bytes with others"
