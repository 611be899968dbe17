# SPDX-License-Identifier: Apache-2.0
"""The memories that buffers lie in: regions of the target, and what the caller brings to a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Region:
    """A memory of the target, in which the caller gives the model an arena.

    `size` is the most bytes of that arena; None: as many as the model needs. `align` is that of its first
    byte. `section` is the linker's; "": that of any variable. Costs are cycles a byte. A region without
    `write_cost` is only read. `dma` tells whether copies that go on while the model computes reach it.
    """

    name: str  # an identifier in C, in lower case
    size: int | None = None
    align: int = 16
    section: str = ""
    read_cost: float = 0.0
    write_cost: float | None = 0.0
    dma: bool = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class External:
    """What the caller brings to every run for one input or output of the model; no arena has it."""

    tensor: str

    def __str__(self) -> str:
        return f"the caller's memory for {self.tensor}"


SRAM = Region("sram")  # of a target whose file names no memory
STATE = Region("state")  # what lives from run to run
