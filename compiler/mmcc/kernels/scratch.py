# SPDX-License-Identifier: Apache-2.0
"""Bytes that kernels work in. Where rows come in an order, they hold what a row hands on to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Shape, geometry
from mmcc.ops.fourier import Fourier, ShortTimeFourier
from mmcc.ops.paging import PageIn
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.recurrent_gradient import RecurrentGradient
from mmcc.ops.recurrent_int8 import RecurrentInt8
from mmcc.ops.repeat import Repeat
from mmcc.ops.tiled_conv import TiledConvInt8

ROUNDED_LINE = 8  # values of a rounded h that kernels take at a time
REPEAT_ALIGN = 8  # of what a loop works in: that of the largest elements


def scratch_bytes(graph: Graph, node: Node) -> int:
    """Bytes of scratch that the node's kernel, or the user's function, needs on any target.

    Other kernels work in registers, and may be faster with some bytes (`contract.useful`).
    """
    if node.handoff is not None:
        return node.handoff.scratch
    match node.op:
        case Fourier(transform) | ShortTimeFourier(transform):
            return 4 * transform.work
        case Repeat():
            return RepeatWork(node.op).bytes
        case TiledConvInt8():
            return Tile(node.op, tuple(graph.tensors[name].shape for name in node.inputs)).bytes
        case PageIn():
            y = graph.tensors[node.output]
            _, cols, channels = geometry(y.shape)
            return y.dtype.bytes(cols * channels)
        case _:
            return _of_cell(graph, node)


def _of_cell(graph: Graph, node: Node) -> int:
    """What a recurrent layer's cell works in."""
    match node.op:
        case Recurrent():
            rounded = 2 * whole_lines(graph.tensors[node.inputs[1]].shape[-1]) if node.op.rounded else 0
            return 4 * vectors(node.op) * _units_of_row(graph, node) + rounded
        case RecurrentGradient():
            return 4 * node.op.vectors * _units_of_row(graph, node)
        case RecurrentInt8():
            x, y = graph.tensors[node.inputs[0]].shape, graph.tensors[node.outputs[0]].shape
            return CellVectors(node.op, x[-1], y[-1]).bytes(prod(y[1:-1]))
        case _:
            return 0


def _units_of_row(graph: Graph, node: Node) -> int:
    """Units of a float cell, in all sequences together."""
    sums, r = (graph.tensors[name].shape for name in node.inputs[:2])
    return prod(sums[1:-1]) * r[-1]


@dataclass(frozen=True, slots=True)
class RepeatWork:
    """What a loop works in: first the arena of its body, then values that steps hand on.

    A step finds such a value where the step before put it, and puts its own elsewhere: steps of even and of
    odd numbers have a place each. One of the two is the loop's result, if the value is kept after the last.
    """

    op: Repeat

    @property
    def arena(self) -> int:
        """Bytes of the body's arena."""
        assert self.op.plan is not None, "the body of a loop is not planned"
        return sum(_aligned(size) for size in self.op.plan.regions().values())

    @property
    def bytes(self) -> int:
        """Of all."""
        return self.arena + sum(self._size(k) * self._spare(k) for k in range(self.op.carried))

    def places(self, carried: int, results: Sequence[str]) -> tuple[str | int, str | int]:
        """Where steps of even and of odd numbers put a carried value: a result, or a byte of the scratch."""
        begin = self.arena + sum(self._size(k) * self._spare(k) for k in range(carried))
        if carried not in self.op.kept:
            return begin, begin + self._size(carried) * (self.op.steps > 1)
        own = results[self.op.kept.index(carried)]
        last_is_odd = self.op.steps % 2 == 0
        other = begin if self.op.steps > 1 else own
        return (other, own) if last_is_odd else (own, other)

    def _spare(self, carried: int) -> int:
        """Places in the scratch for a carried value."""
        return min(2, self.op.steps) - (carried in self.op.kept)

    def _size(self, carried: int) -> int:
        return _aligned(self.op.outputs()[carried].bytes)


def _aligned(size: int) -> int:
    return -(-size // REPEAT_ALIGN) * REPEAT_ALIGN


def vectors(op: Recurrent) -> int:
    """Vectors of units that a cell's kernel keeps, for each sequence: h; c; h as a GRU's reset leaves it."""
    if op.cell == "gru":
        return 1 if "bias" in op.operands else 2
    return 2 if op.cell == "lstm" else 1


def whole_lines(units: int) -> int:
    """How many halfwords the rounded h has, which kernels take eight at a time."""
    return units + (-units) % ROUNDED_LINE


@dataclass(frozen=True, slots=True)
class CellVectors:
    """What the kernel of a cell in integers works in, in halfwords; vectors have whole words of weights.

    First what all sequences share during a step: x; h after it; of a GRU that resets before its product, h as
    the reset gate leaves it and gate z. Then, for each sequence, h and an LSTM's c.
    """

    op: RecurrentInt8
    channels: int
    units: int

    @property
    def features(self) -> int:
        return self.channels + (-self.channels) % 4

    @property
    def inner(self) -> int:
        return self.units + (-self.units) % 4

    @property
    def shared(self) -> int:
        more = 3 if self.op.cell == "gru" and not self.op.after else 1
        return self.features + more * self.inner

    @property
    def own(self) -> int:
        return self.inner * (3 if self.op.cell == "lstm" else 1)

    def bytes(self, sequences: int) -> int:
        """Of all."""
        return 2 * (self.shared + sequences * self.own)


@dataclass(frozen=True, slots=True)
class Tile:
    """What lies between the convolutions of a tile of one pixel: all that its window reads of what is
    expanded, a ring of rows, and what the window makes of it."""

    op: TiledConvInt8
    inputs: tuple[Shape, ...]

    @property
    def rows(self) -> int:
        return self._reach(0)

    @property
    def cols(self) -> int:
        return self._reach(1)

    @property
    def window_offset(self) -> int:
        """Where what the window makes begins, in whole words behind what is expanded."""
        expanded, _, _ = self.op.shapes(*self.inputs)
        return -(-self.rows * self.cols * expanded[2] // 4) * 4

    @property
    def bytes(self) -> int:
        """Of both."""
        _, windowed, _ = self.op.shapes(*self.inputs)
        return self.window_offset + windowed[2]

    def _reach(self, axis: int) -> int:
        window = self.op.window.window
        extent = self.op.shapes(*self.inputs)[0][axis]
        return min(extent, window.dilations[axis] * (window.kernel[axis] - 1) + 1)
