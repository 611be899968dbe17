# SPDX-License-Identifier: Apache-2.0
"""x86-64 instructions: what they do to the stack pointer and to the flow."""

from __future__ import annotations

import re

from mmcc.toolchain.stack.listing import Flow, Line, Step, address_in


def read(line: Line) -> Step:
    """The effect of one instruction. What restores the stack pointer from a register counts as nothing."""
    words = [
        w for w in f"{line.mnemonic} {line.operands}".split() if w not in ("bnd", "notrack", "repz", "rep")
    ]
    mnemonic, operands = words[0], " ".join(words[1:])
    target = address_in(operands)
    grows: int | None = 0
    if mnemonic.startswith("push"):
        grows = 8
    elif mnemonic.startswith("pop") and operands.startswith("%"):
        grows = -8
    elif re.match(r"(add|sub|and|lea)q?$", mnemonic) and operands.endswith("%rsp"):
        grows = _x86_growth(mnemonic, operands)
    flow = Flow.NEXT
    if mnemonic.startswith("call"):
        flow = Flow.CALL_POINTER if operands.startswith("*") else Flow.CALL
    elif mnemonic.startswith("jmp"):
        flow = Flow.TABLE if operands.startswith("*") else Flow.JUMP
    elif mnemonic.startswith("j"):
        flow = Flow.BRANCH
    elif mnemonic.startswith("ret") or mnemonic in ("hlt", "ud2"):
        flow = Flow.RETURN
    return Step(flow, grows, target)


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
