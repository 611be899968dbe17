# SPDX-License-Identifier: Apache-2.0
"""A board for the cycle model: its core, its clock, what its flash costs, and what others published for it.

One TOML file each, in `boards/` or the user's own; this is the only code that reads them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.resources import data_dir
from mmcc.target import Target, Window

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cache:
    """What is between the core and the flash: `sets` x `ways` lines of `line` bytes, and cycles of a miss.

    `sets` 0 of the cache for data: it is the one for instructions. `in_a_row` are the cycles of a miss of the
    line behind the last one, which a prefetch may have begun to read.
    """

    sets: int
    ways: int
    line: int
    miss: float
    in_a_row: float
    source: str


@dataclass(frozen=True, slots=True)
class Published:
    """Millions of cycles an inference, of the networks of MLPerf Tiny; 0: not published."""

    software: str
    kws: float = 0.0
    resnet8: float = 0.0
    vww: float = 0.0
    ad: float = 0.0


@dataclass(frozen=True, slots=True)
class BoardModel:
    """All that the cycle model knows of a board."""

    name: str
    description: str
    core: str  # as in -mcpu=
    clock_mhz: float
    source: str
    error: str  # what the model was held to for it
    code: Cache
    data: Cache
    memory: Mapping[str, Window]
    published: tuple[Published, ...]
    chip: str = ""  # its name in the table of chips

    def runs(self, target: Target) -> bool:
        """True if code for the target is code for the board's core."""
        return f"-mcpu={self.core}" in target.flags


def list_boards() -> tuple[str, ...]:
    """Names of the boards that come with the compiler."""
    return tuple(sorted(path.stem for path in data_dir("boards").glob("*.toml")))


def load_board(name_or_path: str) -> BoardModel:
    """Read a board by name, or a user's own TOML file by path. What is wrong in it is a user error."""
    named = "/" not in name_or_path and not name_or_path.endswith(".toml")
    path = data_dir("boards") / f"{name_or_path}.toml" if named else Path(name_or_path)
    if not path.is_file():
        what = f'no board "{name_or_path}"' if named else f"there is no file {name_or_path}"
        hint = f"{did_you_mean(path.stem, list_boards())}one of: {', '.join(list_boards())}"
        raise CompileError("MM001", what, exit=Exit.USAGE, hint=hint)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path.name, str(error)) from error
    parts: dict[str, Any] = {
        "code": _record(Cache, table.get("code"), f"{path.name}, code"),
        "data": _record(Cache, table.get("data"), f"{path.name}, data"),
        "memory": {
            name: _record(Window, value, f"{path.name}, memory, {name}")
            for name, value in table.get("memory", {}).items()
        },
        "published": tuple(
            _record(Published, row, f"{path.name}, published") for row in table.get("published", ())
        ),
    }
    board = _record(BoardModel, {"name": path.stem} | table | parts, path.name)
    _check(board, path.name)
    return board


def board_of(target: Target) -> BoardModel:
    """The first board with the target's core; a user error if there is none."""
    for board in map(load_board, list_boards()):
        if board.runs(target):
            return board
    cores = ", ".join(sorted({load_board(name).core for name in list_boards()}))
    raise CompileError(
        "MM002",
        f"no board has the core of target {target.name}",
        exit=Exit.USAGE,
        hint=f"--board FILE.toml with a board of your own; cycles are modelled for {cores}",
    )


def _record(kind: type[_T], value: Any, where: str) -> _T:
    """`value`, a TOML table, as a `kind`; numbers are not negative."""
    if not isinstance(value, dict):
        raise _wrong(where, "must be a table")
    table: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    known = {f.name: f for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    for key, given in table.items():
        if key not in known:
            raise _wrong(
                where, f'unknown key "{key}"', f"{did_you_mean(key, known)}known: {', '.join(known)}"
            )
        if known[key].type == "float" and type(given) is int:
            table[key] = given = float(given)
        if known[key].type in ("int", "float", "str") and type(given).__name__ != known[key].type:
            raise _wrong(where, f'"{key}" must be of type {known[key].type}, not {type(given).__name__}')
        if isinstance(given, (int, float)) and given < 0:
            raise _wrong(where, f'"{key}" must not be negative: {given}')
    for key, f in known.items():
        if key not in table and f.default is MISSING:
            raise _wrong(where, f'"{key}" is missing')
    return kind(**table)


MOST_LINES = 4096  # as in mmcount.c


def _check(board: BoardModel, where: str) -> None:
    """What the types of the keys do not say."""
    for name, cache in (("code", board.code), ("data", board.data)):
        shared = name == "data" and cache.sets == 0
        if not shared and not 0 < cache.sets * cache.ways <= MOST_LINES:
            raise _wrong(f"{where}, {name}", f"sets * ways must be 1 to {MOST_LINES}")
        if cache.line == 0 or cache.line & (cache.line - 1):
            raise _wrong(f"{where}, {name}", "line must be a power of two")
    if board.clock_mhz == 0:
        raise _wrong(where, "clock_mhz must be positive")


def _wrong(where: str, what: str, hint: str = "") -> CompileError:
    return CompileError("MM002", f"board {where}: {what}", exit=Exit.USAGE, hint=hint)
