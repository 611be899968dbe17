# SPDX-License-Identifier: Apache-2.0
"""AArch64 instructions: what they do to the stack pointer and to the flow."""

from __future__ import annotations

import re

from mmcc.toolchain.stack.listing import Flow, Line, Step, address_in


def read(line: Line) -> Step:
    """The effect of one instruction."""
    mnemonic, operands = line.mnemonic, line.operands
    target = address_in(operands)
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
    flow = Flow.NEXT
    if mnemonic == "bl":
        flow = Flow.CALL
    elif mnemonic == "b":
        flow = Flow.JUMP
    elif mnemonic.startswith("b.") or mnemonic in ("cbz", "cbnz", "tbz", "tbnz"):
        flow = Flow.BRANCH
    elif mnemonic == "blr":
        flow = Flow.CALL_POINTER
    elif mnemonic == "br":
        flow = Flow.TABLE
    elif mnemonic in ("ret", "udf", "brk"):
        flow = Flow.RETURN
    return Step(flow, grows, target)
