# SPDX-License-Identifier: Apache-2.0
"""Are a program's moves of buffers the plan's: from where to where, started when, and waited for when?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmcc.checker.program_run import run_moves
from mmcc.ir.module import Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import Address, BufferMove, EntryCode, Moves
from mmcc.ir.regions import External, Place, Region

Happening = tuple[int, bool]  # number of a transfer, and whether it starts


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the program does to a move, behind the step `after` and before the step `before`."""

    move: BufferMove
    starts: bool
    after: int
    before: int


def check_moves(entry: Entry, plan: Plan, program: EntryCode) -> Iterator[str]:
    """Everything in which the moves of `program` are not the transfers of a sound `plan`."""
    seen = list(_seen(plan, program))
    known = [_wanted(entry, plan, number) for number in range(len(plan.transfers))]
    for happens in seen:
        if happens.move not in known:
            yield f"{_text(happens.move)} is no transfer of the plan"
    wrong = False
    for number, transfer in enumerate(plan.transfers):
        for starts, step in ((True, transfer.start), (False, transfer.wait)):
            what = "started" if starts else "complete"
            found = [h for h in seen if h.move == known[number] and h.starts == starts]
            if len(found) != 1:
                yield f"{_text(known[number])} is {what} {len(found)} times, not once before step {step}"
            elif not found[0].after < step <= found[0].before:
                where = f"behind step {found[0].after} and before step {found[0].before}"
                yield f"{_text(known[number])} is {what} {where}, not before step {step}"
            else:
                continue
            wrong = True
    if not wrong and [(known.index(h.move), h.starts) for h in seen if h.move in known] != list(_order(plan)):
        yield "moves that happen between the same two steps do so in another order than the plan's"


def _seen(plan: Plan, program: EntryCode) -> Iterator[_Seen]:
    """All that happens to moves, in order, between the steps that are there."""
    after = -1
    for k, part in enumerate(program.body):
        if not isinstance(part, Moves):
            after = part.group
            continue
        later = (other.group for other in program.body[k:] if not isinstance(other, Moves))
        before = next(later, len(plan.groups))
        for happens in run_moves(part):
            assert isinstance(happens.move, BufferMove)
            yield _Seen(happens.move, happens.starts, after, before)


def _order(plan: Plan) -> Iterator[Happening]:
    """Starts and waits as the plan was replayed: before a step, what goes on is waited for first."""
    for step in range(len(plan.groups) + 1):
        timed = list(enumerate(plan.transfers))
        yield from ((k, False) for k, t in timed if t.wait == step and t.start < step)
        for k, transfer in timed:
            if transfer.start == step:
                yield (k, True)
                if transfer.wait == step:
                    yield (k, False)


def _wanted(entry: Entry, plan: Plan, number: int) -> BufferMove:
    move = plan.transfers[number].move
    size = next(b.size for b in plan.buffers if b.name == move.buffer)
    before = sum(t.move.asynchronous for t in plan.transfers[:number])
    source, target = (
        Address(memory_name(entry, place), place.offset) for place in (move.source, move.target)
    )
    own = before if move.asynchronous else None
    cached = [isinstance(r, Region) and r.cache_line > 0 for r in (move.source.region, move.target.region)]
    cleans, invalidates = (move.asynchronous and each for each in cached)
    return BufferMove(move.buffer, source, target, size, own, cleans, invalidates)


def _text(move: BufferMove) -> str:
    numbered = "" if move.number is None else f" {move.number}"
    source, target = (f"byte {end.offset} of {end.memory}" for end in (move.source, move.target))
    return f'move{numbered} of {move.bytes} bytes of "{move.buffer}" from {source} to {target}'


def memory_name(entry: Entry, place: Place) -> str:
    """The region by its name; the caller's memory by the port, and by the entry unless that is "run"."""
    graph, own = entry.graph, "" if entry.name == "run" else f"{entry.name}_"
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            if External(port.tensor) == place.region:
                return f"{own}{kind}_{index}"
    return place.region.name if isinstance(place.region, Region) else str(place.region)
