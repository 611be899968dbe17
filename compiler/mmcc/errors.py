"""The one exception type of the compiler, where in the model an error is, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from enum import IntEnum
from typing import Any

NAME_COLUMNS = 60  # of a name from a model, in a table
LONGEST_WARNING = 500


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
        return f"{self.model}, node {self.node} ({self.op}){name}"


class CompileError(Exception):
    """The model cannot be compiled as asked. Always the user's to act on, never a bug of ours.

    `code` names the kind of error (docs/errors.md lists them), `exit` is the process exit code. Message and
    hint may have several lines.
    """

    def __init__(
        self, code: str, message: str, *, exit: Exit, at: tuple[Where, ...] = (), hint: str = ""
    ) -> None:
        self.code, self.message, self.exit, self.at, self.hint = code, message, exit, at, hint
        lines = [f"error[{code}]: {indented(message, 4)}"]
        lines += [f"  --> {where}" for where in at]
        lines += [f"  = try: {indented(hint, 9)}"] if hint else []
        super().__init__("\n".join(lines))

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `--json` prints on standard output instead of a result."""
        where = [asdict(place) for place in self.at]
        found = {"code": self.code, "exit": int(self.exit), "message": self.message, "where": where}
        return {"error": {**found, "try": self.hint}}


def indented(text: str, count: int) -> str:
    """Lines after the first moved to the right."""
    return text.replace("\n", "\n" + " " * count)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The beginning of a hint, where a misspelt word is near a known one; "" where none is."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def printable(text: str, limit: int = 120) -> str:
    """Text from a model, safe to print in one line: control characters escaped, length limited."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= limit else whole_words(safe[: limit - 3]) + "..."


def whole_words(text: str) -> str:
    """The beginning of a long name, up to the end of its last whole part."""
    for separators in (";, ", "/.:", "_-"):
        end = max(text.rfind(c) for c in separators) + 1
        if 3 * end >= len(text):
            return text[:end]
    return text
