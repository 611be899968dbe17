# SPDX-License-Identifier: Apache-2.0
"""What packages of one model have in common, compiled once: kernels, and the types and functions they know.

Plans differ in calls and addresses; most of their kernels are the same text, and know the same types. A part
of one package is left out where another has it and all that it knows: its names are then the other's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property

WORD = re.compile(r"\b[A-Za-z_]\w*")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DEFINES = (  # what a part defines: functions and constants, types, macros
    re.compile(r"^(?:void|static|MMCC_INLINE)\b[^=;({\[]*?\b(\w+)\s*[=;(\[]", re.MULTILINE),
    re.compile(r"^\}\s*(\w+)\s*;", re.MULTILINE),
    re.compile(r"^\s*#\s*define\s+(\w+)", re.MULTILINE),
)
VALUES = re.compile(r"^enum \{([^}]*)\};", re.MULTILINE)
ANYWHERE = "_CODE_ATTRIBUTE"  # a macro that is empty in all packages


def parts_of(text: str) -> list[str]:
    """Pieces of a C file between empty lines, each with whole blocks and conditions; without comments."""
    found, waiting = list[str](), ""
    for piece in re.split(r"\n\s*\n", COMMENT.sub("", text)):
        waiting += piece + "\n"
        opened = len(re.findall(r"^\s*#\s*if", waiting, re.MULTILINE))
        closed = len(re.findall(r"^\s*#\s*endif", waiting, re.MULTILINE))
        if opened == closed and waiting.count("{") == waiting.count("}"):
            found.append(waiting)
            waiting = ""
    return [*found, waiting] if waiting.strip() else found


@cache
def _defined(part: str) -> tuple[str, ...]:
    """The words that a part defines."""
    return tuple(dict.fromkeys(word for pattern in DEFINES for word in pattern.findall(part)))


@cache
def _words(part: str) -> frozenset[str]:
    """All words of a part."""
    return frozenset(WORD.findall(part))


@dataclass
class Parts:
    """The parts of a package, whose names begin with `name`: of the header that its files share, without its
    guard, and of its kernels."""

    name: str
    header: list[str]
    kernels: list[str]
    _keys: dict[str, object] = field(default_factory=dict[str, object])
    _plain: dict[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def values(self) -> dict[str, int]:
        """Names of values that are counted."""
        bodies = (found for part in self.header for found in VALUES.findall(part))
        return {word: k for body in bodies for k, word in enumerate(WORD.findall(body))}

    @cached_property
    def defined(self) -> dict[str, list[str]]:
        """For each word that parts define, the parts that do: prototypes, and bodies."""
        found: dict[str, list[str]] = {}
        for part in (*self.header, *self.kernels):
            for word in _defined(part):
                found.setdefault(word, []).append(part)
        return found

    def own(self, word: str) -> bool:
        """True of a name that begins as this package's do."""
        return self._prefix.match(word) is not None

    @cached_property
    def _prefix(self) -> re.Pattern[str]:
        return re.compile(rf"\b({self.name}|{self.name.upper()})(?![0-9A-Za-z])")

    def plain(self, text: str) -> str:
        """A text, as if the package had no name."""
        if text not in self._plain:
            self._plain[text] = self._prefix.sub("p", text)
        return self._plain[text]

    def key(self, word: str) -> object:
        """What is equal for equal definitions in two packages; like no other for what need not be equal."""
        if word not in self._keys:
            self._keys[word] = object()  # of what is defined by itself
            self._keys[word] = self._content(word)
        return self._keys[word]

    def _content(self, word: str) -> object:
        if word in self.values:
            return "value", self.values[word]
        if word not in self.defined:
            return object()  # of the package's public header, or of the plan
        together, waiting = list[str](), [word]
        while waiting:  # what parts define with it, and parts of these
            for part in self.defined[waiting.pop()]:
                if part not in together:
                    together.append(part)
                    waiting += _defined(part)
        inside = {each for part in together for each in _defined(part)}
        if not all(map(self.own, inside)):
            return object()  # names that are not apart from those of other packages
        known = frozenset[str]().union(*map(_words, together)) - inside
        known = {each for each in known if each in self.defined or self.own(each)}
        beside = sorted(each for each in known if not each.endswith(ANYWHERE))
        keys = tuple((self.plain(each), self.key(each)) for each in beside)
        return tuple(map(self.plain, together)), keys


@dataclass
class Shared:
    """What the packages so far have made, by its key: in which package."""

    _made: dict[object, str] = field(default_factory=dict[object, str])

    def left(self, parts: Parts) -> tuple[dict[str, str], list[str], list[str]]:
        """What is left of a package: names that are those of another, parts of its header, of its kernels."""
        keys = {word: parts.key(word) for word in parts.defined}
        known = {word: self._made[key] for word, key in keys.items() if key in self._made}
        for key in keys.values():
            self._made.setdefault(key, parts.name)
        names = {word: _named(word, parts.name, other) for word, other in known.items()}

        def rest(some: list[str]) -> list[str]:
            return [part for part in some if not (w := _defined(part)) or not all(x in known for x in w)]

        return names, rest(parts.header), rest(parts.kernels)


def _named(word: str, name: str, other: str) -> str:
    """A name of one package as that of another."""
    return (other if word.startswith(name) else other.upper()) + word[len(name) :]
