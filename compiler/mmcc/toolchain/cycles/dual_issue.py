# SPDX-License-Identifier: Apache-2.0
"""Cores that begin two instructions at a time, in order: Cortex-M7, memory without wait states.

Which two go together and how long a result takes are those of LLVM's scheduling model for the core
(ARMScheduleM7.td), which counts from the stage in which sums are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmcc.toolchain.cycles.decode import Instruction, Kind

_UNITS = {"load": 2, "store": 1, "alu": 2, "shift": 1, "mac": 1, "branch": 1, "float": 1, "simd": 1}
_USES: dict[Kind, tuple[str, ...]] = {
    Kind.DATA: ("alu",),
    Kind.SHIFTED: ("alu", "shift"),
    Kind.PARALLEL: ("alu", "simd"),
    Kind.MULTIPLY: ("mac",),
    Kind.LONG_MULTIPLY: ("mac",),
    Kind.DIVIDE: ("alu",),
    Kind.LOAD: ("load",),
    Kind.LOAD_PART: ("load",),
    Kind.LOADS: ("load",),
    Kind.STORE: ("store",),
    Kind.STORES: ("store",),
    Kind.BRANCH: ("branch",),
    Kind.CALL: ("branch",),
    Kind.JUMP: ("branch",),
    Kind.TABLE: ("load", "branch"),
    Kind.FLOAT: ("float",),
    Kind.FLOAT_MAC: ("float",),
    Kind.FLOAT_LONG: ("float",),
    Kind.OTHER: (),
}
_LATENCY = {
    Kind.MULTIPLY: 2,
    Kind.LONG_MULTIPLY: 2,
    Kind.DIVIDE: 7,
    Kind.LOAD_PART: 2,
    Kind.FLOAT: 3,
    Kind.FLOAT_MAC: 5,
    Kind.FLOAT_LONG: 16,
}
_ALONE = (Kind.LOADS, Kind.STORES, Kind.DIVIDE, Kind.TABLE, Kind.OTHER)
_EARLY = (Kind.SHIFTED,)  # operands are needed a cycle earlier than sums need theirs


@dataclass(frozen=True, slots=True)
class DualIssue:
    """`wrong`: cycles of a branch that was predicted wrongly; `table`: of a jump to what is loaded."""

    wrong: int
    table: int

    def block(self, code: Sequence[Instruction]) -> float:
        """Cycles of instructions one after the other; of a loop onto itself, those of a round."""
        once = self._run(code)
        last = code[-1]
        if last.kind is Kind.BRANCH and last.target == code[0].at:
            return self._run((*code, *code)) - once
        return once

    def taken(self, branch: Instruction, target: Instruction | None) -> float:
        """What it costs more that the program goes on elsewhere: predicted, nothing."""
        return 0.0

    def missed(self, taken: int, on: int) -> float:
        """A branch is taken to be predicted wrongly as often as it went the way that it rarely goes."""
        return float(self.wrong * min(taken, on))

    def _run(self, code: Sequence[Instruction]) -> int:
        ready: dict[str, int] = {}
        cycle, used, free = 0, 0, Counter(_UNITS)
        for one in code:
            need = max((ready[name] - _advance(one, name) for name in one.reads if name in ready), default=0)
            alone = one.kind in _ALONE
            first = alone or one.kind is Kind.PARALLEL
            full = used == 2 or (first and used) or any(not free[unit] for unit in _USES[one.kind])
            if need > cycle or full:
                cycle, used, free = max(need, cycle + (used > 0)), 0, Counter(_UNITS)
            for name in one.writes:
                ready[name] = cycle + (1 if name in one.address else _LATENCY.get(one.kind, 1))
            if alone:
                length = -(-one.registers // 2) + (self.table if one.kind is Kind.TABLE else 0)
                length = _LATENCY[Kind.DIVIDE] if one.kind is Kind.DIVIDE else length
                cycle, used, free = cycle + length, 0, Counter(_UNITS)
                continue
            used += 1
            free.subtract(_USES[one.kind])
        return cycle + (used > 0)


def _advance(one: Instruction, name: str) -> int:
    """How much later (or earlier, below 0) than the operands of a sum one of an instruction is needed."""
    if name in one.address or one.kind in _EARLY:
        return -1
    return 1 if name in one.late else 0
