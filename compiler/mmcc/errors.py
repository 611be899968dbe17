# SPDX-License-Identifier: Apache-2.0
"""The one exception type of the compiler, where in the model an error is, and the exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from enum import IntEnum
from functools import partial
from typing import Any

NAME_COLUMNS = 60  # of a name from a model, in a table
LONGEST_WARNING = 500
# bytes of what an error says: a file may hold names, lists and numbers of any length
LONGEST_MESSAGE, LONGEST_HINT, LONGEST_ERROR = 1800, 750, 3600
MOST_LINES = 30  # of a message or a hint
LONGEST_NAME = 500  # characters of a name from the model, where programs read it


class Exit(IntEnum):
    """Exit codes of the command line; part of the interface."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_MODEL = 3
    UNSUPPORTED = 4
    DOES_NOT_FIT = 5
    NO_PLAN = 6
    MISMATCH = 7
    TOOL_MISSING = 8


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the user's model. ONNX has no line numbers: a node index and name stand in."""

    model: str
    node: int
    op: str
    name: str

    def __str__(self) -> str:
        name = f' "{printable(self.name, 80)}"' if self.name else ""
        return f"{printable(self.model)}, node {self.node} ({printable(self.op, NAME_COLUMNS)}){name}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; names longer than any tool writes are cut."""
        texts = {key: getattr(self, key)[:LONGEST_NAME] for key in ("model", "op", "name")}
        return asdict(self) | texts


class CompileError(Exception):
    """The model cannot be compiled as asked. Always the user's to act on, never a bug of ours.

    `code` names the kind of error (docs/errors.md lists them), `exit` is the process exit code. Message and
    hint may have several lines. Whatever they quote from a file, they are printable and the whole text is
    below 4 KB: this is the one place that sees to it.

    A hint that takes work to find is a function, which is called once, when somebody asks: who tries many
    limits does not.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit: Exit,
        at: tuple[Where, ...] = (),
        hint: str | Callable[[], str] = "",
    ) -> None:
        self.code, self.exit, self.at = code, exit, at
        self.message, self._hint = bounded(message, LONGEST_MESSAGE), hint
        super().__init__(self.message)

    @property
    def hint(self) -> str:
        """What to try instead."""
        if not isinstance(self._hint, str):
            self._hint = self._hint()
        return bounded(self._hint, LONGEST_HINT)

    def __str__(self) -> str:
        head = f"error[{self.code}]: {indented(self.message, 4)}"
        tail = f"\n  = try: {indented(self.hint, 9)}" if self.hint else ""
        return head + _places(self.at, LONGEST_ERROR - len((head + tail).encode())) + tail

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, since errors come back from other processes: an exception's own form calls the class
        with its text alone."""
        made = partial(type(self), self.code, self.message, exit=self.exit, at=self.at, hint=self.hint)
        return made, (), {key: value for key, value in self.__dict__.items() if key != "_hint"}

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `--json` prints on standard output instead of a result."""
        where = [place.to_json() for place in self.at]
        found = {"code": self.code, "exit": int(self.exit), "message": self.message, "where": where}
        return {"error": {**found, "try": self.hint}}


def _places(at: tuple[Where, ...], room: int) -> str:
    """A line for each place in the model, as far as there is room, in bytes."""
    lines: list[str] = []
    for where in at:
        lines.append(f"\n  --> {where}")
        room -= len(lines[-1].encode())
        if room < 0 and len(lines) > 1:
            return "".join(lines[:-1]) + f"\n  --> and {len(at) - len(lines) + 1} more places"
    return "".join(lines)


def bounded(text: str, size: int) -> str:
    """Text of at most `size` bytes in UTF-8, and of so many lines; what cannot be printed is escaped."""
    lines = text[:size].split("\n", MOST_LINES)
    safe = _escaped("\n".join(lines[:MOST_LINES]), keep="\n")
    data = safe.encode()
    if len(data) <= size and len(text) <= size and len(lines) <= MOST_LINES:
        return safe
    return data[: size - 3].decode(errors="ignore") + "..."


def _escaped(text: str, keep: str = "") -> str:
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def indented(text: str, count: int) -> str:
    """Lines after the first moved to the right."""
    return text.replace("\n", "\n" + " " * count)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The beginning of a hint, where a misspelt word is near a known one; "" where none is."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def printable(text: str, limit: int = 120) -> str:
    """Text from a model, safe to print in one line: control characters escaped, length limited."""
    safe = _escaped(text[: limit + 1])
    return safe if len(safe) <= limit else whole_words(safe[: limit - 3]) + "..."


def whole_words(text: str) -> str:
    """The beginning of a long name, up to the end of its last whole part."""
    for separators in (";, ", "/.:", "_-"):
        end = max(text.rfind(c) for c in separators) + 1
        if 3 * end >= len(text):
            return text[:end]
    return text
