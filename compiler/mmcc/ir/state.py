# SPDX-License-Identifier: Apache-2.0
"""What lives longer than a call: a value that one run leaves for the next, and what it begins with in C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A pair of tensors at one address: the value when a run begins, and the value when it ends.

    Within a graph these are two tensors, each written once; that both lie at one address is the planner's
    matter. Where `end` is `begin`, the run does not change the state. `initial` is the value before the first
    run and after a reset; it has the shape and the type of both tensors.
    """

    begin: str
    end: str
    initial: NDArray[Any]


@dataclass(frozen=True, slots=True)
class InitialState:
    """What lies at a byte of a memory for states before the first run."""

    memory: str
    offset: int
    data: NDArray[Any]


@dataclass(frozen=True, slots=True)
class SavedParameters:
    """The first bytes of a memory for states: the model's parameters. `layout` tells which, and where."""

    memory: str
    bytes: int
    layout: int
