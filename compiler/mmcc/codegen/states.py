# SPDX-License-Identifier: Apache-2.0
"""What states begin with: a byte for all, or an array among the constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmcc.codegen.weights import Weights, c_values, ctype_of
from mmcc.ir.element_type import ElementType
from mmcc.ir.program import Constant
from mmcc.ir.state import InitialState


@dataclass(frozen=True, slots=True)
class StateText:
    """Bytes of one state, and where its first value is: at an offset of the weights; in the rows of a C array
    of its own; or in neither, if all bytes are `fill`."""

    index: int
    memory: str
    offset: int
    bytes: int
    ctype: str
    source: int | None
    rows: tuple[str, ...]
    fill: int


def state_constants(states: Sequence[InitialState]) -> Iterator[Constant]:
    """Arrays that states begin with."""
    for index, state in enumerate(states):
        if not _is_even(state):
            cells = ElementType.of(state.data).cells(state.data)
            yield Constant(f"state{index}", cells, cells.itemsize)


def state_texts(states: Sequence[InitialState], weights: Weights) -> tuple[StateText, ...]:
    """One text for each state, in the order of the module.

    Where the weights lie in slow memory, what states begin with is not among them.
    """
    return tuple(_text(index, state, weights) for index, state in enumerate(states))


def _text(index: int, state: InitialState, weights: Weights) -> StateText:
    data, source = state.data, weights.offsets.get(f"state{index}")
    rows = () if source is not None or _is_even(state) else tuple(c_values(Constant("", data)))
    fill = int(data.reshape(-1).view(np.uint8)[0]) if data.size else 0
    return StateText(index, state.memory, state.offset, data.nbytes, ctype_of(data), source, rows, fill)


def _is_even(state: InitialState) -> bool:
    """True if all bytes are the same."""
    raw = np.ascontiguousarray(state.data).reshape(-1).view(np.uint8)
    return raw.size == 0 or bool((raw == raw[0]).all())
