# SPDX-License-Identifier: Apache-2.0
"""An entry of a package as the generated C shows it."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.codegen.ports import PortText
from mmcc.ir.module import RUN


def _parameter(port: PortText) -> str:
    """How a function takes a port itself; "" where it is in memory that the caller fills or reads."""
    if port.argument:
        return f"{port.ctype} {'' if port.kind == 'input' else '*'}{port.symbol}"
    constant = "const " if port.kind == "input" else ""
    return f"{constant}{port.ctype} *{port.symbol}" if port.external else ""


@dataclass(frozen=True, slots=True)
class EntryText:
    """One function of the package: its name behind the prefix, inputs and outputs, and lines of its body.

    `functions` are the lines of those that make rows for it, and stand before it.
    """

    name: str
    ports: tuple[PortText, ...]
    body: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    pages: bool = False  # values go to slow memory and come back

    @property
    def heading(self) -> str:
        """What macros of the entry begin with behind the prefix."""
        return "" if self.name == RUN else f"{self.name.upper()}_"

    @property
    def comment(self) -> str:
        """What it is, in the header."""
        return "One inference." if self.name == RUN else f"One call of {self.name}."

    @property
    def parameters(self) -> str:
        """Parameters of the C function behind its context."""
        return "".join(f", {text}" for text in map(_parameter, self.ports) if text)

    @property
    def arguments(self) -> tuple[PortText, ...]:
        """Single numbers that the function takes or gives."""
        return tuple(port for port in self.ports if port.argument)

    @property
    def inputs(self) -> tuple[PortText, ...]:
        return tuple(port for port in self.ports if port.kind == "input")

    @property
    def outputs(self) -> tuple[PortText, ...]:
        return tuple(port for port in self.ports if port.kind == "output")
