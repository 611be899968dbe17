# SPDX-License-Identifier: Apache-2.0
"""Graphs that stream, by hand and at random, and what all hops give together.

Floats are small whole numbers, so that sums are exact in any order and results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter
from mmcc.ir.module import Entry, Module
from mmcc.ir.streaming import Streamed
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.fourier import ShortTimeFourier, Transform
from mmcc.ops.movement import Concat, Pad, Reshape, Slice
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.reduce import Reduce
from mmcc.ops.repeat import Repeat, Taken
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.ops.window import Window
from planner_graphs import Build

ROWS = 48


class Stream(Build):
    """A builder of float graphs whose first input is a sequence."""

    def __init__(self, name: str, channels: int = 3, columns: int = 2) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(len(name))
        self.x = self.input(ROWS, columns, channels, dtype=ElementType.F32)

    def whole(self, *shape: int) -> str:
        return self.constant(self.rng.integers(-2, 3, shape).astype(np.float32))

    def causal(self, x: str, taps: int, *, stride: int = 1, dilation: int = 1, channels: int = 0) -> str:
        channels = channels or self.shape(x)[2]
        window = Window((taps, 1), (stride, 1), (dilation, 1), ((taps - 1) * dilation, 0, 0, 0))
        weights = self.whole(channels, taps, 1, self.shape(x)[2])
        return self.clamped(self.add(Conv(window), x, weights, self.whole(channels)))

    def centred(
        self, x: str, taps: int, *, stride: int = 1, dilation: int = 1, pads: tuple[int, int] | None = None
    ) -> str:
        above, below = pads or ((taps - 1) * dilation // 2, taps * dilation // 2)
        window = Window((taps, 1), (stride, 1), (dilation, 1), (above, 0, below, 0))
        weights = self.whole(self.shape(x)[2], taps, 1, self.shape(x)[2])
        return self.clamped(self.add(Conv(window), x, weights, self.whole(self.shape(x)[2])))

    def transposed(
        self, x: str, taps: int, stride: int, *, pad: int = 0, rows: int = 0, dilation: int = 1
    ) -> str:
        """`rows` of the result; 0: as many as ONNX says where it pads alike on both sides."""
        rows = rows or (self.shape(x)[0] - 1) * stride + (taps - 1) * dilation + 1 - 2 * pad
        window = Window((taps, 1), (stride, 1), (dilation, 1), (pad, 0, 0, 0))
        channels = self.shape(x)[2]
        weights, bias = self.whole(channels, taps, 1, channels), self.whole(channels)
        return self.clamped(self.add(ConvTranspose(window, (rows, self.shape(x)[1])), x, weights, bias))

    def nearest(self, x: str, times: int) -> str:
        rows, cols, _ = self.shape(x)
        taken = tuple(r // times for r in range(rows * times))
        return self.add(ResizeNearest(taken, tuple(range(cols))), x)

    def linear(self, x: str, times: int, beside: int = 0) -> str:
        """Between rows, as ONNX's half_pixel has it: the first and the last row count beside them.

        With rows `beside` the two it is like a cubic one.
        """
        rows, cols, _ = self.shape(x)
        places = [(2 * r + 1 - times) / (2 * times) for r in range(rows * times)]
        first = tuple(int(np.floor(place)) - beside for place in places)
        outer = [-1] * beside
        weights = np.array(
            [[*outer, 8 - int(8 * (p % 1)), int(8 * (p % 1)), *outer] for p in places], np.float32
        )
        one = self.constant(np.array([[1] + [0] * (1 + 2 * beside)] * cols, np.float32))
        op = ResizeLinear(first, tuple(range(cols)), 2 + 2 * beside)
        return self.clamped(self.add(op, x, self.constant(weights), one))

    def valid(self, x: str, taps: int) -> str:
        weights = self.whole(self.shape(x)[2], taps, 1, self.shape(x)[2])
        return self.clamped(self.add(Conv(Window((taps, 1))), x, weights, self.whole(self.shape(x)[2])))

    def narrowed(self, x: str, channels: int) -> str:
        rows, cols, _ = self.shape(x)
        return self.add(Slice((0, 0, 0), (1, 1, 1), (rows, cols, channels)), x)

    def cell(self, kind: Literal["rnn", "gru", "lstm"], x: str, units: int, **begin: str) -> str:
        """Over one column; gates are small whole numbers."""
        rows, _, channels = self.shape(x)
        count = {"rnn": 1, "gru": 3, "lstm": 4}[kind] * units
        weights = self.whole(count, 1, 1, channels), self.whole(count)
        sums = self.add(Reshape((rows, count)), self.add(Conv(Window((1, 1))), x, *weights))
        functions = (CellFunction("clamp", (-1.0, 2.0)),) * {"rnn": 1, "gru": 2, "lstm": 3}[kind]
        operands: Any = tuple(begin)
        h = self.add(Recurrent(kind, functions, operands), sums, self.whole(count, units), *begin.values())
        return self.clamped(self.add(Reshape((rows, 1, units)), h))

    def clamped(self, x: str) -> str:
        return self.add(Unary("clamp", (-8.0, 8.0)), x)

    def graph(self, *outputs: str) -> Graph:
        found = super().graph(*outputs)
        return replace(
            found,
            inputs=tuple(replace(p, axes=self._axes(p.tensor)) for p in found.inputs),
            outputs=tuple(replace(p, axes=self._axes(p.tensor)) for p in found.outputs),
        )

    def _axes(self, name: str) -> tuple[int | None, ...]:
        return (None, *range(len(self.shape(name))))


def dilated() -> Graph:
    b = Stream("dilated")
    y = b.causal(b.x, 3)
    z = b.causal(y, 4, dilation=3)
    return b.graph(b.add(Binary("add"), y, z))


def strided() -> Graph:
    """Rows at a third of the input's rate, beside others at that of the input."""
    b = Stream("strided")
    y = b.causal(b.x, 4, stride=3)
    z = b.causal(y, 2)
    return b.graph(z, b.causal(b.x, 2))


def pools() -> Graph:
    b = Stream("pools")
    largest = b.add(MaxPool(Window((3, 2), (1, 1), (1, 1), (2, 0, 0, 1))), b.x)
    window = Window((4, 1), (2, 1), (1, 1), (3, 0, 0, 0))
    return b.graph(b.add(AveragePool(window, (3, 0, 0, 0)), largest))


def shared_rows() -> Graph:
    """Three readers of the old rows of one tensor, one of which pads with something else."""
    b = Stream("shared_rows")
    y = b.clamped(b.x)
    padded = b.add(Pad((5, 0, 0), (0, 0, 0), value=2.0), y)
    late = b.add(Slice((0, 0, 0), (1, 1, 1), b.shape(y)), padded)
    return b.graph(b.add(Concat(2), b.causal(y, 2), b.causal(y, 5, dilation=2), late))


def look_ahead() -> Graph:
    """Without padding, rows come late."""
    b = Stream("look_ahead")
    y = b.valid(b.valid(b.x, 3), 4)
    return b.graph(b.add(Reshape((b.shape(y)[0], 6)), y))


def centred() -> Graph:
    """A convolution with padding before and behind, and others that come to see its rows late."""
    b = Stream("centred")
    y = b.centred(b.x, 5)
    return b.graph(b.valid(b.add(Binary("add"), y, b.clamped(b.x)), 2), y)


def centred_and_strided() -> Graph:
    """Rows at half the rate, of which the last sees padding; a mean over fewer rows at the end."""
    b = Stream("centred_and_strided")
    y = b.centred(b.x, 4, stride=2, pads=(1, 1))
    mean = b.add(AveragePool(Window((3, 1), pads=(0, 0, 2, 0)), (0, 0, 0, 0)), y)
    largest = b.add(MaxPool(Window((3, 1), (3, 1), (1, 1), (0, 0, 2, 0))), mean)
    return b.graph(largest, y)


def padded_behind() -> Graph:
    """More rows than the input has, which a cell goes on with."""
    b = Stream("padded_behind", 8, 1)
    x = b.centred(b.x, 4, pads=(3, 3))
    flat = b.add(Reshape((ROWS + 3, 8)), x)
    functions = (CellFunction("clamp", (-1.0, 1.0)),) * 3
    return b.graph(b.add(Recurrent("lstm", functions), flat, b.whole(8, 2)))


def cells() -> Graph:
    b = Stream("cells", 8, 1)
    x = b.add(Reshape((ROWS, 8)), b.x)
    functions = (CellFunction("clamp", (-1.0, 1.0)),) * 3
    first = b.constant(np.array([[1.0, -1.0]], np.float32))
    h = b.add(Recurrent("lstm", functions, ("c",)), x, b.whole(8, 2), first)
    return b.graph(b.add(Binary("mul"), h, h))


def looped() -> Graph:
    """A loop over each second row that hands on a row and a number; then a layer that looks ahead."""
    inner = Build("body")
    h, count = (inner.input(*shape, dtype=ElementType.F32) for shape in ((2, 3), (1,)))
    row, one = inner.input(2, 3, dtype=ElementType.F32), inner.input(1, dtype=ElementType.F32)
    moved = inner.add(Unary("clamp", (-4.0, 4.0)), inner.add(Binary("sub"), row, h))
    counted = inner.add(Unary("clamp", (0.0, 5.0)), inner.add(Binary("add"), count, one))
    made = inner.add(Binary("add"), moved, counted)
    b = Stream("looped")
    begin = b.constant(np.array([[2, -1, 1], [0, 3, -2]], np.float32))
    zero, one = (b.constant(np.array([value], np.float32)) for value in (0, 1))
    loop = Repeat(inner.graph(moved, counted, made), ROWS // 2, 2, (Taken(0, 2),), (False,))
    return b.graph(b.centred(b.add(loop, begin, zero, b.causal(b.x, 3), one), 3))


def late_cells() -> Graph:
    """Cells behind layers that look ahead, at two rates, which begin with what is given; then others."""
    b = Stream("late_cells", 4, 1)
    x = b.centred(b.x, 5)
    first = b.constant(np.array([[2.0, -1.0, 1.0, 3.0]], np.float32))
    y = b.cell("gru", x, 4, h=first)
    slow = b.cell("lstm", b.centred(x, 4, stride=2, pads=(1, 1)), 4, c=first, h=first)
    return b.graph(b.centred(b.cell("rnn", b.centred(y, 3), 4), 3), b.centred(slow, 3), y)


def stacked() -> Graph:
    """Centred convolutions on top of each other, one with the distance of taps, and what passes by them."""
    b = Stream("stacked")
    y = b.centred(b.centred(b.x, 3), 5)
    z = b.add(Binary("add"), b.centred(y, 3, dilation=2, pads=(2, 2)), b.clamped(b.x))
    return b.graph(b.centred(z, 3), y)


def stacked_and_strided() -> Graph:
    """Readers of late rows with paddings of their own: a maximum, zeros, a Pad of twos; other rates."""
    b = Stream("stacked_and_strided")
    y = b.centred(b.centred(b.x, 5), 4, stride=2, pads=(1, 1))
    largest = b.add(MaxPool(Window((3, 1), pads=(1, 0, 1, 0))), y)
    padded = b.add(Pad((1, 0, 0), (0, 0, 0), value=2.0), y)
    late = b.add(Slice((0, 0, 0), (1, 1, 1), b.shape(y)), padded)
    joined = b.add(Concat(2), largest, b.centred(y, 3), late)
    return b.graph(b.centred(joined, 6, stride=3, pads=(2, 1)))


def upsampled() -> Graph:
    """Several rows of each, by windows that overlap and that do not, and between layers that look ahead."""
    b = Stream("upsampled")
    y = b.transposed(b.centred(b.x, 3), 4, 2, pad=1)
    z = b.centred(b.transposed(b.nearest(y, 3), 2, 2), 5)
    return b.graph(b.centred(z, 12, stride=12, pads=(0, 0)), b.transposed(b.x, 3, 1, pad=1), y)


def interpolated() -> Graph:
    """Between rows of the input, of rows that come late, and of rows of a lower rate."""
    b = Stream("interpolated")
    late = b.linear(b.centred(b.x, 5), 2)
    slow = b.linear(b.centred(b.x, 4, stride=2, pads=(1, 1)), 4)
    return b.graph(b.add(Binary("add"), late, b.centred(slow, 3)), b.linear(b.x, 3))


def interpolated_far() -> Graph:
    """A cubic Resize sees the first row longer than anything comes late."""
    b = Stream("interpolated_far")
    return b.graph(b.linear(b.centred(b.x, 3), 2, beside=1))


def padded_points() -> Graph:
    """Padding that a window of one row sees; the shortest sequences have no rows that it could see."""
    b = Stream("padded_points")
    y = b.centred(b.centred(b.x, 5, dilation=3, pads=(2, 7)), 4, pads=(1, 2))
    z = b.transposed(y, 4, 2, pad=1, dilation=2)
    padded = b.centred(z, 1, pads=(1, 1))
    shape = (b.shape(padded)[0] - 1, *b.shape(padded)[1:])
    return b.graph(b.add(Slice((0, 0, 0), (1, 1, 1), shape), padded))


def encoder_and_decoder() -> Graph:
    """What is halved twice is doubled twice, with rows that pass by: a U-Net."""
    b = Stream("encoder_and_decoder")
    fine = b.centred(b.x, 3)
    half = b.centred(fine, 4, stride=2, pads=(1, 1))
    quarter = b.centred(half, 4, stride=2, pads=(1, 1))
    up = b.add(Concat(2), b.nearest(quarter, 2), half)
    return b.graph(b.add(Binary("add"), b.clamped(fine), b.narrowed(b.transposed(up, 4, 2, pad=1), 3)))


def frames() -> Graph:
    """Fourier transforms of frames that overlap by half, and a layer that reads three of them."""
    b = Stream("frames", channels=1, columns=1)
    signal = b.add(Reshape((ROWS, 1)), b.x)
    made = b.add(ShortTimeFourier(Transform(4, 1, onesided=True), 2), signal, b.whole(4))
    pixels = b.add(Reshape((*b.shape(made)[:1], 1, b.shape(made)[1])), made)
    return b.graph(b.causal(pixels, 3))


def windowed() -> Graph:
    """A mean over the sequence, and what follows it."""
    b = Stream("windowed")
    mean = b.add(Reduce("max", (0, 1)), b.causal(b.x, 3))
    return b.graph(b.add(Unary("abs"), mean))


BY_HAND = {
    f.__name__: f
    for f in (
        frames,
        *(dilated, strided, pools, shared_rows, look_ahead, cells, looped),
        *(centred, centred_and_strided, padded_behind, late_cells),
        *(stacked, stacked_and_strided, upsampled, interpolated, interpolated_far, encoder_and_decoder),
        padded_points,
    )
}


def random_stream(seed: int) -> Graph:
    """Convolutions, pools and sums with rows at one or more rates."""
    rng = np.random.default_rng(seed)
    b = Stream(f"random{seed}" + "x" * (seed % 7))
    pool = [b.x]
    for _ in range(rng.integers(2, 8)):
        x = pool[rng.integers(0, len(pool))]
        kind, taps = rng.integers(0, 5), int(rng.integers(1, 5))
        if kind == 0 and b.shape(x)[0] % 6 == 0:
            made = b.causal(x, taps, stride=int(rng.integers(2, 4)))
        elif kind == 1:
            window = Window((taps, 1), (1, 1), (1, 1), (taps - 1, 0, 0, 0))
            made = b.add(MaxPool(window), x)
        elif kind == 2:
            others = [y for y in pool if b.shape(y) == b.shape(x)]
            made = b.add(Binary("max"), x, others[rng.integers(0, len(others))])
        else:
            made = b.causal(x, taps, dilation=int(rng.integers(1, 4)))
        pool.append(made)
    return b.graph(*dict.fromkeys((pool[-1], pool[rng.integers(1, len(pool))])))


def random_stack(seed: int) -> Graph:
    """Layers on top of each other, most of which look ahead and pad on both sides."""
    rng = np.random.default_rng(seed)
    b = Stream(f"stack{seed}" + "x" * (seed % 7), columns=1)
    pool = [b.x]
    for _ in range(rng.integers(2, 7)):
        x = pool[-1 - int(rng.integers(0, len(pool)) * rng.integers(0, 2))]
        kind, taps = rng.integers(0, 9), int(rng.integers(1, 6))
        ahead = int(rng.integers(0, taps))
        pads = (taps - 1 - ahead, ahead)
        if kind == 0 and b.shape(x)[0] % 4 == 0:
            made = b.centred(x, taps, stride=2, pads=(pads[0], max(0, pads[1] - 1)))
        elif kind == 1:
            made = b.add(MaxPool(Window((taps, 1), pads=(pads[0], 0, pads[1], 0))), x)
        elif kind == 6 and b.shape(x)[0] < 200:
            stride = int(rng.integers(1, 4))
            pad = int(rng.integers(0, taps))
            made = b.transposed(x, taps, stride, pad=pad, rows=b.shape(x)[0] * stride)
        elif kind == 7 and b.shape(x)[0] < 200:
            made = (b.nearest, b.linear)[rng.integers(0, 2)](x, int(rng.integers(2, 4)))
        elif kind == 8:
            cells: tuple[Literal["rnn", "gru", "lstm"], ...] = ("rnn", "gru", "lstm")
            made = b.cell(cells[rng.integers(0, 3)], x, 3, h=b.whole(1, 3))
        elif kind == 2:
            others = [y for y in pool if b.shape(y) == b.shape(x)]
            made = b.add(Binary("add"), x, others[rng.integers(0, len(others))])
        else:
            dilation = int(rng.integers(1, 4))
            made = b.centred(x, taps, dilation=dilation, pads=(pads[0] * dilation, pads[1] * dilation))
        pool.append(made)
    return b.graph(*dict.fromkeys((pool[-1], pool[rng.integers(1, len(pool))])))


def sequence(graph: Graph, seed: int = 0) -> np.ndarray:
    shape = graph.tensors[graph.inputs[0].tensor].shape
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def fed(streamed: Streamed, x: np.ndarray) -> dict[str, np.ndarray]:
    """All rows that a sequence gives, by output, from row 0 on; of a window what each hop gives."""
    graph, streaming = streamed.step, streamed.streaming
    ends = () if streamed.flush is None else (Entry("flush", streamed.flush),)
    machine = Interpreter(Module(graph.name, (Entry("step", graph), *ends)))
    calls: list[Mapping[str, np.ndarray]] = [
        machine.call("step", {graph.inputs[0].tensor: x[at : at + streaming.hop]})
        for at in range(0, len(x) - streaming.hop + 1, streaming.hop)
    ]
    last = {} if streamed.flush is None else machine.call("flush", {})
    found: dict[str, np.ndarray] = {}
    for output, port in zip(streaming.outputs, graph.outputs, strict=True):
        arrays = [call[port.tensor] for call in calls]
        arrays += [last[port.tensor]] if output.tail else []
        found[output.name] = np.concatenate(arrays)[output.lag :] if output.hop else np.stack(arrays)
    return found
