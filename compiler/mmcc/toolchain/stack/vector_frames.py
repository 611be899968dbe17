# SPDX-License-Identifier: Apache-2.0
"""By how much RISC-V code moves the stack pointer where it keeps vector registers there.

How long a register is the processor says when the program runs (vlenb, in bytes), so a frame takes a multiple
of that: `csrr a5,vlenb; li a6,14; mul a5,a5,a6; sub sp,sp,a5`. Amounts are followed from where vlenb is read
to where the stack pointer moves, through straight code only. What is not understood has no amount.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmcc.toolchain.stack.listing import Flow, Listing
from mmcc.toolchain.stack.riscv import read

_MOST = 16  # instructions from where vlenb is read to where the stack pointer moves


@dataclass(frozen=True, slots=True)
class _Amount:
    """So many bytes, and so many vector registers."""

    bytes: int
    registers: int

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.bytes + other.bytes, self.registers + other.registers)

    def __mul__(self, times: int) -> _Amount:
        return _Amount(self.bytes * times, self.registers * times)


def grows_by(listing: Listing, address: int, register_bytes: int) -> int | None:
    """Bytes by which an instruction makes the stack grow (below 0: shrink) on a processor with registers of
    `register_bytes`; None if its amount is not understood."""
    line = listing.lines[address]
    operands = line.operands.split(",")
    if line.mnemonic in ("and", "andi") and (aligned := re.fullmatch(r"sp,sp,-(\d+)", line.operands)):
        return int(aligned[1])  # at most: down to a multiple
    if line.mnemonic not in ("add", "sub") or operands[:2] != ["sp", "sp"] or len(operands) != 3:
        return None
    known: dict[str, _Amount] = {}
    for before in _straight_code(listing, address):
        _follow(known, listing.lines[before].mnemonic, listing.lines[before].operands.split(","))
    amount = known.get(operands[2])
    if amount is None:
        return None
    moved = amount.bytes + amount.registers * register_bytes
    return moved if line.mnemonic == "sub" else -moved


def _straight_code(listing: Listing, address: int) -> list[int]:
    """The instructions before one that are always run before it, one after the other; at most `_MOST`."""
    code = listing.members[listing.lines[address].function]
    steps = {at: read(listing.lines[at]) for at in code}
    entered = {step.target for step in steps.values() if step.target is not None}
    found: list[int] = []
    at = code.index(address)
    while at > 0 and len(found) < _MOST and code[at] not in entered:
        at -= 1
        step = steps[code[at]]
        if step.flow is not Flow.NEXT or step.peak:  # may change registers elsewhere
            break
        found.append(code[at])
    return found[::-1]


def _follow(known: dict[str, _Amount], mnemonic: str, operands: list[str]) -> None:
    """What registers hold after an instruction; of others that write a register nothing is known."""
    to, values = operands[0], [_value(known, operand) for operand in operands[1:]]
    known.pop(to, None)
    match mnemonic, values:
        case "csrr", _ if operands[1:] == ["vlenb"]:
            known[to] = _Amount(0, 1)
        case (("li" | "mv"), [_Amount() as value]):
            known[to] = value
        case (("add" | "addi"), [_Amount() as a, _Amount() as b]):
            known[to] = a + b
        case "sub", [_Amount() as a, _Amount() as b]:
            known[to] = a + b * -1
        case (("sll" | "slli"), [_Amount() as a, _Amount(shift, 0)]) if 0 <= shift < 16:
            known[to] = a * (1 << shift)
        case (("sh1add" | "sh2add" | "sh3add"), [_Amount() as a, _Amount() as b]):
            known[to] = a * (1 << int(mnemonic[2])) + b
        case "mul", [_Amount() as a, _Amount(times, 0)]:
            known[to] = a * times
        case "mul", [_Amount(times, 0), _Amount() as b]:
            known[to] = b * times
        case _:
            pass


def _value(known: dict[str, _Amount], operand: str) -> _Amount | None:
    """What an operand is: a register's amount or a number."""
    try:
        return _Amount(int(operand, 0), 0)
    except ValueError:
        return _Amount(0, 0) if operand == "zero" else known.get(operand)
