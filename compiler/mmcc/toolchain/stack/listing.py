# SPDX-License-Identifier: Apache-2.0
"""A disassembly as instructions, and what an instruction does to the flow and to the stack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise


class Flow(Enum):
    """Where the program goes after an instruction."""

    NEXT = auto()
    BRANCH = auto()  # to the target or on
    JUMP = auto()
    TABLE = auto()  # to somewhere in this function
    CALL = auto()
    CALL_POINTER = auto()
    JUMP_POINTER = auto()
    RETURN = auto()


# After these the next instruction runs only if something else leads there.
ENDS = (Flow.JUMP, Flow.TABLE, Flow.JUMP_POINTER, Flow.RETURN)


@dataclass(frozen=True, slots=True)
class Step:
    """What an instruction does to the flow and to the stack; `grows` None: by an unknown number of bytes."""

    flow: Flow = Flow.NEXT
    grows: int | None = 0
    target: int | None = None
    peak: int = 0  # where more is needed for a moment than stays in use


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction as objdump prints it."""

    function: str
    mnemonic: str
    operands: str
    following: int | None
    comment: str = ""


_PADDING = re.compile(r"nop|data16|xchg +%ax,%ax|cs nop|int3")


@dataclass(frozen=True, slots=True)
class Listing:
    """A disassembly: instructions by address, functions by name and by their first address."""

    lines: Mapping[int, Line]
    starts: Mapping[str, int]
    members: Mapping[str, tuple[int, ...]]  # addresses of each function, ascending

    def code_of(self, function: str) -> list[int]:
        """Addresses of a function's instructions, without the padding between blocks."""
        lines = ((a, self.lines[a]) for a in self.members[function])
        return [a for a, line in lines if not _PADDING.match(f"{line.mnemonic} {line.operands}")]

    @staticmethod
    def parse(text: str) -> Listing:
        """Read what `objdump -d --no-show-raw-insn` prints."""
        raw: list[tuple[int, str, str, str]] = []
        starts: dict[str, int] = {}
        function = ""
        for line in text.splitlines():
            if heading := re.match(r"([0-9a-f]+) <(.+)>:$", line):
                function = heading[2]
                starts.setdefault(function, int(heading[1], 16))
            elif code := re.match(r"\s*([0-9a-f]+):\t(\S+)\s*(.*)$", line):
                raw.append((int(code[1], 16), function, code[2], code[3]))
        after = {here[0]: there[0] for here, there in pairwise(raw)}
        lines: dict[int, Line] = {}
        members: dict[str, list[int]] = {}
        for address, function, mnemonic, rest in raw:
            if mnemonic.startswith("."):  # data between the code
                continue
            operands, comment = _split_comment(rest)
            lines[address] = Line(function, mnemonic, operands, after.get(address), comment)
            members.setdefault(function, []).append(address)
        return Listing(lines, starts, {name: tuple(found) for name, found in members.items()})


def _split_comment(rest: str) -> tuple[str, str]:
    found = re.search(r"\s+(?:@|;|//|#)\s(.*)$", rest)
    return (rest[: found.start()], found[1]) if found else (rest, "")


def address_in(operands: str) -> int | None:
    """The target of `b 8010 <f+0x10>`: the last operand."""
    found = re.search(r"(?:^|[\s,])(?:0x)?([0-9a-f]+) <[^>]*>$", operands)
    return int(found[1], 16) if found else None
