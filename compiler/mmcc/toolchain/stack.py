"""The worst-case stack of functions, from what was linked.

The disassembly is walked along every path: each instruction's effect on the stack pointer, each call. It sees
library functions and helper calls as well as our own code. Where an adjustment is not a constant in the
instruction, the compiler's own record of the frame (.su) stands in. What has no bound is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path

from mmcc.errors import CompileError, Exit
from mmcc.target import Target
from mmcc.toolchain.build import find_tool, run_tool

# Functions whose stack cannot be seen in their code, with the reason for the bound.
KNOWN_FRAMES: Mapping[str, int] = {}

_MANY_DEPTHS = 64  # an instruction reached at more depths than this is in a loop that grows the stack


@dataclass(frozen=True, slots=True)
class StackBound:
    """No run of the function uses more bytes than this, its own frame and return address included."""

    bytes: int
    chain: tuple[str, ...]  # the calls that need them, outermost first
    indirect: tuple[str, ...]  # functions that call through a pointer: those callees are not included


class _Flow(Enum):
    NEXT = auto()
    BRANCH = auto()  # to the target or on
    JUMP = auto()
    TABLE = auto()  # to somewhere in this function
    CALL = auto()
    CALL_POINTER = auto()
    JUMP_POINTER = auto()
    RETURN = auto()


@dataclass(frozen=True, slots=True)
class _Step:
    """What an instruction does to the flow and to the stack; `grows` None: by an unknown number of bytes."""

    flow: _Flow = _Flow.NEXT
    grows: int | None = 0
    target: int | None = None
    peak: int = 0  # where more is needed for a moment than stays in use


@dataclass(frozen=True, slots=True)
class _Line:
    """One instruction as objdump prints it."""

    function: str
    mnemonic: str
    operands: str
    following: int | None
    comment: str = ""


def stack_bounds(
    elf: Path, objects: Sequence[Path], entries: Sequence[str], target: Target
) -> dict[str, StackBound]:
    """Bound the stack of each entry function of a linked ELF made of `objects` and libraries."""
    objdump = find_tool(target.objdump, target)
    listing = run_tool([objdump, "-d", "--no-show-raw-insn", elf], target)
    walk = _Walk(_Listing.parse(listing), _frames(objects), target)
    return {entry: walk.bound(entry) for entry in entries}


def _frames(objects: Sequence[Path]) -> dict[str, tuple[int, bool]]:
    """Function -> (largest frame, whether it has a bound), from the .su files beside the objects."""
    frames: dict[str, tuple[int, bool]] = {}
    for path in (o.with_suffix(".su") for o in objects):
        for line in path.read_text().splitlines() if path.is_file() else ():
            place, size, kind = line.split("\t")
            name = place.rsplit(":", 1)[-1]
            bytes_, bounded = frames.get(name, (0, True))
            frames[name] = max(bytes_, int(size)), bounded and kind in ("static", "dynamic,bounded")
    return frames


@dataclass(frozen=True, slots=True)
class _Listing:
    """A disassembly: instructions by address, functions by name and by their first address."""

    lines: Mapping[int, _Line]
    starts: Mapping[str, int]
    members: Mapping[str, tuple[int, ...]]  # addresses of each function

    def code_of(self, function: str) -> list[int]:
        """Addresses of a function's instructions, without the padding between blocks."""
        padding = re.compile(r"nop|data16|xchg +%ax,%ax|cs nop")
        lines = ((a, self.lines[a]) for a in self.members[function])
        return [a for a, line in lines if not padding.match(f"{line.mnemonic} {line.operands}")]

    @staticmethod
    def parse(text: str) -> _Listing:
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
        lines: dict[int, _Line] = {}
        members: dict[str, list[int]] = {}
        for address, function, mnemonic, rest in raw:
            if mnemonic.startswith("."):  # data between the code
                continue
            operands, comment = _split_comment(rest)
            lines[address] = _Line(function, mnemonic, operands, after.get(address), comment)
            members.setdefault(function, []).append(address)
        return _Listing(lines, starts, {name: tuple(found) for name, found in members.items()})


def _split_comment(rest: str) -> tuple[str, str]:
    found = re.search(r"\s+(?:@|;|//|#)\s(.*)$", rest)
    return (rest[: found.start()], found[1]) if found else (rest, "")


class _Walk:
    """The walk over one listing, with what it has found so far."""

    def __init__(self, listing: _Listing, frames: Mapping[str, tuple[int, bool]], target: Target) -> None:
        self._listing, self._frames, self._target = listing, frames, target
        self._read = _reader(target)
        self._pushed_by_call = 8 if self._read is _x86 else 0
        self._red_zone = 128 if self._read is _x86 else 0
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
        if name in KNOWN_FRAMES:
            return StackBound(KNOWN_FRAMES[name], (name,), ())
        if "@plt" in name or start not in self._listing.lines:
            return self._shared(name)
        if not self._frames.get(name, (0, True))[1]:
            raise _unbounded(f"{name} takes stack in amounts known only when it runs")
        self._open.append(start)
        found = self._follow(start, name)
        self._open.pop()
        self._known[start] = found
        return found

    def _shared(self, name: str) -> StackBound:
        """A function of a shared library: its code is not here, the target states a margin."""
        if self._target.bare_metal:
            raise _unbounded(f"no code for {name}")
        return StackBound(self._target.library_stack_bytes, (name,), ())

    def _follow(self, start: int, name: str) -> StackBound:
        """Walk all paths of a function, jumps into others included, carrying the depth of the stack."""
        seen: dict[int, set[int]] = {}
        work = [(start, 0)]
        deepest, chain, indirect = 0, (name,), set[str]()
        while work:
            address, depth = work.pop()
            line = self._listing.lines.get(address)
            depths = seen.setdefault(address, set())
            if line is None or depth in depths:
                continue
            depths.add(depth)
            step = self._read(line)
            grown = self._frame(line) if step.grows is None else depth + step.grows
            if len(depths) > _MANY_DEPTHS:
                raise _unbounded(f"{line.function} grows its stack in a loop")
            reached = max(grown, depth + step.peak)
            deepest, chain = (reached, (name,)) if reached > deepest else (deepest, chain)
            if step.flow in (_Flow.CALL, _Flow.TABLE) and step.target is not None:
                callee = self._function(step.target)
                needed = grown + self._pushed_by_call + callee.bytes
                deepest, chain = (needed, (name, *callee.chain)) if needed > deepest else (deepest, chain)
                indirect.update(callee.indirect)
            if step.flow is _Flow.TABLE:
                unseen = [a for a in self._listing.code_of(line.function) if a not in seen]
                work += [(a, grown) for a in unseen]
                if not unseen and step.target is None:
                    indirect.add(line.function)
            if step.flow in (_Flow.CALL_POINTER, _Flow.JUMP_POINTER):
                indirect.add(line.function)
            work += [(a, grown) for a in self._next(line, step)]
        return StackBound(deepest, chain, tuple(sorted(indirect)))

    def _next(self, line: _Line, step: _Step) -> list[int]:
        on = [line.following] if line.following is not None else []
        there = [step.target] if step.target is not None else []
        match step.flow:
            case _Flow.NEXT | _Flow.CALL_POINTER | _Flow.CALL:
                return on
            case _Flow.BRANCH:
                return on + there
            case _Flow.JUMP:
                if there and "@plt" in self._name(there[0]):  # a tail call out of the program
                    return []
                return there
            case _:
                return []

    def _frame(self, line: _Line) -> int:
        """The whole frame of the function an instruction is in, when the instruction does not tell."""
        for name in (line.function, re.sub(r"\.\d+$", "", line.function)):
            if name in self._frames:
                return self._frames[name][0]
        raise _unbounded(f"{line.function}: {line.mnemonic} {line.operands}")

    def _name(self, address: int) -> str:
        line = self._listing.lines.get(address)
        return line.function if line else f"0x{address:x}"


def _unbounded(what: str) -> CompileError:
    return CompileError("MM804", f"the stack has no bound: {what}", exit=Exit.INTERNAL)


def _reader(target: Target) -> Callable[[_Line], _Step]:
    """The instruction set is recognised by the name of its tools; without a prefix it is this machine's."""
    for prefix, reader in (("arm-", _arm), ("aarch64-", _aarch64), ("riscv", _riscv)):
        if target.objdump.startswith(prefix):
            return reader
    return _x86


def _address(operands: str) -> int | None:
    """The target of `b 8010 <f+0x10>`: the last operand."""
    found = re.search(r"(?:^|[\s,])(?:0x)?([0-9a-f]+) <[^>]*>$", operands)
    return int(found[1], 16) if found else None


def _register_bytes(registers: str) -> int:
    """Bytes of a list such as `r4, r5, lr` or `d8-d15`."""
    width = {"q": 16, "d": 8}
    total = 0
    for item in registers.replace(" ", "").split(","):
        lo, _, hi = item.partition("-")
        count = int(hi[1:]) - int(lo[1:]) + 1 if hi else 1
        total += count * width.get(item[0], 4)
    return total


_ARM_CONDITION = r"(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)"


def _arm(line: _Line) -> _Step:
    """Thumb."""
    mnemonic = re.sub(r"\.[nw]$", "", line.mnemonic)
    condition = re.search(rf"{_ARM_CONDITION}$", mnemonic)
    target = _address(line.operands)
    flow = _Flow.NEXT
    loads_pc = re.match(r"(pop|ldm).*\bpc\b|ldr\w* pc,", f"{mnemonic} {line.operands}")
    if mnemonic == "bl":
        table = "<__gnu_thumb1_case" in line.operands
        far_jump = f"<{line.function}+0x" in line.operands  # Armv6-M has no long branch; GCC saved lr before
        flow = _Flow.TABLE if table else _Flow.JUMP if far_jump else _Flow.CALL
    elif mnemonic in ("b", "cbz", "cbnz", "le", "letp", "wls", "wlstp") or re.match(
        rf"b{_ARM_CONDITION}$|wlstp\.|letp\.", mnemonic
    ):
        flow = _Flow.JUMP if mnemonic == "b" else _Flow.BRANCH
    elif mnemonic.startswith("blx"):
        flow = _Flow.CALL_POINTER
    elif re.match(rf"bx{_ARM_CONDITION}?$", mnemonic):
        flow = _Flow.RETURN if line.operands == "lr" else _Flow.JUMP_POINTER
    elif loads_pc and re.search(r"\bsp\b|^\{", line.operands):
        flow = _Flow.RETURN
    elif loads_pc or mnemonic in ("tbb", "tbh") or re.match(r"(mov|add) ?pc,", f"{mnemonic} {line.operands}"):
        flow = _Flow.TABLE
    elif mnemonic in ("udf", "bkpt"):
        flow = _Flow.RETURN
    if flow is _Flow.RETURN and condition and mnemonic not in ("udf", "bkpt"):
        return _Step(_Flow.NEXT)
    return _Step(flow, _arm_growth(mnemonic, line.operands), target)


def _arm_growth(mnemonic: str, operands: str) -> int | None:
    registers = re.search(r"\{(.*)\}", operands)
    amount = re.search(r"#(-?\d+)", operands)
    writes_sp = operands.startswith("sp")
    grows: int | None = 0
    if (
        registers
        and re.match(r"v?push|v?stmdb", mnemonic)
        and ("push" in mnemonic or operands.startswith("sp!"))
    ):
        grows = _register_bytes(registers[1])
    elif (
        registers and re.match(r"v?pop|v?ldm", mnemonic) and ("pop" in mnemonic or operands.startswith("sp!"))
    ):
        grows = -_register_bytes(registers[1])
    elif before := re.search(r"\[sp, #-(\d+)\]!$", operands):
        grows = int(before[1])
    elif after := re.search(r"\[sp\], #(\d+)$", operands):
        grows = -int(after[1])
    elif re.match(r"(add|sub)w?$", mnemonic) and writes_sp:
        from_sp = operands.count(",") == 1 or operands.startswith("sp, sp")
        if from_sp:
            grows = None if amount is None else int(amount[1]) * (1 if mnemonic.startswith("sub") else -1)
    elif writes_sp and (
        re.match(r"bic|and|orr", mnemonic) or re.match(r"mov sp, r(?!7|11)", f"{mnemonic} {operands}")
    ):
        grows = None  # r7 and r11 are frame pointers: from them the stack is released
    return grows


def _aarch64(line: _Line) -> _Step:
    mnemonic, operands = line.mnemonic, line.operands
    target = _address(operands)
    grows: int | None = 0
    if before := re.search(r"\[sp, #-(\d+)\]!$", operands):
        grows = int(before[1])
    elif after := re.search(r"\[sp\], #(\d+)$", operands):
        grows = -int(after[1])
    elif mnemonic in ("add", "sub") and operands.startswith("sp, sp,"):
        amount = re.match(r"sp, sp, #0x([0-9a-f]+)(?:, lsl #(\d+))?$", operands)
        if amount is None:
            grows = None
        else:
            grows = int(amount[1], 16) << int(amount[2] or 0)
            grows = grows if mnemonic == "sub" else -grows
    elif mnemonic == "and" and operands.startswith("sp,"):
        grows = None
    flow = _Flow.NEXT
    if mnemonic == "bl":
        flow = _Flow.CALL
    elif mnemonic == "b":
        flow = _Flow.JUMP
    elif mnemonic.startswith("b.") or mnemonic in ("cbz", "cbnz", "tbz", "tbnz"):
        flow = _Flow.BRANCH
    elif mnemonic == "blr":
        flow = _Flow.CALL_POINTER
    elif mnemonic == "br":
        flow = _Flow.TABLE
    elif mnemonic in ("ret", "udf", "brk"):
        flow = _Flow.RETURN
    return _Step(flow, grows, target)


def _riscv(line: _Line) -> _Step:
    mnemonic, operands = line.mnemonic, line.operands
    target = _address(operands)
    grows: int | None = 0
    if mnemonic in ("addi", "add", "sub") and operands.startswith("sp,sp,"):
        amount = re.match(r"sp,sp,(-?\d+)$", operands)
        grows = -int(amount[1]) if amount else None
    elif mnemonic in ("and", "andi") and operands.startswith("sp,"):
        grows = None
    flow = _Flow.NEXT
    if save := re.search(r"<__riscv_(save|restore)_(\d+)>$", operands):  # prologue and epilogue, out of line
        if save[1] == "restore":
            return _Step(_Flow.RETURN)
        return _Step(_Flow.NEXT, -(-(int(save[2]) + 1) * 4 // 16) * 16, peak=64)
    if mnemonic in ("jal", "jalr") or mnemonic in ("j", "jr"):
        if mnemonic in ("jalr", "jr"):  # the target of auipc + jalr is in the comment
            target = _address(line.comment)
        jumps = mnemonic in ("j", "jr")
        known = target is not None
        flow = (
            (_Flow.JUMP if known else _Flow.TABLE) if jumps else (_Flow.CALL if known else _Flow.CALL_POINTER)
        )
    elif mnemonic.startswith("b"):
        flow = _Flow.BRANCH
    elif mnemonic in ("ret", "unimp", "ebreak", "mret"):
        flow = _Flow.RETURN
    return _Step(flow, grows, target)


def _x86(line: _Line) -> _Step:
    words = [
        w for w in f"{line.mnemonic} {line.operands}".split() if w not in ("bnd", "notrack", "repz", "rep")
    ]
    mnemonic, operands = words[0], " ".join(words[1:])
    target = _address(operands)
    grows: int | None = 0
    if mnemonic.startswith("push"):
        grows = 8
    elif mnemonic.startswith("pop") and operands.startswith("%"):
        grows = -8
    elif re.match(r"(add|sub|and|lea)q?$", mnemonic) and operands.endswith("%rsp"):
        grows = _x86_growth(mnemonic, operands)
    flow = _Flow.NEXT
    if mnemonic.startswith("call"):
        flow = _Flow.CALL_POINTER if operands.startswith("*") else _Flow.CALL
    elif mnemonic.startswith("jmp"):
        flow = _Flow.TABLE if operands.startswith("*") else _Flow.JUMP
    elif mnemonic.startswith("j"):
        flow = _Flow.BRANCH
    elif mnemonic.startswith("ret") or mnemonic in ("hlt", "ud2"):
        flow = _Flow.RETURN
    return _Step(flow, grows, target)


def _x86_growth(mnemonic: str, operands: str) -> int | None:
    amount = re.match(r"\$(-?)0x([0-9a-f]+),%rsp$", operands)
    moved = re.match(r"(-?)0x([0-9a-f]+)\(%rsp\),%rsp$", operands)
    found = moved if mnemonic.startswith("lea") else amount
    if found is None:
        return 0 if mnemonic.startswith("lea") else None  # lea from another register restores
    number = int(found[2], 16) * (-1 if found[1] else 1)
    number = number - (1 << 64) if number >> 63 else number
    if mnemonic.startswith("and"):
        return -number - 1 if number < 0 else None  # alignment: at most this much
    return number if mnemonic.startswith("sub") else -number
