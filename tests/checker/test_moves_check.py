# SPDX-License-Identifier: Apache-2.0
"""Faults planted into moves between regions: of the plan, of the program, and of the C while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from fused_c import filled, request, run
from mmcc.checker.entry import check_entry
from mmcc.checker.plan import check_plan
from mmcc.checker.replay import Replay
from mmcc.codegen.lower import lower_entry
from mmcc.errors import CompileError
from mmcc.ir.module import RUN, Entry
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Plan, Transfer
from mmcc.ir.program import Copy, EntryCode, Moves, Start, Step, Wait
from mmcc.ir.regions import FILE, SRAM, External, Move, Place, Region
from mmcc.planner.api import best_plan
from mmcc.target import load_target
from moved_plans import SLOW, idle, skipping, spilled

pytestmark = pytest.mark.quick
GRAPH = filled(skipping(), 1)
ENTRY = Entry(RUN, GRAPH)
HOST = load_target("host")
ERROR_MOVE = 8  # MMCC_ERROR_MOVE of mmcc_moves.h


@cache
def layers() -> Plan:
    return best_plan(GRAPH, replace(request(GRAPH), fuse=False))


@cache
def moved_buffer() -> Buffer:
    """The one that is of no use for the most steps, and no port."""
    inside = (b for b in idle(layers()) if b.kind is BufferKind.TENSOR)
    return max(inside, key=lambda b: len(b.live))


@cache
def background() -> Plan:
    """One buffer goes out while two steps run, and comes back while two others do."""
    b = moved_buffer()
    first, last = b.live.lo + 1, b.live.hi - 1
    assert last - first >= 5
    plan = spilled(layers(), b.name, (first, first + 2), (last - 2, last))
    assert check_plan(GRAPH, plan) == []
    return plan


def changed(plan: Plan, number: int, move: Move | None = None, **times: int) -> Plan:
    old = plan.transfers[number]
    new = replace(old, move=move or old.move, **times)
    return replace(plan, transfers=tuple(new if t is old else t for t in plan.transfers))


def with_other(plan: Plan, place: Place, live: Span) -> Plan:
    """The same with the scratch of a kernel, or what stands for it, at a place for some steps."""
    index = plan.groups[live.lo].nodes[0]
    other = Buffer("other", BufferKind.SCRATCH, moved_buffer().size, live, (SRAM, SLOW))
    return replace(
        plan,
        buffers=(*plan.buffers, other),
        places=plan.places | {"other": place},
        scratch={**(plan.scratch or {}), index: "other"},
    )


# ---- the plan


def test_bytes_are_free_once_the_move_away_is_complete() -> None:
    plan = background()
    away = plan.transfers[0]
    assert check_plan(GRAPH, with_other(plan, away.move.source, Span(away.wait, away.wait + 1))) == []


@pytest.mark.parametrize("step", [0, 1])
def test_the_source_is_overwritten_while_the_move_goes_on(step: int) -> None:
    """Which is what a wait too late comes to. The replay finds it without what is known of lives, too."""
    plan = background()
    away = plan.transfers[0]
    at = away.start + step
    wrong = with_other(plan, away.move.source, Span(at, at + 1))
    assert any("live together and share bytes of sram" in text for text in check_plan(GRAPH, wrong))
    assert any("the source of the move" in text and "changes" in text for text in Replay(GRAPH, wrong).run())


@pytest.mark.parametrize("number", [0, 1])
def test_the_target_is_in_use_while_the_move_goes_on(number: int) -> None:
    plan = background()
    transfer = plan.transfers[number]
    wrong = with_other(plan, transfer.move.target, Span(transfer.start, transfer.start + 1))
    assert any("live together and share bytes" in text for text in check_plan(GRAPH, wrong))
    assert any("the target of the move" in text and "written" in text for text in Replay(GRAPH, wrong).run())


def test_the_target_holds_what_is_still_read() -> None:
    """A move to bytes of a tensor that a step within the window reads."""
    plan = background()
    back = plan.transfers[1]
    read = plan.slots[GRAPH.nodes[plan.groups[back.start].nodes[0]].inputs[0]].buffer
    wrong = changed(plan, 1, replace(back.move, target=plan.places[read]))
    assert any("may be overwritten by the move of" in text for text in Replay(GRAPH, wrong).run())


def test_two_moves_at_once_through_the_same_bytes() -> None:
    """Moves that block happen in their order: what comes in first overwrites what has yet to go out."""
    plan, b = layers(), moved_buffer()
    first, last = b.live.lo + 1, b.live.hi - 1
    swapped = spilled(plan, b.name, (first, first), (last, last))
    away, back = swapped.transfers
    other = Buffer("other", BufferKind.TENSOR, b.size, Span(0, len(plan.groups)), (SRAM, SLOW))
    there, far = away.move.source, Place(SLOW, 4096)
    coming = Transfer(Move("other", far, there, False), first, first)
    made = replace(
        swapped,
        buffers=(*swapped.buffers, replace(other, live=Span(0, last))),
        places=swapped.places | {"other": far},
        transfers=(away, coming, back),
    )
    assert check_plan(GRAPH, made) == []
    wrong = check_plan(GRAPH, replace(made, transfers=(coming, away, back)))
    assert any("was never written" in text for text in wrong)


def moves_that_cannot_be() -> Iterator[tuple[Plan, str]]:
    plan, b = background(), moved_buffer()
    away, back = plan.transfers
    psram = Region("psram2", align=64)
    yield changed(plan, 0, replace(away.move, target=Place(psram, 0))), "may not be in psram2"
    yield changed(plan, 0, replace(away.move, target=Place(FILE, 0))), "which is only read"
    yield changed(plan, 0, replace(away.move, source=Place(SRAM, 4096))), "is not from where the buffer is"
    yield changed(plan, 0, replace(away.move, asynchronous=False)), "takes from step"
    yield changed(plan, 0, start=b.live.lo - 1), "but the buffer lives in steps"
    yield changed(plan, 1, wait=b.live.hi + 1), "but the buffer lives in steps"
    yield changed(plan, 1, start=away.start, wait=away.start), "but the buffer is there only before step"
    yield changed(plan, 0, start=away.wait + 1), "but the buffer lives in steps"
    yield changed(plan, 0, replace(away.move, buffer="nobody")), "which does not exist"
    yield replace(plan, transfers=(back, away)), "is not from where the buffer is"
    outside = replace(away.move, target=Place(External("x0"), 0))
    yield changed(plan, 0, outside), "no DMA reaches"
    yield through(plan, Place(replace(SLOW, dma=False), 64)), "no DMA reaches psram"
    yield through(plan, Place(replace(SLOW, size=64 + b.size - 1), 64)), "is outside psram"
    yield through(plan, Place(SLOW, 62)), "not aligned to"
    cached = replace(SLOW, cache_line=64)
    yield through(plan, Place(cached, 32)), "shares lines of 64 bytes"
    state = tuple(replace(x, kind=BufferKind.STATE) if x.name == b.name else x for x in plan.buffers)
    yield replace(plan, buffers=state), "must be where it is"


def through(plan: Plan, there: Place) -> Plan:
    """The same with another place to which the buffer goes out."""
    away, back = (t.move for t in plan.transfers)
    moved = changed(changed(plan, 0, replace(away, target=there)), 1, replace(back, source=there))
    return replace(
        moved,
        buffers=tuple(
            replace(b, regions=(SRAM, there.region)) if b.name == away.buffer else b for b in plan.buffers
        ),
    )


def test_moves_that_cannot_be_are_convicted() -> None:
    for plan, why in moves_that_cannot_be():
        assert any(why in text for text in check_plan(GRAPH, plan)), (why, check_plan(GRAPH, plan))


# ---- the program


def lowered(plan: Plan) -> EntryCode:
    return lower_entry(ENTRY, plan, HOST)


def programs(program: EntryCode) -> Iterator[tuple[str, EntryCode]]:
    """The program with one fault in its moves."""
    for at, part in enumerate(program.body):
        if not isinstance(part, Moves):
            continue
        before, after = program.body[:at], program.body[at + 1 :]
        yield "left out", replace(program, body=(*before, *after))
        if after:
            yield "too late", replace(program, body=(*before, after[0], part, *after[1:]))
        yield "too early", replace(program, body=(*before[:-1], part, before[-1], *after))
        if after and isinstance(after[0], Step):
            inside = replace(after[0], body=(*part.body, *after[0].body))
            yield "inside of a step", replace(program, body=(*before, inside, *after[1:]))
        for k, statement in enumerate(part.body):

            def instead(*new: Start | Wait | Copy, part: Moves = part, at: int = at, k: int = k) -> EntryCode:
                parts = replace(part, body=(*part.body[:k], *new, *part.body[k + 1 :]))
                return replace(program, body=(*program.body[:at], parts, *program.body[at + 1 :]))

            yield "twice", instead(statement, statement)
            move = statement.move
            assert not hasattr(move, "node")
            for changes in (
                {"bytes": move.bytes - 1},
                {"number": 7},
                {"source": replace(move.source, offset=move.source.offset + 1)},
                {"target": replace(move.target, offset=move.target.offset + 1)},
                {"target": replace(move.target, memory="sram" if move.target.memory == "psram" else "psram")},
            ):
                yield str(changes), instead(replace(statement, move=replace(move, **changes)))


def test_faults_in_the_moves_of_a_program_are_convicted() -> None:
    plan = background()
    program = lowered(plan)
    assert check_entry(ENTRY, plan, program) == []
    found = list(programs(program))
    assert len(found) > 30
    for what, wrong in found:
        assert check_entry(ENTRY, plan, wrong), what


def test_moves_before_one_step_keep_their_order() -> None:
    plan, b = layers(), moved_buffer()
    first, last = b.live.lo + 1, b.live.hi - 1
    made = spilled(plan, b.name, (first, last), (last, last))
    program = lowered(made)
    assert check_entry(ENTRY, made, program) == []
    body = tuple(replace(p, body=p.body[::-1]) if isinstance(p, Moves) else p for p in program.body)
    assert any("in another order" in text for text in check_entry(ENTRY, made, replace(program, body=body)))


def test_a_view_of_before_the_move_is_convicted() -> None:
    """The program of the plan without moves finds the buffer where it no longer is."""
    plan = background()
    wrong = check_entry(ENTRY, plan, lowered(layers()))
    assert any("but it is at byte" in text for text in wrong)


# ---- the C


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler")
def test_c_that_overwrites_the_source_of_a_move_fails(tmp_path: Path) -> None:
    """The test bench copies as late as it may, and looks at both ends of the move."""
    plan = background()
    away = plan.transfers[0]
    output = plan.slots[GRAPH.nodes[plan.groups[away.start].nodes[-1]].outputs[0]].buffer
    wrong = replace(plan, places=plan.places | {output: away.move.source})
    assert check_plan(GRAPH, wrong)
    with pytest.raises(CompileError, match=f"returned status {ERROR_MOVE}"):
        run(GRAPH, wrong, tmp_path)
