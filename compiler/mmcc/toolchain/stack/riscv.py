# SPDX-License-Identifier: Apache-2.0
"""RISC-V instructions: what they do to the stack pointer and to the flow."""

from __future__ import annotations

import re

from mmcc.toolchain.stack.listing import Flow, Line, Step, address_in


def read(line: Line) -> Step:
    """The effect of one instruction."""
    mnemonic, operands = line.mnemonic, line.operands
    target = address_in(operands)
    grows: int | None = 0
    if mnemonic in ("addi", "add", "sub") and operands.startswith("sp,sp,"):
        amount = re.match(r"sp,sp,(-?\d+)$", operands)
        grows = -int(amount[1]) if amount else None
    elif mnemonic in ("and", "andi") and operands.startswith("sp,"):
        grows = None
    flow = Flow.NEXT
    if save := re.search(r"<__riscv_(save|restore)_(\d+)>$", operands):  # prologue and epilogue, out of line
        if save[1] == "restore":
            return Step(Flow.RETURN)
        return Step(Flow.NEXT, -(-(int(save[2]) + 1) * 4 // 16) * 16, peak=64)
    if mnemonic in ("jal", "jalr") or mnemonic in ("j", "jr"):
        if mnemonic in ("jalr", "jr"):  # the target of auipc + jalr is in the comment
            target = address_in(line.comment)
        jumps = mnemonic in ("j", "jr")
        known = target is not None
        flow = (Flow.JUMP if known else Flow.TABLE) if jumps else (Flow.CALL if known else Flow.CALL_POINTER)
    elif mnemonic.startswith("b"):
        flow = Flow.BRANCH
    elif mnemonic in ("ret", "unimp", "ebreak", "mret"):
        flow = Flow.RETURN
    return Step(flow, grows, target)
