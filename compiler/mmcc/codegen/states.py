# SPDX-License-Identifier: Apache-2.0
"""Initial values of states as the generated C shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmcc.codegen.weights import c_values, ctype_of
from mmcc.ir.program import Constant, InitialState


@dataclass(frozen=True, slots=True)
class StateText:
    """Bytes of one state, and the rows of a C array that it begins with; none if all are the byte `fill`."""

    index: int
    offset: int
    bytes: int
    ctype: str
    rows: tuple[str, ...]
    fill: int


def state_texts(states: Iterable[InitialState]) -> tuple[StateText, ...]:
    """One text for each state, in the order of the module."""
    return tuple(_text(index, state) for index, state in enumerate(states))


def _text(index: int, state: InitialState) -> StateText:
    data = state.data
    fills = set(data.tobytes())
    rows = tuple(c_values(Constant("", data))) if len(fills) > 1 else ()
    return StateText(index, state.offset, data.nbytes, ctype_of(data), rows, min(fills, default=0))
