# SPDX-License-Identifier: Apache-2.0
"""What a program's statements do, call after call: C expressions are evaluated, no kernel is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from mmcc.ir.program import (
    Batch,
    BufferMove,
    ByBlocks,
    Call,
    Columns,
    Constants,
    Copy,
    Count,
    Following,
    For,
    Moves,
    Start,
    Step,
    Stmt,
    Table,
    Wait,
)

Values = dict[str, int | tuple[int, ...]]
BUILTINS: dict[str, Any] = {"__builtins__": {}, "MIN": min}


@dataclass(frozen=True, slots=True)
class Made:
    """A call of a node's kernel for some rows of a strip."""

    node: int
    rows: range
    strip: int
    columns: tuple[Columns, ...]
    by_blocks: bool = False
    restores: bool = False  # constants that stay can be found again afterwards


@dataclass(frozen=True, slots=True)
class Moved:
    """A move is waited for; or, if it `starts`, goes on from now on."""

    move: Constants | BufferMove
    starts: bool


def run_step(step: Step) -> Iterator[Made | Moved]:
    """What happens in one step, in order. ValueError for an expression that no loop of ours has."""
    yield from _run(step.body, {})


def run_moves(moves: Moves) -> Iterator[Moved]:
    """What happens between two steps, in order."""
    for statement in moves.body:
        yield from _moved(statement)


def _moved(statement: Start | Wait | Copy) -> Iterator[Moved]:
    if not isinstance(statement, Wait):
        yield Moved(statement.move, starts=True)
    if not isinstance(statement, Start):
        yield Moved(statement.move, starts=False)


def _run(body: tuple[Stmt, ...], values: Values) -> Iterator[Made | Moved]:
    for statement in body:
        match statement:
            case Count():
                values[statement.var] = 0
            case Table():
                values[statement.name] = statement.values
            case Call():
                yield _made(statement, values)
            case For():
                yield from _loop(statement, values)
            case Batch():
                end = _value(statement.until, values)
                values[f"{statement.var}_end"] = end
                if _number(values, statement.var) < end:
                    yield from _run(statement.body, values)
                    values[statement.var] = end
            case Start() | Wait() | Copy():
                yield from _moved(statement)
                if isinstance(statement, Wait):
                    yield from _started(statement.following, values)
            case ByBlocks():
                yield Moved(Constants(statement.call.node), starts=False)
                yield from _started(statement.following, values)
                call = _made(statement.call, values)
                yield Made(call.node, call.rows, call.strip, call.columns, True, statement.mixed)
            case Moves():
                yield from run_moves(statement)
            case Step():
                yield from _run(statement.body, values)


def _loop(loop: For, values: Values) -> Iterator[Made | Moved]:
    if loop.backward:
        for value in reversed(range(_value(loop.extent, values))):
            values[loop.var] = value
            yield from _run(loop.body, values)
        return
    if loop.fresh:
        values[loop.var] = 0
    while _number(values, loop.var) < _value(loop.extent, values):
        yield from _run(loop.body, values)
        values[loop.var] = _number(values, loop.var) + loop.step


def _started(following: Following, values: Values) -> Iterator[Moved]:
    node = following.other if following.again and _value(following.again, values) else following.node
    if node is not None:
        yield Moved(Constants(node), starts=True)


def _made(call: Call, values: Values) -> Made:
    strip = _number(values, "strip") if len(call.columns) > 1 else 0
    return Made(call.node, range(_value(call.begin, values), _value(call.end, values)), strip, call.columns)


def _number(values: Values, name: str) -> int:
    value = values[name]
    assert isinstance(value, int), name
    return value


def _value(expression: str, values: Values) -> int:
    return int(eval(_compiled(expression), BUILTINS, values))


@cache
def _compiled(expression: str) -> CodeType:
    """A bound of a loop as Python has it; numbers are never negative where there is a division."""
    if not re.fullmatch(r"[\w\s+*/\-(),<\[\]]+", expression):
        raise ValueError(f"not an expression of a loop: {expression!r}")
    return compile(expression.replace("/", "//"), "<loop>", "eval")
