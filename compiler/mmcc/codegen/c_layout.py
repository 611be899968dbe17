# SPDX-License-Identifier: Apache-2.0
"""How generated C is laid out: indented by its braces, no line above 120 columns. Changes white space only.

Templates that are put together by macros and loops cannot keep both themselves. Preprocessor lines stay as
they are, but for definitions that are too long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

COLUMNS = 120
INDENT = 4
_FAR = 64  # what is in parentheses that begin to the right of this is not put below them
_SPLIT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/')
_BREAK = re.compile(r"(?<=,) |(?<= =) | (?=[-+*/&|^?:] )| (?=(?:&&|\|\||<<|>>|[=!<>]=) )")


def tidy(text: str) -> str:
    """`text` of a C file, indented and within the columns; what it says does not change."""
    layout, lines = _Layout(), list[str]()
    for line in text.splitlines():
        if layout.is_plain(line):
            lines += _long_definition(line) if line.startswith("#define ") else [line]
        else:
            lines += [part for moved in _lines_of(layout.moved(line)) for part in _wrapped(moved)]
    return "\n".join(_single_blanks(lines)) + "\n"


def _single_blanks(lines: list[str]) -> list[str]:
    """At most one empty line between two others, and none behind an opening brace."""
    kept: list[str] = []
    for line in (line.rstrip() for line in lines):
        if line or (kept and kept[-1] and not kept[-1].endswith("{")):
            kept.append(line)
    return kept


@dataclass(slots=True)
class _Layout:
    """What is open at the beginning of a line."""

    braces: list[str] = field(default_factory=list[str])  # what each holds: "code", "values", "linkage"
    parentheses: int = 0
    inside: bool = False  # a statement that goes on
    margin: int = 0  # of the statement's first line
    shift: int = 0  # of that line, for those that follow
    last: str = ""  # the line before
    comment: bool = False
    definition: bool = False  # a preprocessor line goes on

    def is_plain(self, line: str) -> bool:
        """True for a preprocessor line, which is left alone."""
        if self.comment or not (self.definition or line.lstrip().startswith("#")):
            return False
        self.definition = line.endswith("\\")
        return True

    def moved(self, line: str) -> str:
        """The line where it belongs."""
        bare = line.strip()
        if not bare:
            return ""
        if self.comment or self.inside or self.parentheses:
            margin = len(line) - len(line.lstrip()) + self.shift
            if self.parentheses and margin <= self.margin:
                margin = _below(self.last)
            moved = " " * max(0, margin) + bare
        else:
            inner = self.braces[:-1] if bare.startswith("}") else self.braces
            depth = sum(kind != "linkage" for kind in inner) - bool(re.match(r"(?:case\b.*|default):", bare))
            moved = " " * INDENT * max(0, depth) + bare
            self.shift = len(moved) - len(line.rstrip())
            self.margin = len(moved) - len(bare)
        self.last = moved
        self._read(bare)
        return moved

    def _read(self, line: str) -> None:
        """What the line opens and closes."""
        if self.comment:
            self.comment = "*/" not in line
            return
        code = _SPLIT.sub(lambda found: '""' if found[0][0] in "\"'" else "", line)
        if "/*" in code:
            code, self.comment = code[: code.index("/*")], True
        code = code.rstrip()
        for k, sign in enumerate(code):
            if sign in "([":
                self.parentheses += 1
            elif sign in ")]":
                self.parentheses -= 1
            elif sign == "{":
                self.braces.append(self._kind(code[:k].rstrip()))
            elif sign == "}" and self.braces:
                self.braces.pop()
        if code:
            ends = code.endswith((";", "{", "}", ":")) or (code.endswith(",") and self._in_values())
            in_function = any(kind != "linkage" for kind in self.braces)
            self.inside = in_function and not ends and not self._in_values()

    def _kind(self, before: str) -> str:
        """What a brace holds, by what stands before it."""
        if before.startswith('extern ""'):
            return "linkage"
        values = re.search(r"(?:[=,{]|\benum(?: \w+)?)$", before) or (not before and self._in_values())
        return "values" if values else "code"

    def _in_values(self) -> bool:
        return bool(self.braces) and self.braces[-1] == "values"


def _lines_of(line: str) -> list[str]:
    """A comment behind code that is too long stands before it."""
    found = re.match(r"( *)(\S.*?) (/\*.*\*/)$", line)
    if len(line) <= COLUMNS or not found or found[2].startswith("/*"):
        return [line]
    return [found[1] + found[3], found[1] + found[2]]


def _wrapped(line: str) -> list[str]:
    """The line in parts of at most COLUMNS."""
    if len(line) <= COLUMNS:
        return [line]
    if re.match(r" *(?:/\*| \*|\* )", line):
        return _wrapped_comment(line)
    at = _best_break(line)
    if at is None:
        return [line]
    head, rest = line[:at].rstrip(), line[at:].lstrip()
    return [head, *_wrapped(" " * _below(head) + rest)]


def _wrapped_comment(line: str) -> list[str]:
    indent = len(line) - len(line.lstrip())
    at = line.rfind(" ", indent + 4, COLUMNS + 1)
    if at < 0:
        return [line]
    margin = " " * (indent + (1 if line.lstrip().startswith("/*") else 0)) + "* "
    return [line[:at], *_wrapped(margin + line[at + 1 :])]


def _best_break(line: str) -> int | None:
    """Where to break: within the columns, in as few parentheses as possible of those in the last half."""
    hidden = _SPLIT.sub(lambda found: "\0" * len(found[0]), line)
    first = len(line) - len(line.lstrip()) + INDENT
    places = [m.start() for m in _BREAK.finditer(hidden) if first < m.start() <= COLUMNS]
    late = [at for at in places if at > COLUMNS // 2] or places
    if not late:
        return None
    return min(late, key=lambda at: (_depth(hidden[:at]), hidden[at - 1] != ",", -at))


def _depth(text: str) -> int:
    return sum(text.count(sign) for sign in "([{") - sum(text.count(sign) for sign in ")]}")


def _below(head: str) -> int:
    """The column of what follows a broken line: behind the last open parenthesis, or a bit further in."""
    open_: list[int] = []
    for k, sign in enumerate(_SPLIT.sub(lambda found: "\0" * len(found[0]), head)):
        if sign in "([{":
            open_.append(k)
        elif sign in ")]}" and open_:
            open_.pop()
    if open_ and open_[-1] < _FAR and not head.endswith(("(", "{")):
        return open_[-1] + 1
    return len(head) - len(head.lstrip()) + 2 * INDENT


def _long_definition(line: str) -> list[str]:
    if len(line) <= COLUMNS:
        return [line]
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
