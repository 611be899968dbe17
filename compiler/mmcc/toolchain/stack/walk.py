# SPDX-License-Identifier: Apache-2.0
"""The worst-case stack of functions, from what was linked.

The disassembly is walked along every path: each instruction's effect on the stack pointer, each call. It sees
library functions and helper calls as well as our own code. Where an adjustment is not a constant in the
instruction, the compiler's own record of the frame (.su) stands in. What has no bound is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from mmcc.errors import CompileError, Exit
from mmcc.target import Target
from mmcc.toolchain.build import find_tool, run_tool
from mmcc.toolchain.stack import aarch64, arm, riscv, vector_frames, webassembly, x86
from mmcc.toolchain.stack.listing import ENDS, Flow, Line, Listing, Step

_MANY_DEPTHS = 64  # an instruction reached at more depths than this: the walk has lost its way
_UNRECORDED = 128  # bytes at most that clang leaves out of its record: saved registers, alignment for vectors


@dataclass(frozen=True, slots=True)
class StackBound:
    """No run of the function uses more bytes than this, its own frame and return address included."""

    bytes: int
    chain: tuple[str, ...]  # the calls that need them, outermost first
    indirect: tuple[str, ...]  # functions that call through a pointer: those callees are not included
    assumed: str = ""  # why `bytes` is a margin that the target states, and not what the code says


@dataclass(frozen=True, slots=True)
class Frame:
    """What the compiler recorded of a function's frame."""

    bytes: int
    bounded: bool  # False: it also takes stack in amounts known only when it runs


@dataclass(slots=True)
class _Found:
    """What the walk through one function has seen."""

    depths: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    tables: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # jump, depth: to follow
    deepest: int = 0
    chain: tuple[str, ...] = ()
    indirect: set[str] = field(default_factory=set[str])

    def reach(self, depth: int, chain: tuple[str, ...]) -> None:
        """Take note of a depth, and of the calls that lead to it."""
        if depth > self.deepest:
            self.deepest, self.chain = depth, chain


def stack_bounds(
    elf: Path,
    objects: Sequence[Path],
    entries: Sequence[str],
    target: Target,
    called_back: Sequence[str] = (),
) -> dict[str, StackBound]:
    """Bound the stack of each entry function of a linked ELF made of `objects` and libraries.

    Functions `called_back` are handed to functions of the caller's: whatever is called through a pointer may
    call each of them, and their own bounds are found, too.
    What cannot be read is a margin on targets with an operating system, which gives stack as it is needed.
    Raises CompileError MM804 for recursion and frames of a size known only at run time, and on bare metal for
    what cannot be read.
    """
    if target.webassembly:
        return _module_bounds(elf, entries, target, called_back)
    listing = read_listing(elf, target)
    for name in called_back:
        if name not in listing.starts:
            raise CompileError("MM804", f"{name} is not in the program", exit=Exit.INTERNAL)
    walk = Walk(listing, recorded_frames(objects), target, called_back)
    return {entry: _bound_or_margin(walk, entry, target) for entry in (*entries, *called_back)}


def _module_bounds(
    module: Path, entries: Sequence[str], target: Target, called_back: Sequence[str]
) -> dict[str, StackBound]:
    """Bounds of the stack that is in a module's memory."""
    listing = run_tool([find_tool(target.objdump, target), "-d", module], target)
    functions = webassembly.functions_in(listing)
    numbers = {function.name: index for index, function in functions.items()}
    found: dict[str, StackBound] = {}
    missing = [name for name in (*entries, *called_back) if name not in numbers]
    if missing:
        raise CompileError("MM804", f"{missing[0]} is not in the program", exit=Exit.INTERNAL)
    for entry in (*entries, *called_back):
        try:
            bytes_, chain, indirect = webassembly.bound_of(
                functions, numbers[entry], [numbers[name] for name in called_back]
            )
        except webassembly.Recursion as cycle:
            raise _unbounded(f"recursion: {cycle}") from cycle
        except webassembly.NotConstant as function:
            raise _unbounded(
                f"{function} takes stack in amounts that are no constants in its code"
            ) from function
        found[entry] = StackBound(bytes_, chain, tuple(sorted(indirect)))
    return found


def _bound_or_margin(walk: Walk, entry: str, target: Target) -> StackBound:
    try:
        return walk.bound(entry)
    except Unreadable as unreadable:
        if target.bare_metal:
            raise _unbounded(str(unreadable)) from unreadable
        return StackBound(target.stack_bytes, (entry,), (), assumed=str(unreadable))


def read_listing(elf: Path, target: Target) -> Listing:
    """Disassemble a linked ELF."""
    objdump = find_tool(target.objdump, target)
    return Listing.parse(run_tool([objdump, "-d", "--no-show-raw-insn", elf], target))


def recorded_frames(objects: Sequence[Path]) -> dict[str, Frame]:
    """Function -> the largest frame recorded under its name, from the .su files beside the objects."""
    frames: dict[str, Frame] = {}
    for path in (o.with_suffix(".su") for o in objects):
        for line in path.read_text().splitlines() if path.is_file() else ():
            place, size, kind = line.split("\t")
            name = place.rsplit(":", 1)[-1]
            before = frames.get(name, Frame(0, True))
            bounded = before.bounded and kind in ("static", "dynamic,bounded")
            frames[name] = Frame(max(before.bytes, int(size)), bounded)
    return frames


class Walk:
    """The walk over one listing, with what it has found so far."""

    def __init__(
        self,
        listing: Listing,
        frames: Mapping[str, Frame],
        target: Target,
        called_back: Sequence[str] = (),
    ) -> None:
        """Any call through a pointer may come to one of the functions `called_back`."""
        self._listing, self._frames, self._target = listing, frames, target
        self._called_back = called_back
        reader = _reader(target)
        self._read: Callable[[Line], Step] = reader.read
        self._pushed_by_call = 8 if reader is x86 else 0
        self._red_zone = 128 if reader is x86 else 0
        self._known: dict[int, StackBound] = {}
        self._open: list[int] = []

    def bound(self, entry: str) -> StackBound:
        """The bound of a function by name; on x86-64 its return address and the red zone included."""
        if entry not in self._listing.starts:
            raise CompileError("MM804", f"{entry} is not in the program", exit=Exit.INTERNAL)
        found = self._function(self._listing.starts[entry])
        bytes_ = found.bytes + self._pushed_by_call + self._red_zone
        return StackBound(bytes_, found.chain, found.indirect)

    def _function(self, start: int) -> StackBound:
        if start in self._known:
            return self._known[start]
        name = self._name(start)
        if start in self._open:
            cycle = [self._name(a) for a in self._open[self._open.index(start) :]]
            raise _unbounded(f"recursion: {' -> '.join([*cycle, name])}")
        if "@plt" in name or start not in self._listing.lines:
            return self._shared(name)
        frame = self._frame(name)
        if frame is not None and not frame.bounded:
            raise _unbounded(f"{name} takes stack in amounts known only when it runs")
        self._open.append(start)
        try:
            found = self._follow(start, name)
        finally:  # of a function that cannot be read, callers may be asked for one by one
            self._open.pop()
        self._known[start] = found
        return found

    def _shared(self, name: str) -> StackBound:
        """A function of a shared library: its code is not here, the target states a margin."""
        if self._target.bare_metal:
            raise Unreadable(f"no code for {name}")
        return StackBound(self._target.library_stack_bytes, (name,), ())

    def _follow(self, start: int, name: str) -> StackBound:
        """Walk all paths of a function, jumps into others included, carrying the depth of the stack.

        Compilers keep one depth an instruction. So what is reached without a jump table is reached at its
        true depth, and only what is left may be a table's target: it is entered at the depth of the jump.
        """
        found = _Found(chain=(name,))
        try:
            self._explore([(start, 0)], found)
            certain = frozenset(found.depths)
            while found.tables:
                jump, depth = found.tables.pop()
                targets = self._table_targets(self._listing.lines[jump].function, certain)
                if not targets:  # no table: a tail call through a pointer
                    self._call_pointer(self._listing.lines[jump].function, depth, found)
                self._explore([(target, depth) for target in targets], found)
        except _Lost as lost:
            return self._whole(lost.function, name)
        return StackBound(found.deepest, found.chain, tuple(sorted(found.indirect)))

    def _whole(self, function: str, name: str) -> StackBound:
        """Bound a function that the walk cannot follow: every instruction with the whole recorded frame."""
        frame = self._frame(function)
        if frame is None or function != name or self._by_vectors(name):
            raise Unreadable(f"{function} grows its stack in a loop")
        depth = frame.bytes + _UNRECORDED
        found = _Found(deepest=depth, chain=(name,))
        for address in self._listing.code_of(name):
            step = self._read(self._listing.lines[address])
            if step.flow is Flow.CALL_POINTER:
                self._call_pointer(name, depth, found)
            if step.target is not None and self._name(step.target) != name:
                callee = self._function(step.target)
                found.reach(depth + self._pushed_by_call + callee.bytes, (name, *callee.chain))
                found.indirect.update(callee.indirect)
        return StackBound(found.deepest, found.chain, tuple(sorted(found.indirect)))

    def _table_targets(self, function: str, certain: frozenset[int]) -> list[int]:
        """Beginnings of blocks that nothing falls into and nothing certain reaches."""
        targets: list[int] = []
        falls_in = True
        for address in self._listing.code_of(function):
            if not falls_in and address not in certain:
                targets.append(address)
            falls_in = self._read(self._listing.lines[address]).flow not in ENDS
        return targets

    def _explore(self, work: list[tuple[int, int]], found: _Found) -> None:
        """Follow all paths from instructions at depths; jump tables are noted, not followed."""
        while work:
            address, depth = work.pop()
            line = self._listing.lines.get(address)
            depths = found.depths.setdefault(address, set())
            if line is None or depth in depths:
                continue
            depths.add(depth)
            if len(depths) > _MANY_DEPTHS:
                raise _Lost(line.function)
            step = self._read(line)
            grown = depth + step.grows if step.grows is not None else self._adjusted(address, depth)
            name = found.chain[0]
            found.reach(max(grown, depth + step.peak), (name,))
            if step.flow in (Flow.CALL, Flow.TABLE) and step.target is not None:
                callee = self._function(step.target)
                found.reach(grown + self._pushed_by_call + callee.bytes, (name, *callee.chain))
                found.indirect.update(callee.indirect)
            if step.flow is Flow.TABLE:
                found.tables.add((address, grown))
            if step.flow in (Flow.CALL_POINTER, Flow.JUMP_POINTER):
                self._call_pointer(line.function, grown, found)
            work += [(a, grown) for a in self._next(line, step)]

    def _call_pointer(self, function: str, depth: int, found: _Found) -> None:
        """Take note of a call through a pointer at a depth, and of what the caller's function calls then."""
        found.indirect.add(function)
        for name in self._called_back:
            callee = self._function(self._listing.starts[name])
            found.reach(depth + self._pushed_by_call + callee.bytes, (found.chain[0], *callee.chain))
            found.indirect.update(callee.indirect)

    def _next(self, line: Line, step: Step) -> list[int]:
        on = [line.following] if line.following is not None else []
        there = [step.target] if step.target is not None else []
        match step.flow:
            case Flow.NEXT | Flow.CALL_POINTER | Flow.CALL:
                return on
            case Flow.BRANCH:
                return on + there
            case Flow.JUMP:
                if there and "@plt" in self._name(there[0]):  # a tail call out of the program
                    return []
                return there
            case _:
                return []

    def _adjusted(self, address: int, depth: int) -> int:
        """The depth after an instruction that does not tell how far it moves the stack pointer."""
        line = self._listing.lines[address]
        if self._by_vectors(line.function):  # the record leaves out what is a multiple of a register's size
            grown = vector_frames.grows_by(self._listing, address, self._target.vector_bits // 8)
            if grown is None or not self._target.vector_bits:
                raise Unreadable(
                    f"{line.function} keeps vector registers on the stack, whose size is the processor's"
                )
            return depth + grown
        frame = self._frame(line.function)
        if frame is None:
            raise Unreadable(f"{line.function}: {line.mnemonic} {line.operands}")
        return max(depth, frame.bytes)

    def _by_vectors(self, function: str) -> bool:
        """Whether a function asks how long a vector register is (RISC-V), as frames that hold some do."""
        code = self._listing.code_of(function)
        return any("vlenb" in self._listing.lines[address].operands for address in code)

    def _frame(self, function: str) -> Frame | None:
        """What is recorded of a function; the numbers of copies are not recorded."""
        return self._frames.get(function) or self._frames.get(re.sub(r"\.\d+", "", function))

    def _name(self, address: int) -> str:
        line = self._listing.lines.get(address)
        return line.function if line else f"0x{address:x}"


class _Lost(Exception):
    """The walk found more depths at one instruction than a compiler makes."""

    def __init__(self, function: str) -> None:
        self.function = function
        super().__init__(function)


class Unreadable(Exception):
    """What moves the stack pointer is not understood; the text says where."""


def _unbounded(what: str) -> CompileError:
    return CompileError("MM804", f"the stack has no bound: {what}", exit=Exit.INTERNAL)


def _reader(target: Target) -> ModuleType:
    """The instruction set is recognised by the name of its tools; without a prefix it is this machine's."""
    for prefix, reader in (("arm-", arm), ("aarch64-", aarch64), ("riscv", riscv)):
        if target.objdump.startswith(prefix):
            return reader
    return x86
