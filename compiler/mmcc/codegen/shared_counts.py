# SPDX-License-Identifier: Apache-2.0
"""Counts of rows that a step and its functions go on with together: in C one struct, known by its address."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmcc.ir.program import Counts, For, Step

MADE = "made"  # the struct where it is a variable, and the parameter that points to it


@dataclass(frozen=True, slots=True)
class SharedCounts:
    """The counts of one step, as its statements see them, or those of its functions (`pointed`)."""

    struct: str  # name of the type
    members: tuple[str, ...]
    strips: bool  # calls differ from strip to strip, so that functions must know which it is
    pointed: bool = False

    @staticmethod
    def of(step: Step, struct: str, *, strips: bool) -> SharedCounts:
        """What a step shares with its functions."""
        inside = [s for loop in step.body if isinstance(loop, For) for s in loop.body]  # of the strips
        shared = [s for s in (*step.body, *inside) if isinstance(s, Counts)]
        return SharedCounts(struct, tuple(name for counts in shared for name in counts.vars), strips)

    def in_c(self, expression: str) -> str:
        """An expression, its shared counts as members of the struct."""
        arrow = "->" if self.pointed else "."
        return re.sub(
            r"\by\d+\b", lambda m: f"{MADE}{arrow}{m[0]}" if m[0] in self.members else m[0], expression
        )

    @property
    def parameters(self) -> str:
        """Those of a function, `until` apart."""
        return f"uint8_t *const *memory, {self.struct} *{MADE}{', int32_t strip' if self.strips else ''}"

    @property
    def arguments(self) -> str:
        """Those of a call, `until` apart."""
        return f"memory, {'' if self.pointed else '&'}{MADE}{', strip' if self.strips else ''}"

    @property
    def declared(self) -> list[str]:
        """The lines of the type."""
        return ["typedef struct {", *(f"    int32_t {name};" for name in self.members), f"}} {self.struct};"]
