# SPDX-License-Identifier: Apache-2.0
"""A model that is run hop by hop: how many rows of each tensor are new in a hop, and how late they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mmcc.ir.graph import Graph


def axis_asked(asked: str, inputs: Collection[str]) -> tuple[str, int, int | None] | None:
    """The input, axis and rows of INPUT:AXIS or INPUT:AXIS:ROWS (None: not said); None if it is neither.

    Names of inputs may have colons in them.
    """
    name, _, last = asked.rpartition(":")
    if not last.isdigit():
        return None
    if name in inputs:
        return name, int(last), None
    name, _, axis = name.rpartition(":")
    return (name, int(axis), int(last)) if name in inputs and axis.isdigit() else None


@dataclass(frozen=True, slots=True)
class Rows:
    """Of a tensor whose rows are time: after hop number t (from 1) its rows below t * hop - lag are made."""

    hop: int
    lag: int


@dataclass(frozen=True, slots=True)
class StreamedOutput:
    """An output of a streamed model, by its name there.

    A hop makes `hop` rows along `axis` of the model's shape, of which its own sequence has `rows`; the first
    `lag` rows of a stream come before row 0 of the output and mean nothing. `hop` 0: the output has no such
    axis, and is that of the newest window. `tail` rows follow the last hop where the sequence ends.
    """

    name: str
    axis: int
    rows: int
    hop: int
    lag: int
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Streaming:
    """What is said of a streamed model: `hop` rows along `axis` of its input `input` come in a hop.

    `rows` is the length of that axis in the model's file. `window` rows of the input is what an output
    depends on that needs the whole sequence; 0: there is none. `no_flush` says why rows at the end of a
    sequence are not given.
    """

    input: str
    axis: int
    hop: int
    rows: int
    window: int
    outputs: tuple[StreamedOutput, ...]
    no_flush: str = ""

    @property
    def flushes(self) -> bool:
        """Whether the package has a function for the rows at the end of a sequence."""
        return any(output.tail for output in self.outputs)

    @property
    def latency(self) -> int:
        """The most rows by which an output lags behind."""
        return max((output.lag for output in self.outputs), default=0)


@dataclass(frozen=True, slots=True)
class Hops:
    """The rows of every tensor of the whole model whose rows are time, by name; and those kept as windows."""

    rows: Mapping[str, Rows]
    windows: frozenset[str]


@dataclass(frozen=True, slots=True)
class Streamed:
    """A model as a stream: the graph of a hop, and that of the rows at the end, if there are any."""

    step: Graph
    flush: Graph | None
    streaming: Streaming
    hops: Hops
