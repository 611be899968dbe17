# SPDX-License-Identifier: Apache-2.0
"""What the header of functions that the user writes says of each (`templates/handoff.h.j2`)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from mmcc.ir.handoff import Handoff
from mmcc.ir.module import Module
from mmcc.ir.program import Program


@dataclass(frozen=True, slots=True)
class HandoffText:
    """One function: the members of its struct, a number that is another for other members, and its nodes."""

    function: str
    op: str
    members: tuple[str, ...]
    nodes: tuple[str, ...]
    promise: str
    order: str  # of the axes of weights; "" as the op has them

    @property
    def form(self) -> int:
        return zlib.crc32("; ".join((self.op, *self.members, self.order, self.promise)).encode())


def handoff_texts(module: Module, program: Program) -> tuple[HandoffText, ...]:
    """One text for each function that the program calls."""
    found: dict[str, HandoffText] = {}
    for entry, code in zip(module.entries, program.entries, strict=True):
        for node in code.nodes:
            handoff = entry.graph.nodes[node.index].handoff
            if handoff is None:
                continue
            options = dict(node.use.options)
            members = tuple(declared for declared, _ in options["members"])
            before = found[handoff.function].nodes if handoff.function in found else ()
            nodes = (*before, node.label)
            found[handoff.function] = HandoffText(
                handoff.function, options["op"], members, nodes, _promise(handoff), handoff.weights
            )
    return tuple(found.values())


def _promise(handoff: Handoff) -> str:
    """What the function may rely on."""
    aligned = f"aligned to {handoff.align}" if handoff.align > 1 else "of any alignment"
    if handoff.whole:
        parts = f"Called once; tensors, {aligned}, are whole and dense."
        over = "y shares no byte with them."
    else:
        parts = "Called for some rows at a time, each once, in order; tensors may be rings."
        over = "A row of y may lie over rows that only those before it read."
    if handoff.in_place:
        over = "y may lie over what it is made of, or lower: read an element before you write there."
    return f"{parts} {over}"


def stand_in(prefix: str, functions: Iterable[str]) -> str:
    """C of functions that do nothing, so that a package can be linked and measured without the user's."""
    lines = [f'#include "{prefix}_handoff.h"']
    for function in functions:
        lines += [
            "",
            f"void {function}(const {function}_call *call)",
            "{",
            "    (void)call;",
            "}",
        ]
    return "\n".join(lines) + "\n"
