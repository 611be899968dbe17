# SPDX-License-Identifier: Apache-2.0
"""The worst-case stack in a module's memory, from its disassembly.

Compilers keep what has an address on a stack in linear memory; its pointer is a global of the module. A
function takes its frame at once: it reads the pointer, subtracts a constant, perhaps rounds down, and writes
it back if it calls others. So a function's frame is that constant, and a bound is the dearest chain of them.
Locals, operands and return addresses are the engine's: no program can see or bound what they take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_FUNCTION = re.compile(r"[0-9a-f]+ func\[(\d+)\](?: <(.*)>)?:$")
_INSTRUCTION = re.compile(r" [0-9a-f]+: [0-9a-f ]+\| *(\S.*)$")
_POINTER = "<__stack_pointer>"
_CALLS = ("call", "return_call")
_POINTER_CALLS = ("call_indirect", "return_call_indirect", "call_ref")


@dataclass(frozen=True, slots=True)
class Function:
    """What one function does to the stack: None of `frame` if that is not a constant."""

    name: str
    frame: int | None
    callees: tuple[int, ...]
    indirect: bool  # calls through a pointer


class NotConstant(Exception):
    """A function moves the stack pointer by an amount that is not in its code."""


class Recursion(Exception):
    """A function can call itself; the text is the way."""


def functions_in(listing: str) -> dict[int, Function]:
    """All functions of a module by their index, from what `wasm-objdump -d` prints."""
    found: dict[int, Function] = {}
    for index, name, code in _split(listing):
        calls = [words for words in map(str.split, code) if words[0] in _CALLS]
        indirect = any(line.split()[0] in _POINTER_CALLS for line in code)
        found[index] = Function(name, _frame(code), tuple(int(words[1]) for words in calls), indirect)
    return found


def _split(listing: str) -> Iterator[tuple[int, str, list[str]]]:
    """Index, name and instructions of each function."""
    head: tuple[int, str] | None = None
    code: list[str] = []
    for line in listing.splitlines():
        if heading := _FUNCTION.match(line):
            if head is not None:
                yield *head, code
            head, code = (int(heading[1]), heading[2] or f"func[{heading[1]}]"), []
        elif found := _INSTRUCTION.match(line):
            code.append(found[1])
    if head is not None:
        yield *head, code


def _frame(code: Sequence[str]) -> int | None:
    """The bytes that a function takes; None if what it reads or writes the pointer for is not understood.

    Each reading begins a frame. What is written is a frame's beginning, or the pointer as it was.
    """
    frame = 0
    begun: set[int] = set()  # instructions after which the value of a frame's beginning is on top
    for at, line in enumerate(code):
        if line.startswith("global.get") and line.endswith(_POINTER):
            taken = _taken(code[at + 1 : at + 6])
            frames = _taken_later(code, at + 1) if taken is None else [(taken[0], at + taken[1])]
            if frames is None:
                return None
            frame = max([frame, *(bytes_ for bytes_, _ in frames)])
            begun.update(begins for _, begins in frames)
    for at, line in enumerate(code):
        if line.startswith("global.set") and line.endswith(_POINTER) and not _is_known(code, at, begun):
            return None
    return frame


def _taken(after: Sequence[str]) -> tuple[int, int] | None:
    """Bytes that are subtracted from the pointer that was read, and by how many instructions."""
    words = [line.split() for line in after]
    if len(words) >= 2 and words[0][0] == "i32.const" and words[1][0] == "i32.sub":
        bytes_ = int(words[0][1])
        if bytes_ < 0:
            return None
        if len(words) >= 4 and words[2][0] == "i32.const" and words[3][0] == "i32.and":
            mask = int(words[2][1])
            return (bytes_ - mask - 1, 4) if mask < 0 else None
        return bytes_, 2
    if words and words[0][0] in ("local.tee", "local.set"):  # kept, to be restored or for a frame made later
        return _kept(words)
    return None


def _kept(words: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """A pointer that is kept before the frame is made of it: read, kept, subtracted from."""
    rest = words[1:]
    if words[0][0] == "local.set":
        if not rest or rest[0] != ["local.get", words[0][1]]:
            return None
        rest = rest[1:]
    if len(rest) >= 2 and rest[0][0] == "i32.const" and rest[1][0] == "i32.sub" and int(rest[0][1]) >= 0:
        return int(rest[0][1]), len(words) - len(rest) + 2
    return None


def _taken_later(code: Sequence[str], at: int) -> list[tuple[int, int]] | None:
    """Of a pointer that is put into a local, and used further on: bytes of each frame that may be made of it,
    and after which instruction. None if it is copied, or an amount is subtracted that is not in the code.

    The local may hold other things later: what is subtracted from these counts, too: too much at worst.
    """
    words = [line.split() for line in code]
    if at >= len(words) or words[at][0] != "local.set":
        return None
    found: list[tuple[int, int]] = []
    for k, word in enumerate(words[:-2]):
        if word != ["local.get", words[at][1]]:
            continue
        first, second = words[k + 1], words[k + 2][0]
        if first[0] == "i32.const" and second in ("i32.sub", "i32.add"):
            less = int(first[1]) * (1 if second == "i32.sub" else -1)
            taken = _taken([f"i32.const {less}", "i32.sub", *code[k + 3 : k + 5]]) if less >= 0 else None
            if taken is not None:
                found.append((taken[0], k + taken[1]))
        elif first[0] in ("local.set", "local.tee") or second == "i32.sub":
            return None
    return found or None  # a pointer that is read makes a frame


def _is_known(code: Sequence[str], at: int, begun: set[int]) -> bool:
    """Whether the pointer is set to a frame's beginning, or back: that plus a constant, or what was kept."""
    before = at - 1
    if code[before].startswith("local.tee"):
        before -= 1
    if before in begun:
        return True
    words = [line.split() for line in code[max(0, at - 3) : at]]
    if len(words) == 3 and [w[0] for w in words] == ["local.get", "i32.const", "i32.add"]:
        return int(words[1][1]) >= 0
    return bool(words) and words[-1][0] == "local.get" and words[-1][1] in _restored(code)


def _restored(code: Sequence[str]) -> set[str]:
    """Locals that hold the pointer as it was when the function began, and nothing else."""
    kept = {
        code[at + 1].split()[1]
        for at, line in enumerate(code[:-1])
        if line.startswith("global.get")
        and line.endswith(_POINTER)
        and code[at + 1].startswith(("local.tee", "local.set"))
    }
    written = [line.split()[1] for line in code if line.startswith(("local.tee", "local.set"))]
    return {name for name in kept if written.count(name) == 1}


def bound_of(
    functions: Mapping[int, Function], entry: int, called_back: Sequence[int] = ()
) -> tuple[int, tuple[str, ...], frozenset[str]]:
    """Bytes, the chain of calls that needs them, and the functions on the way that call through pointers: any
    of these may come to one that is `called_back`.

    Raises NotConstant and Recursion.
    """
    known: dict[int, tuple[int, tuple[str, ...], frozenset[str]]] = {}

    def visit(index: int, way: tuple[int, ...]) -> tuple[int, tuple[str, ...], frozenset[str]]:
        if index in way:
            cycle = [functions[k].name for k in (*way[way.index(index) :], index)]
            raise Recursion(" -> ".join(cycle))
        if index in known:
            return known[index]
        function = functions.get(index)
        if function is None:
            return 0, (f"import {index}",), frozenset()  # the engine's own, on no stack of the module's
        if function.frame is None:
            raise NotConstant(function.name)
        callees = (*function.callees, *(called_back if function.indirect else ()))
        below = [visit(callee, (*way, index)) for callee in dict.fromkeys(callees)]
        deepest, chain, _ = max(below, key=lambda found: found[0], default=(0, (), frozenset[str]()))
        indirect = frozenset([function.name] if function.indirect else []).union(
            *(found[2] for found in below)
        )
        known[index] = function.frame + deepest, (function.name, *(chain if deepest else ())), indirect
        return known[index]

    return visit(entry, ())
