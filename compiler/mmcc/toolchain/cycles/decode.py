# SPDX-License-Identifier: Apache-2.0
"""Thumb instructions as the cycle model sees them: what they do, and which registers they read and write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from mmcc.toolchain.stack.listing import Line, address_in


class Kind(Enum):
    """Instructions that cost alike."""

    DATA = auto()
    SHIFTED = auto()  # an operand goes through the shifter first
    PARALLEL = auto()  # DSP: halves and bytes, extension, saturation, bit fields
    MULTIPLY = auto()
    LONG_MULTIPLY = auto()
    DIVIDE = auto()
    LOAD = auto()
    LOAD_PART = auto()  # bytes and halves
    STORE = auto()
    LOADS = auto()  # several registers
    STORES = auto()
    BRANCH = auto()
    CALL = auto()
    JUMP = auto()  # to an address in a register
    TABLE = auto()  # to one that is loaded
    FLOAT = auto()
    FLOAT_MAC = auto()
    FLOAT_LONG = auto()  # division, square root
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; registers by name."""

    kind: Kind
    mnemonic: str
    reads: frozenset[str]  # early or not
    writes: frozenset[str]
    address: frozenset[str]  # of those read: parts of an address
    late: frozenset[str]  # of those read: what is added to or stored, not needed before the others
    registers: int  # loaded or stored
    indexed: bool  # a store to a sum of registers
    wide: bool  # 32 bits
    at: int
    target: int | None


_CONDITION = "(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)"
_REGISTER = re.compile(r"\b(r\d+|sl|fp|ip|sp|lr|pc|s\d+|d\d+)\b")
_SAME = {"r10": "sl", "r11": "fp", "r12": "ip", "r13": "sp", "r14": "lr", "r15": "pc"}
_TWO_OPERANDS = re.compile(r"(add|sub|and|orr|eor|bic|adc|sbc|lsl|lsr|asr|ror|mul|orn|rsb)s?w?$")
_MOVES_INTO = re.compile(r"movt|bf[ic]|v?fn?m[as]|vn?ml[as]")


def decode(line: Line, at: int) -> Instruction:
    """What a line of a disassembly is."""
    mnemonic = re.sub(r"\.[nw]$", "", line.mnemonic)
    kind = _kind(mnemonic, line.operands)
    outside, inside = _split(line.operands)
    registers = _registers(outside)
    address = frozenset(_registers(inside))
    reads, writes, late = _effects(kind, mnemonic, registers)
    if kind in (Kind.LOADS, Kind.STORES) and "{" in line.operands:
        base = _registers(line.operands.split("{")[0]) or ["sp"]
        listed = _list(line.operands)
        address = frozenset(base)
        moved: frozenset[str] = frozenset(listed)
        nothing: frozenset[str] = frozenset()
        reads, writes = (nothing, moved) if kind is Kind.LOADS else (moved, nothing)
        late, registers = reads, listed
        if "!" in line.operands or mnemonic.endswith(("push", "pop")):
            writes |= address
    elif kind is Kind.TABLE and "{" in line.operands:
        registers = _list(line.operands)
    elif "!" in line.operands or re.search(r"\], [#r]", line.operands):
        writes |= frozenset(_registers(inside)[:1])
    return Instruction(
        kind,
        mnemonic,
        reads | address,
        writes,
        address,
        late,
        max(1, len(registers)) if kind in (Kind.LOADS, Kind.STORES, Kind.TABLE) and mnemonic[0] != "t" else 1,
        kind is Kind.STORE and len(address) > 1,
        line.following is not None and line.following - at == 4,
        at,
        address_in(line.operands) if kind in (Kind.BRANCH, Kind.CALL) else None,
    )


def _kind(mnemonic: str, operands: str) -> Kind:
    into_pc = re.match(r"(?:ldr\S* pc,|(?:pop|ldm)\S* .*\bpc\b)", f"{mnemonic} {operands}")
    if into_pc or mnemonic in ("tbb", "tbh"):
        return Kind.TABLE
    shifted = re.search(r"\b(lsl|lsr|asr|ror|rrx)\b", operands)
    other = Kind.SHIFTED if shifted else Kind.DATA
    return next((kind for pattern, kind in _KINDS if re.match(pattern, mnemonic)), other)


_KINDS = (
    (rf"b{_CONDITION}?$|cbn?z$", Kind.BRANCH),
    (r"bl$", Kind.CALL),
    (r"blx|bx", Kind.JUMP),
    (r"ldrd|ldm|pop|vpop|vldm", Kind.LOADS),
    (r"strd|stm|push|vpush|vstm", Kind.STORES),
    (r"ldr(s?[bh])", Kind.LOAD_PART),
    (r"ldr|vldr", Kind.LOAD),
    (r"str|vstr", Kind.STORE),
    (r"[su]div", Kind.DIVIDE),
    (r"vdiv|vsqrt", Kind.FLOAT_LONG),
    (r"vn?ml[as]|vfn?m[as]", Kind.FLOAT_MAC),
    (r"it[te]*$|nop|dmb|dsb|isb|mrs|msr|cps|hint|pld", Kind.OTHER),
    (r"v", Kind.FLOAT),
    (r"[su]mull|[su]mlal|umaal|smlsld", Kind.LONG_MULTIPLY),
    (r"mul|mla|mls|smul|smla|smml|smuad|smusd|smls", Kind.MULTIPLY),
    (
        r"[su]xt|[su]sat|pkh|rev|rbit|[su]bfx|bf[ic]|sel|clz|usad|q|[su]h?(?:add|sub|asx|sax)\d*$",
        Kind.PARALLEL,
    ),
)


def _split(operands: str) -> tuple[str, str]:
    """What is outside of the brackets of an address, with what is added afterwards, and what is inside."""
    found = re.search(r"\[(.*?)\]", operands)
    if found is None:
        return re.sub(r"<.*>", "", operands), ""
    return operands[: found.start()], found[1] + operands[found.end() :]


def _registers(text: str) -> list[str]:
    found: list[str] = _REGISTER.findall(text)
    return [_SAME.get(name, name) for name in found]


def _list(operands: str) -> list[str]:
    """The registers in braces; of a range each."""
    found: list[str] = []
    inside = re.search(r"\{(.*)\}", operands)
    for item in (inside[1] if inside else "").replace(" ", "").split(","):
        first, _, last = item.partition("-")
        if last:
            letter = first[0]
            found += [f"{letter}{k}" for k in range(int(first[1:]), int(last[1:]) + 1)]
        elif first:
            found.append(first)
    return [_SAME.get(name, name) for name in found]


def _effects(
    kind: Kind, mnemonic: str, registers: list[str]
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Registers read, written, and of those read what is needed late."""
    everything = frozenset(registers)
    if kind in (Kind.STORE, Kind.STORES):
        return everything, frozenset(), everything
    if kind in (Kind.BRANCH, Kind.CALL, Kind.JUMP, Kind.OTHER) or re.match(r"cmp|cmn|tst|teq|vcmp", mnemonic):
        return everything, frozenset(), frozenset()
    results = 2 if kind in (Kind.LOADS, Kind.LONG_MULTIPLY) else 1
    writes, operands = frozenset(registers[:results]), frozenset(registers[results:])
    late: frozenset[str] = frozenset()
    if (
        kind is Kind.LONG_MULTIPLY and re.match(r"[su]mlal|smlsld|umaal", mnemonic)
    ) or kind is Kind.FLOAT_MAC:
        late = writes
    elif kind is Kind.MULTIPLY and len(registers) == 4:
        late = frozenset(registers[3:])
    elif _MOVES_INTO.match(mnemonic) or (len(registers) <= 2 and _TWO_OPERANDS.match(mnemonic)):
        operands |= writes
    return operands | late, writes, late
