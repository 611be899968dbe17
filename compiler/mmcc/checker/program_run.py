# SPDX-License-Identifier: Apache-2.0
"""What a program's statements do, call after call: C expressions are evaluated, no kernel is run.

Statements become a list of instructions with jumps first: loops are as deep as a group is long, and each call
would go through all of them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
    Counts,
    Following,
    For,
    InChunks,
    MakeRows,
    Moves,
    Start,
    Step,
    Stmt,
    Table,
    Wait,
)

Values = dict[str, int | tuple[int, ...]]
BUILTINS: dict[str, Any] = {"__builtins__": {}, "MIN": min}
UNTIL = "until"  # the parameter of functions


@dataclass(frozen=True, slots=True)
class Made:
    """A call of a node's kernel for some rows of a strip."""

    node: int
    rows: range
    strip: int
    columns: tuple[Columns, ...]
    by_blocks: bool = False
    restores: bool = False  # constants that stay can be found again afterwards
    chunk: int | None = None  # which of several that need not come in this order
    kernel: int = 0  # which of the node's, where chunks have kernels of their own


@dataclass(frozen=True, slots=True)
class Moved:
    """A move is waited for; or, if it `starts`, goes on from now on."""

    move: Constants | BufferMove
    starts: bool


def run_step(step: Step) -> Iterator[Made | Moved]:
    """What happens in one step, in order.

    ValueError, also while it runs, for an expression that no loop of ours has or that has no value, and for a
    function that is called before it is there: none may call itself.
    """
    code, begin = _assembled(step)
    return _run(code, begin)


def run_moves(moves: Moves) -> Iterator[Moved]:
    """What happens between two steps, in order."""
    for statement in moves.body:
        yield from _moved(statement)


def _moved(statement: Start | Wait | Copy) -> Iterator[Moved]:
    if not isinstance(statement, Wait):
        yield Moved(statement.move, starts=True)
    if not isinstance(statement, Start):
        yield Moved(statement.move, starts=False)


# ---- instructions


@dataclass(frozen=True, slots=True)
class _Set:
    """A variable becomes the value of an expression, or a table."""

    var: str
    value: CodeType | tuple[int, ...]


@dataclass(slots=True)
class _Unless:
    """Go to another instruction unless an expression holds."""

    condition: CodeType
    target: int = 0


@dataclass(frozen=True, slots=True)
class _Go:
    """Go to another instruction."""

    target: int


@dataclass(frozen=True, slots=True)
class _Enter:
    """Call the function that begins at an instruction."""

    target: int
    until: CodeType


@dataclass(frozen=True, slots=True)
class _Leave:
    """Go back behind the call."""


@dataclass(frozen=True, slots=True)
class _Happens:
    """Kernels are called, or moves start and end."""

    what: Callable[[Values], Sequence[Made | Moved]]


_Instruction = _Set | _Unless | _Go | _Enter | _Leave | _Happens


def _run(program: Sequence[_Instruction], begin: int) -> Iterator[Made | Moved]:
    values: Values = {}
    back: list[tuple[int, int | tuple[int, ...]]] = []  # where calls go on, and what `until` was there
    at = begin
    while at < len(program):
        instruction = program[at]
        at += 1
        match instruction:
            case _Unless():
                if not _value(instruction.condition, values):
                    at = instruction.target
            case _Happens():
                yield from instruction.what(values)
            case _Set():
                value = instruction.value
                values[instruction.var] = value if isinstance(value, tuple) else _value(value, values)
            case _Go():
                at = instruction.target
            case _Enter():
                until = _value(instruction.until, values)
                back.append((at, values.get(UNTIL, 0)))
                values[UNTIL] = until
                at = instruction.target
            case _Leave():
                at, values[UNTIL] = back.pop()


def _assembled(step: Step) -> tuple[list[_Instruction], int]:
    """The instructions of a step behind those of its functions, and where it begins."""
    code = _Assembly()
    for function in step.functions:
        begin = len(code.program)
        code.add(function.body)
        code.program.append(_Leave())
        code.functions[function.node] = begin
    begin = len(code.program)
    code.add(step.body)
    return code.program, begin


@dataclass(frozen=True, slots=True)
class _Assembly:
    """Statements as instructions."""

    program: list[_Instruction] = field(default_factory=list[_Instruction])
    functions: dict[int, int] = field(default_factory=dict[int, int])  # by node: where they begin

    def add(self, body: Sequence[Stmt]) -> None:
        """Append some statements."""
        for statement in body:
            match statement:
                case Count():
                    self._set(statement.var, "0")
                case Counts():
                    for var in statement.vars:
                        self._set(var, "0")
                case Table():
                    self.program.append(_Set(statement.name, statement.values))
                case Call() | InChunks() | ByBlocks() | Start() | Wait() | Copy():
                    self.program.append(_happening(statement))
                case For():
                    self._loop(statement)
                case Batch():
                    self._batch(statement)
                case MakeRows():
                    if statement.node not in self.functions:
                        raise ValueError(f"no function before makes rows of node {statement.node}")
                    self.program.append(_Enter(self.functions[statement.node], _compiled(statement.until)))
                case Moves() | Step():
                    self.add(statement.body)

    def _set(self, var: str, expression: str) -> None:
        self.program.append(_Set(var, _compiled(expression)))

    def _loop(self, loop: For) -> None:
        if loop.backward:
            self._set(loop.var, f"{loop.extent} - 1")
            self._while(f"-1 < {loop.var}", loop.body, loop.var, f"{loop.var} - 1")
            return
        if loop.fresh:
            self._set(loop.var, "0")
        self._while(f"{loop.var} < ({loop.extent})", loop.body, loop.var, f"{loop.var} + {loop.step}")

    def _while(self, condition: str, body: Sequence[Stmt], var: str, following: str) -> None:
        begin = len(self.program)
        leave = _Unless(_compiled(condition))
        self.program.append(leave)
        self.add(body)
        self._set(var, following)
        self.program.append(_Go(begin))
        leave.target = len(self.program)

    def _batch(self, batch: Batch) -> None:
        end = f"{batch.var}_end"
        self._set(end, batch.until)
        leave = _Unless(_compiled(f"{batch.var} < {end}"))
        self.program.append(leave)
        self.add(batch.body)
        self._set(batch.var, end)
        leave.target = len(self.program)


def _happening(statement: Call | InChunks | ByBlocks | Start | Wait | Copy) -> _Happens:
    match statement:
        case InChunks():
            return _called_in_chunks(statement)
        case Call():
            return _called(statement)
        case ByBlocks():
            return _called_by_blocks(statement)
        case _:
            return _transfer(statement)


def _called(call: Call) -> _Happens:
    begin, end = _compiled(call.begin), _compiled(call.end)

    def made(values: Values) -> Sequence[Made]:
        strip = _number(values, "strip") if len(call.columns) > 1 else 0
        return (Made(call.node, range(_value(begin, values), _value(end, values)), strip, call.columns),)

    return _Happens(made)


def _called_in_chunks(statement: InChunks) -> _Happens:
    call = statement.call
    begin, end = _compiled(call.begin), _compiled(call.end)

    def made(values: Values) -> Sequence[Made]:
        found: list[Made] = []
        for chunk in range(statement.count):
            inside = values | {"chunk": chunk}
            columns = call.columns[chunk : chunk + 1] if len(call.columns) > 1 else call.columns
            rows = range(_value(begin, inside), _value(end, inside))
            kernel = chunk if statement.by_channels else 0
            found.append(Made(call.node, rows, 0, columns, chunk=chunk, kernel=kernel))
        return found

    return _Happens(made)


def _called_by_blocks(statement: ByBlocks) -> _Happens:
    called, taken = _called(statement.call).what, Moved(Constants(statement.call.node), starts=False)

    def made(values: Values) -> Sequence[Made | Moved]:
        (call,) = called(values)
        assert isinstance(call, Made)
        by_blocks = Made(call.node, call.rows, call.strip, call.columns, True, statement.mixed)
        return taken, *_started(statement.following, values), by_blocks

    return _Happens(made)


def _transfer(statement: Start | Wait | Copy) -> _Happens:
    def moved(values: Values) -> Sequence[Moved]:
        following = statement.following if isinstance(statement, Wait) else Following(None)
        return *_moved(statement), *_started(following, values)

    return _Happens(moved)


def _started(following: Following, values: Values) -> Iterator[Moved]:
    again = following.again and _value(_compiled(following.again), values)
    node = following.other if again else following.node
    if node is not None:
        yield Moved(Constants(node), starts=True)


def _number(values: Values, name: str) -> int:
    value = values.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name} is no number there")
    return value


def _value(expression: CodeType, values: Values) -> int:
    try:
        return int(eval(expression, BUILTINS, values))
    except (NameError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"an expression has no value: {error}") from error


@cache
def _compiled(expression: str) -> CodeType:
    """A bound of a loop as Python has it; numbers are never negative where there is a division."""
    if not re.fullmatch(r"[\w\s+*/\-(),<\[\]]+", expression):
        raise ValueError(f"not an expression of a loop: {expression!r}")
    return compile(expression.replace("/", "//"), "<loop>", "eval")
