# SPDX-License-Identifier: Apache-2.0
"""The text of the IR as tokens with their places."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

TOKEN = re.compile(
    r"""
    (?P<space> \s+ | \#[^\n]* )
  | %(?P<tensor> [A-Za-z0-9_./-]+ | "(?:[^"\\\n]|\\.)*" )
  | (?P<string> "(?:[^"\\\n]|\\.)*" )
  | (?P<number> -?inf\b | nan\b | -?\d+ (?:\.\d+)? (?:[eE][-+]?\d+)? )
  | (?P<word> [A-Za-z_]\w* )
  | (?P<sign> [][(){}:=,] )
    """,
    re.VERBOSE | re.ASCII,
)

Kind = Literal["tensor", "string", "number", "word", "sign", "end"]


class TextError(ValueError):
    """A text that is no value of the IR; the message begins with line and column, both from 1."""


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is what is meant: names and strings have no quotes and no escapes left."""

    kind: Kind
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"{'%' if self.kind == 'tensor' else ''}{self.text}"

    def error(self, message: str) -> TextError:
        return TextError(f"line {self.line}, column {self.column}: {message}")


def tokens(text: str) -> Iterator[Token]:
    """All tokens, the last of kind "end"; TextError at the first sign that begins none."""
    at = line = 0
    start = 0  # of the line
    while at < len(text):
        found = TOKEN.match(text, at)
        here = Token("end", "", line + 1, at - start + 1)
        if found is None:
            raise here.error(f"{text[at]!r} begins nothing")
        kind = found.lastgroup
        assert kind is not None
        if kind != "space":
            yield Token(kind, _meant(found[kind], here), here.line, here.column)  # type: ignore[arg-type]
        line += found[0].count("\n")
        start = found.start() + found[0].rindex("\n") + 1 if "\n" in found[0] else start
        at = found.end()
    yield Token("end", "", line + 1, at - start + 1)


def _meant(text: str, here: Token) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise here.error(f"{text} is no string of JSON") from None


class Cursor:
    """A place among tokens, moving on as tokens are taken."""

    def __init__(self, text: str) -> None:
        self.graphs: Callable[[Cursor], Any] | None = None  # what reads a graph, where values may have some
        self._tokens = [*tokens(text)]
        self._at = 0

    @property
    def here(self) -> Token:
        """The next token."""
        return self._tokens[self._at]

    def take(self) -> Token:
        """The next token, which is passed."""
        token = self.here
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def of(self, kind: Kind, what: str) -> Token:
        """The next token, which has to be of this kind."""
        if self.here.kind != kind:
            raise self.here.error(f"{what} is wanted, not {self.here}")
        return self.take()

    def has(self, *texts: str) -> bool:
        """Is the next token one of these words or signs?"""
        return self.here.kind in ("word", "sign") and self.here.text in texts

    def skip(self, text: str) -> bool:
        """Pass the next token if it is this word or sign."""
        found = self.has(text)
        if found:
            self.take()
        return found

    def expect(self, text: str) -> Token:
        """Pass this word or sign, which has to be next."""
        if not self.has(text):
            raise self.here.error(f'"{text}" is wanted, not {self.here}')
        return self.take()

    def separated(self, close: str) -> Iterator[None]:
        """Once for each item up to the closing sign, which is passed; commas are between them."""
        while not self.skip(close):
            yield
            if not self.has(close):
                self.expect(",")
