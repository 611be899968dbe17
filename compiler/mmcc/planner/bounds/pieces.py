# SPDX-License-Identifier: Apache-2.0
"""What of a graph's values must exist until when, whatever is a view and whatever is a copy.

A *value* is what an input holds or a node computes. A *piece* is some of its channels in all its rows, such
that whoever surely needs one of them needs all of them. Nodes that move elements have no pieces of their own:
who reads what they make needs pieces of the values that it is made of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph
from mmcc.ir.types import geometry
from mmcc.planner.fusion.schedule import Ints

MOST_ELEMENTS = 1 << 22  # of a tensor that nodes make by moving; of larger ones nothing is known


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Channels of a value that are needed together."""

    maker: int  # the node that computes it; -1 if it is given
    height: int  # rows
    line: int  # bytes of its channels in one row
    to_end: bool  # read after the last node


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A piece as part of a tensor.

    `rows[q]`: every row of the tensor that holds an element of row q of the piece, or of a row behind it, is
    this one or a later one.
    """

    piece: int
    rows: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Channels of a value that are all in a tensor, and where their rows are (see `Seen`)."""

    value: str
    channels: NDArray[np.bool_]
    rows: Ints


@dataclass(frozen=True)
class Pieces:
    """The pieces of all values, and for each tensor those that are surely in it."""

    pieces: tuple[Piece, ...]
    seen: Mapping[str, tuple[Seen, ...]]


def make_pieces(graph: Graph, moves: Collection[int], outside: Collection[str]) -> Pieces:
    """The pieces of values that are in RAM of ours; `moves` are the nodes that move elements, `outside` the
    tensors that may be in memory of the caller's."""
    elements = _Elements(graph, moves)
    read = {name for k, node in enumerate(graph.nodes) if k not in moves for name in graph.activations(node)}
    kept = {name for name in graph.kept if not graph.is_constant(name)}
    parts = {name: elements.parts(name) for name in sorted(read | kept)}
    sets: dict[str, list[NDArray[np.bool_]]] = {}
    for found in parts.values():
        for part in found:
            sets.setdefault(part.value, []).append(part.channels)
    pieces: list[Piece] = []
    atoms: dict[str, list[tuple[int, int]]] = {}  # by value: a piece, and one channel of it
    for value, some in sets.items():
        if value in outside:
            continue
        tensor = graph.tensors[value]
        height, cols, _ = geometry(tensor.shape)
        columns, first, counts = np.unique(np.stack(some), axis=1, return_index=True, return_counts=True)
        ends = [p.channels for name in sorted(kept) for p in parts[name] if p.value == value]
        for k in range(columns.shape[1]):
            if columns[:, k].any():
                channel = int(first[k])
                kept_to_end = any(channels[channel] for channels in ends)
                line = cols * tensor.dtype.bytes(int(counts[k]))
                atoms.setdefault(value, []).append((len(pieces), channel))
                pieces.append(Piece(elements.maker.get(value, -1), height, line, kept_to_end))
    seen = {
        name: tuple(
            Seen(piece, part.rows)
            for part in found
            for piece, channel in atoms.get(part.value, ())
            if part.channels[channel]
        )
        for name, found in parts.items()
    }
    return Pieces(tuple(pieces), seen)


class _Elements:
    """Which elements of which values a tensor is made of: the reference of what moves them, given numbers."""

    def __init__(self, graph: Graph, moves: Collection[int]) -> None:
        self._graph = graph
        computed = [node for k, node in enumerate(graph.nodes) if k not in moves]
        self.maker = {n: k for k, node in enumerate(graph.nodes) if k not in moves for n in node.outputs}
        self._moved = {node.output: node for k, node in enumerate(graph.nodes) if k in moves}
        values = [*sorted(graph.given), *(name for node in computed for name in node.outputs)]
        sizes = [prod(graph.tensors[name].shape) for name in values]
        self._values, self._begins = values, np.cumsum([0, *sizes])
        self._begin = dict(zip(values, self._begins.tolist(), strict=False))
        self._numbers: dict[str, NDArray[Any] | None] = {}

    def parts(self, name: str) -> tuple[_Part, ...]:
        """The values of which a tensor surely has some channels whole."""
        if name not in self._moved:
            height, _, channels = geometry(self._graph.tensors[name].shape)
            return (_Part(name, np.ones(channels, np.bool_), np.arange(height)),)
        numbers = self._of(name)
        if numbers is None:
            return ()
        height = geometry(self._graph.tensors[name].shape)[0]
        flat = numbers.reshape(-1)
        rows = np.repeat(np.arange(height), flat.size // max(1, height))
        order = np.flatnonzero(flat >= 0)
        which = np.searchsorted(self._begins, flat[order], side="right") - 1
        found: list[_Part] = []
        for value in sorted(set(map(int, which))):
            mine = order[which == value]
            part = self._part(self._values[value], flat[mine] - self._begins[value], rows[mine])
            found += [part] if part is not None else []
        return tuple(found)

    def _part(self, value: str, elements: Ints, rows: Ints) -> _Part | None:
        height, cols, channels = geometry(self._graph.tensors[value].shape)
        own = np.unique(elements)
        some = np.unique(own % channels)
        if len(own) != height * cols * len(some):
            return None  # whoever reads it may need less than whole channels
        first = np.full(height, np.iinfo(np.int64).max)
        np.minimum.at(first, elements // (cols * channels), rows)
        mask = np.zeros(channels, np.bool_)
        mask[some] = True
        return _Part(value, mask, np.minimum.accumulate(first[::-1])[::-1])

    def _of(self, name: str) -> NDArray[Any] | None:
        """A number for each element of a tensor: which element of which value it is, -1 of a constant."""
        if name not in self._numbers:
            self._numbers[name] = self._made(name)
        return self._numbers[name]

    def _made(self, name: str) -> NDArray[Any] | None:
        shape = self._graph.tensors[name].shape
        if prod(shape) > MOST_ELEMENTS:
            return None
        if self._graph.is_constant(name):
            return np.full(shape, -1, np.int64)
        if name not in self._moved:
            return (self._begin[name] + np.arange(prod(shape))).reshape(shape)
        node = self._moved[name]
        operands = [self._of(operand) for operand in node.inputs]
        if any(operand is None for operand in operands):
            return None
        return node.op.reference(*(operand for operand in operands if operand is not None))[0]
