# SPDX-License-Identifier: Apache-2.0
"""Memories that buffers lie in, caches before them, what the caller brings, and moves between them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Region:
    """A memory of the target, in which the caller gives the model an arena.

    `size` is the most bytes of that arena; None: as many as the model needs. `align` is that of its first
    byte. `section` is the linker's; "": that of any variable. Costs are cycles a byte. A region without
    `write_cost` is only read. `dma` tells whether copies that go on while the model computes reach it; where
    a data cache is between it and the processor, `cache_line` is the bytes of a line, else 0.
    """

    name: str  # an identifier in C, in lower case
    size: int | None = None
    align: int = 16
    section: str = ""
    read_cost: float = 0.0
    write_cost: float | None = 0.0
    dma: bool = True
    cache_line: int = 0

    @property
    def states_of(self) -> str | None:
        """Of memory for states, the region of the target that it is a part of, "" that of variables; None of
        all others. No region of a target has such a name (`TAKEN_NAME` in target.py)."""
        if self.name == "state":
            return ""
        return self.name.removesuffix("_state") if self.name.endswith("_state") else None

    @property
    def keeps(self) -> bool:
        """True of memory for states: it is no arena, what is there lives from run to run."""
        return self.states_of is not None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Cache:
    """A data cache of the processor: of so many bytes that were used last, it has those that fit.

    `beyond` is what a byte costs more that is read from beyond it, or written there, in the unit of `[cost]`.
    """

    size: int
    beyond: float


@dataclass(frozen=True, slots=True)
class External:
    """What the caller brings to every run for one input or output of the model; no arena has it."""

    tensor: str

    def __str__(self) -> str:
        return f"the caller's memory for {self.tensor}"


SRAM = Region("sram")  # of a target whose file names no memory
STATE = Region("state")  # what lives from run to run, where a target has one memory
SLOW = Region("slow")  # that the caller's functions copy to and from; no arena
WEIGHTS = Region("weights", write_cost=None)  # the constants of a package, where the linker puts them
FILE = Region("file", write_cost=None)  # that the caller's functions read constants from


def states_in(region: Region) -> Region:
    """The memory for states in a region of the target, beside the arena there: `size` is that of both."""
    return replace(region, name=f"{region.name}_state")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one buffer is."""

    region: Region | External
    offset: int

    def __str__(self) -> str:
        return f"{self.region}+{self.offset}"


@dataclass(frozen=True, slots=True)
class Move:
    """A copy of bytes from one place to another.

    If it is asynchronous, it is started, goes on while the model computes, and is waited for. In between,
    bytes may be read and written at any time and in any order: those of the source must not change, and
    nobody may use those of the target.
    """

    buffer: str  # whose bytes they are
    source: Place
    target: Place
    asynchronous: bool

    def __str__(self) -> str:
        how = "in the background" if self.asynchronous else "at once"
        return f"{self.buffer} from {self.source} to {self.target}, {how}"
