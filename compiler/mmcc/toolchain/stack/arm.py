# SPDX-License-Identifier: Apache-2.0
"""Thumb instructions: what they do to the stack pointer and to the flow."""

from __future__ import annotations

import re

from mmcc.toolchain.stack.listing import Flow, Line, Step, address_in


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


def read(line: Line) -> Step:
    """The effect of one Thumb instruction."""
    mnemonic = re.sub(r"\.[nw]$", "", line.mnemonic)
    condition = re.search(rf"{_ARM_CONDITION}$", mnemonic)
    target = address_in(line.operands)
    flow = Flow.NEXT
    loads_pc = re.match(r"(pop|ldm).*\bpc\b|ldr\w* pc,", f"{mnemonic} {line.operands}")
    if mnemonic == "bl":
        table = "<__gnu_thumb1_case" in line.operands
        far_jump = f"<{line.function}+0x" in line.operands  # Armv6-M has no long branch; GCC saved lr before
        flow = Flow.TABLE if table else Flow.JUMP if far_jump else Flow.CALL
    elif mnemonic in ("b", "cbz", "cbnz", "le", "letp", "wls", "wlstp") or re.match(
        rf"b{_ARM_CONDITION}$|wlstp\.|letp\.", mnemonic
    ):
        flow = Flow.JUMP if mnemonic == "b" else Flow.BRANCH
    elif mnemonic.startswith("blx"):
        flow = Flow.CALL_POINTER
    elif re.match(rf"bx{_ARM_CONDITION}?$", mnemonic):
        flow = Flow.RETURN if line.operands == "lr" else Flow.JUMP_POINTER
    elif loads_pc and re.search(r"\bsp\b|^\{", line.operands):
        flow = Flow.RETURN
    elif loads_pc or mnemonic in ("tbb", "tbh") or re.match(r"(mov|add) ?pc,", f"{mnemonic} {line.operands}"):
        flow = Flow.TABLE
    elif mnemonic in ("udf", "bkpt"):
        flow = Flow.RETURN
    if flow is Flow.RETURN and condition and mnemonic not in ("udf", "bkpt"):
        return Step(Flow.NEXT)
    return Step(flow, _arm_growth(mnemonic, line.operands), target)


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
