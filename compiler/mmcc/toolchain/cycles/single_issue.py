# SPDX-License-Identifier: Apache-2.0
"""Cores that begin one instruction at a time: Cortex-M0+, M3, M4 and M33, memory without wait states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmcc.toolchain.cycles.decode import Instruction, Kind


@dataclass(frozen=True, slots=True)
class SingleIssue:
    """Cycles of each kind of instruction.

    `pipelined`: a load or store right behind a load takes a cycle less, if its address does not need what is
    loaded. `forwards`: a load takes one cycle, and one more only if the next instruction reads what it loads.
    `address_stall`: an address that needs the result of the instruction before takes a cycle more.
    `refill`: cycles of a branch that is taken, beyond its first; with `unaligned` more, if a 32-bit
    instruction that is there is not at a multiple of 4.
    """

    load: int
    store: int
    several: int  # of a load or store of several registers, beyond one for each
    long_multiply: int
    accumulate: int  # a multiplication that adds, beyond 1
    divide: int
    refill: int
    unaligned: int
    call: int
    jump: int
    table: int  # what is loaded into the program counter, beyond the load
    pipelined: bool = False
    forwards: bool = False
    address_stall: bool = False
    float_mac: int = 3
    float_long: int = 14

    def block(self, code: Sequence[Instruction]) -> float:
        """Cycles of instructions one after the other; a branch at the end is not taken."""
        total = 0.0
        before: Instruction | None = None
        for one in code:
            total += self._cycles(one) + self._behind(one, before)
            before = one
        return total

    def taken(self, branch: Instruction, target: Instruction | None) -> float:
        """What it costs more that the program does not go on behind a block that ends with `branch`."""
        if branch.kind is not Kind.BRANCH:
            return 0.0  # in `block` already: these are always taken
        far = target is not None and target.wide and target.at % 4 != 0
        return self.refill + (self.unaligned if far else 0)

    def missed(self, taken: int, on: int) -> float:
        """What it costs that a branch was predicted wrongly: nothing is predicted."""
        return 0.0

    def _cycles(self, one: Instruction) -> float:
        kind = one.kind
        table = {
            Kind.LOAD: 1 if self.forwards else self.load,
            Kind.LOAD_PART: 1 if self.forwards else self.load,
            Kind.STORE: self.store + (1 if one.indexed and self.pipelined else 0),
            Kind.LOADS: self.several + one.registers,
            Kind.STORES: self.several + one.registers,
            Kind.LONG_MULTIPLY: self.long_multiply,
            Kind.MULTIPLY: 1 + (self.accumulate if one.late else 0),
            Kind.DIVIDE: self.divide,
            Kind.CALL: self.call,
            Kind.JUMP: self.jump,
            Kind.TABLE: self.load + one.registers - 1 + self.table,
            Kind.FLOAT_MAC: self.float_mac,
            Kind.FLOAT_LONG: self.float_long,
        }
        return table.get(kind, 1)

    def _behind(self, one: Instruction, before: Instruction | None) -> float:
        """What the instruction before adds or saves."""
        if before is None:
            return 0.0
        loads = before.kind in (Kind.LOAD, Kind.LOAD_PART)
        if self.forwards:
            return 1.0 if before.writes & one.reads and (loads or _multiplies(before, one)) else 0.0
        more = 0.0
        memory = one.kind in (Kind.LOAD, Kind.LOAD_PART, Kind.STORE)
        if self.pipelined and memory and loads and not before.writes & one.address:
            more -= 1.0 if one.kind is not Kind.STORE or one.indexed else 0.0
        if self.address_stall and memory and not loads and before.writes & one.address:
            more += 1.0
        return more


def _multiplies(before: Instruction, one: Instruction) -> bool:
    """True of a product that the next instruction needs at once, and not just to add to it."""
    product = before.kind in (Kind.MULTIPLY, Kind.LONG_MULTIPLY)
    return product and bool(before.writes & (one.reads - one.late))
