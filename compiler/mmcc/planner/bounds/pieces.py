# SPDX-License-Identifier: Apache-2.0
"""What of a graph's values must exist until when, whatever is a view and whatever is a copy.

A *value* is what an input holds or a node computes. A *piece* is some of its rows, of each the same places
(columns and channels), such that whoever surely needs one of them needs all of them: the channels that a
Concat has of it, an image of a batch, a step of a sequence. Nodes that move elements have no pieces of their
own: who reads what they make needs pieces of the values that it is made of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph
from mmcc.ir.types import geometry
from mmcc.planner.fusion.schedule import Ints

MOST_ELEMENTS = 1 << 22  # of a tensor that nodes make by moving; of larger ones nothing is known
MOST_PIECES = 256  # of a value, if some have not all its rows


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Elements of a value that are needed together."""

    value: str
    maker: int  # the node that computes it; -1 if it is given
    rows: Ints  # of the value, in their order
    line: int  # bytes in one row
    to_end: bool  # read after the last node

    @property
    def height(self) -> int:
        """How many rows it has."""
        return len(self.rows)

    def among(self, count: Ints) -> Ints:
        """How many of its rows are among the first ones of the value."""
        return np.searchsorted(self.rows, count)


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
    """Elements of a value that are all in a tensor, and where."""

    value: str
    rows: NDArray[np.bool_]  # by row of the value: has it some of them
    places: NDArray[np.bool_]  # by place in any such row
    first: Ints  # by row of the value: the first row of the tensor that has elements of it

    def holds(self, rows: Ints, places: Ints) -> bool:
        """True if it has such elements; it has all or none of them."""
        return bool(self.rows[rows[0]] and self.places[places[0]])

    def first_of(self, rows: Ints) -> Ints:
        """By row of some: the first row of the tensor that has elements of it, or of one behind it."""
        return np.minimum.accumulate(self.first[rows][::-1])[::-1]


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
    of_value: dict[str, list[tuple[str, _Part]]] = {}
    for name, found in parts.items():
        for part in found:
            of_value.setdefault(part.value, []).append((name, part))
    pieces: list[Piece] = []
    seen: dict[str, list[Seen]] = {name: [] for name in parts}
    for value, some in of_value.items():
        if value in outside:
            continue
        maker, dtype = elements.maker.get(value, -1), graph.tensors[value].dtype
        for rows, places in _atoms([part for _, part in some]):
            holding = [(name, part) for name, part in some if part.holds(rows, places)]
            if holding:
                to_end = any(name in kept for name, _ in holding)
                for name, part in holding:
                    seen[name].append(Seen(len(pieces), part.first_of(rows)))
                pieces.append(Piece(value, maker, rows, dtype.bytes(len(places)), to_end))
    return Pieces(tuple(pieces), {name: tuple(found) for name, found in seen.items()})


def _atoms(parts: Sequence[_Part]) -> list[tuple[Ints, Ints]]:
    """Rows and places of a value such that each part has all of them or none. Where these are too many, of
    the parts only those that have all rows count."""
    rows, places = _equal([p.rows for p in parts]), _equal([p.places for p in parts])
    if len(rows) * len(places) > MOST_PIECES:
        parts = [part for part in parts if part.rows.all()]
        rows, places = _equal([p.rows for p in parts]), _equal([p.places for p in parts])
    return [(some, at) for some in rows for at in places]


def _equal(masks: Sequence[NDArray[np.bool_]]) -> list[Ints]:
    """The numbers that are in some masks, those together that are in the same ones."""
    different = list({mask.tobytes(): mask for mask in masks}.values())
    if not different:
        return []
    columns, kind = np.unique(np.stack(different), axis=1, return_inverse=True)
    kinds = [k for k in range(columns.shape[1]) if columns[:, k].any()]
    return [np.flatnonzero(kind.reshape(-1) == k) for k in kinds]


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
        """What a tensor has of values, as far as that is the same places of some rows."""
        if name not in self._moved:
            height, cols, channels = geometry(self._graph.tensors[name].shape)
            rows, places = np.ones(height, np.bool_), np.ones(cols * channels, np.bool_)
            return (_Part(name, rows, places, np.arange(height)),)
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
        own, width = np.unique(elements), cols * channels
        some, at = np.zeros(height, np.bool_), np.zeros(width, np.bool_)
        some[own // width], at[own % width] = True, True
        if len(own) != some.sum() * at.sum():
            return None  # of some rows it has more than of others
        first = np.full(height, np.iinfo(np.int64).max)
        np.minimum.at(first, elements // width, rows)
        return _Part(value, some, at, first)

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
