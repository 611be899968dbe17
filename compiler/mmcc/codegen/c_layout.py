# SPDX-License-Identifier: Apache-2.0
"""How generated C is laid out: as .clang-format has it, no line above 120 columns. Changes white space only.

Templates that are put together by macros and loops cannot keep both themselves. Where a long line is broken
is decided here, since names differ in length from model to model; .clang-format leaves breaks as they are.
Definitions of macros stay as they are, but for those that are too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

COLUMNS = 120
INDENT = 4
_HIDDEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/')
_BREAK = re.compile(r"(?<=,) |(?<= =) (?!\{)| (?=[-+/%&|^] )| (?=(?:&&|\|\||<<|>>|[=!<>]=) )")
_MACRO = re.compile(r"[A-Z][A-Z0-9_]+")
# where to break, best first
_FIRST = (",", "&&", "||", "==", "!=", "<=", ">=", "|", "^", "&", "<<", ">>", "+", "-")


def tidy(text: str) -> str:
    """`text` of a C file, indented and within the columns; what it says does not change."""
    layout, lines = _Layout(), list[str]()
    for line in text.splitlines():
        if layout.is_plain(line):
            lines += _long_definition(line.strip() if line.lstrip().startswith("#") else line)
        else:
            lines += layout.placed(line)
    return "\n".join(_single_blanks(lines)) + "\n"


def _single_blanks(lines: list[str]) -> list[str]:
    """At most one empty line between two others, and none behind an opening brace."""
    kept: list[str] = []
    for line in (line.rstrip() for line in lines):
        if line or (kept and kept[-1] and not kept[-1].endswith("{")):
            kept.append(line)
    return kept


@dataclass(frozen=True, slots=True)
class _Open:
    """A bracket that is open: `kind` is "call", "code", "values" or "linkage"."""

    kind: str
    column: int  # of lines that follow; for "code" and "linkage" their braces decide


@dataclass(slots=True)
class _Layout:
    """What is open at the beginning of a line."""

    open: list[_Open] = field(default_factory=list[_Open])
    inside: bool = False  # a statement that goes on
    operands: bool = False  # the operands of an assembly statement go on
    margin: int = 0  # of the statement's first line
    shift: int = 0  # how far a comment of several lines was moved
    comment: bool = False
    definition: bool = False  # a preprocessor line goes on

    def is_plain(self, line: str) -> bool:
        """True for a preprocessor line."""
        if self.comment or not (self.definition or line.lstrip().startswith("#")):
            return False
        self.definition = line.endswith("\\")
        return True

    def placed(self, line: str) -> Iterator[str]:
        """The line where it belongs, in parts if it is too long."""
        bare = line.strip()
        if not bare:
            yield ""
        elif self.comment:
            self.comment = "*/" not in bare
            yield from _wrapped_comment(" " * max(0, len(line) - len(line.lstrip()) + self.shift) + bare)
        elif bare.startswith("/*"):
            moved = " " * self._column(bare) + bare
            self.shift = len(moved) - len(line.rstrip())
            self._read(moved)
            yield from _wrapped_comment(moved) if bare.endswith("*/") or self.comment else [moved]
        else:
            yield from self._broken(bare)

    def _broken(self, bare: str) -> Iterator[str]:
        """A line of code, in as many as it takes."""
        line = " " * self._column(bare) + bare
        behind = re.match(r"(\S.*?) (/\*.*\*/)$", bare) if len(line) > COLUMNS else None
        if behind:  # a comment behind code that is too long stands before it
            yield from self.placed(behind[2])
            yield from self._broken(behind[1])
            return
        at = _best_break(line) if len(line) > COLUMNS else None
        head = line[:at].rstrip()
        self._read(head)
        yield head
        if at is not None:
            yield from self._broken(line[at:].strip())

    def _column(self, bare: str) -> int:
        """Where a line begins: behind the bracket it is in, a step further in, or by its braces."""
        inmost = self.open[-1] if self.open else None
        if inmost and inmost.kind == "call":
            step = len(": ") * (self.operands and not bare.startswith(":"))
            self.operands = self.operands or bare.startswith(":")
            return inmost.column + step
        self.operands = False
        if inmost and inmost.kind == "values":
            return inmost.column - INDENT * bare.startswith("}")
        if self.inside or bare.startswith("["):
            return self.margin + INDENT
        depth = sum(bracket.kind == "code" for bracket in self.open)
        depth -= bare.startswith("}") + bool(re.match(r"(?:case\b.*|default):", bare))
        self.margin = INDENT * max(0, depth)
        return self.margin

    def _read(self, line: str) -> None:
        """What the line opens and closes."""
        code = _HIDDEN.sub(lambda found: (" " if found[0][0] == "/" else "\0") * len(found[0]), line)
        if "/*" in code:
            code, self.comment = code[: code.index("/*")], True
        code = code.rstrip()
        for k, sign in enumerate(code):
            if sign in "([{":
                self.open.append(self._opened(code, k))
            elif sign in ")]}" and self.open:
                self.open.pop()
        if code:
            told = not self.inside and _MACRO.fullmatch(code.strip())  # of the loop in the next line
            ends = told or code.endswith((";", "{", "}", ":"))
            self.inside = not ends and (code.endswith("=") or any(b.kind == "code" for b in self.open))

    def _opened(self, code: str, k: int) -> _Open:
        """The bracket at column `k`, by what stands before and behind it."""
        inmost = self.open[-1] if self.open else None
        before = code[:k].rstrip()
        kind = "call"
        if code[k] == "{":
            kind = "code"
            among_values = not before and inmost is not None and inmost.kind == "values"
            if before.startswith("extern \0"):
                kind = "linkage"
            elif among_values or re.search(r"(?:[=,{(]|\benum(?: \w+)?)$", before):
                kind = "values"
        if k + 1 < len(code):
            return _Open(kind, k + 1)
        outer = inmost.column if inmost and inmost.kind in ("call", "values") else self.margin
        return _Open(kind, outer + INDENT)


def _wrapped_comment(line: str) -> Iterator[str]:
    indent = len(line) - len(line.lstrip())
    at = line.rfind(" ", indent + 4, COLUMNS + 1)
    if line[at + 1 :] == "*/":  # never alone on a line
        at = line.rfind(" ", indent + 4, at)
    if len(line) <= COLUMNS or at < 0:
        yield line
        return
    margin = " " * (indent + (1 if line.lstrip().startswith("/*") else 0)) + "* "
    yield line[:at]
    yield from _wrapped_comment(margin + line[at + 1 :])


def _best_break(line: str) -> int | None:
    """Where to break: within the columns, in as few brackets as possible of those that are not far left."""
    hidden = _HIDDEN.sub(lambda found: "\0" * len(found[0]), line)
    first = len(line) - len(line.lstrip()) + INDENT
    places = [m.start() for m in _BREAK.finditer(hidden) if first < m.start() <= COLUMNS]
    late = [at for at in places if at > COLUMNS // 3 or hidden[at - 1] == "="] or places
    if not late:
        return None
    return min(late, key=lambda at: (_depth(hidden[:at]), _rank(hidden, at), -at))


def _rank(line: str, at: int) -> int:
    """The lower, the better to break there: commas, then what binds least."""
    sign = "," if line[at - 1] == "," else line[at + 1 :].split(" ", 1)[0]
    return _FIRST.index(sign) if sign in _FIRST else len(_FIRST)


def _depth(text: str) -> int:
    return sum(text.count(sign) for sign in "([{") - sum(text.count(sign) for sign in ")]}")


def _long_definition(line: str) -> list[str]:
    if len(line) <= COLUMNS or not line.startswith("#define "):
        return [line]
    behind = re.match(r"(#define .*\S) (/\*.*\*/)$", line)
    if behind:  # a comment behind a definition that is too long stands before it
        return [behind[2], *_long_definition(behind[1])]
    at = line.rfind(" ", len("#define x"), COLUMNS - 1)
    name_ends = re.match(r"#define \w+(?:\([^)]*\))?", line)
    if at < 0 or not name_ends or at < name_ends.end():
        return [line]
    return [f"{line[:at]} \\", *_rest_of_definition("    " + line[at + 1 :])]


def _rest_of_definition(line: str) -> list[str]:
    at = line.rfind(" ", 5, COLUMNS - 1)
    if len(line) <= COLUMNS or at < 0:
        return [line]
    return [f"{line[:at]} \\", *_rest_of_definition("    " + line[at + 1 :])]
