# SPDX-License-Identifier: Apache-2.0
"""Layers of LSTM, GRU and RNN cells in integers: int8 input, weights and result, int16 h, 32-bit c.

Every rounding is here, and only here: kernels make the same bits. Values between are fixed point. Sums of
gates have GATE_BITS bits of fraction, gates and h 15, c CELL_BITS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.recurrent import GATES, Begin, Recurrent, cell_nest, steps_before_start
from mmcc.ops.requantize import requantize, saturate

Array = NDArray[Any]
GATE_BITS = 16  # of what the functions of gates are given
ONE = 1 << 15  # 1.0 of a gate or h
CELL_BITS = 20
CELL_MOST = 1 << 30  # what c is kept below: 1,024
TABLE_BITS = 5  # places of the table in 1.0
TABLE_END = 16 << TABLE_BITS  # the place of 0, and half the last one: 1 / (1 + e^-16) is 1 - 2^-23
MOST_WIDE = 7  # bits by which inputs less their zero point can be shifted within 16
STATES = ("h", "c")


def sigmoid_table() -> NDArray[np.uint16]:
    """1 / (1 + e^-x) in units of 2^-16 for x = -16, -16 + 1/32, .. 16, for lines between neighbours.

    Each is moved by half of what the middle of a line would otherwise be off.
    """
    value = 1 / (1 + np.exp(-np.arange(-TABLE_END, TABLE_END + 1) / 2.0**TABLE_BITS))
    second = value * (1 - value) * (1 - 2 * value)
    moved = value - second / 16 / 4.0**TABLE_BITS
    return np.minimum(np.rint(moved * 2.0**16), 2**16 - 1).astype(np.uint16)


TABLE = sigmoid_table().astype(np.int64)


def _between(value: Array, bits: int) -> Array:
    """The table on lines between its places, in units of 2^-(16 + bits); `bits` of a value lie between."""
    place = np.clip(value + (TABLE_END << bits), 0, (2 * TABLE_END << bits) - 1)
    at, part = place >> bits, place & ((1 << bits) - 1)
    return (TABLE[at] << bits) + (TABLE[at + 1] - TABLE[at]) * part


def sigmoid_gate(value: Array) -> Array:
    """The logistic function of sums of gates; 1.0 is ONE."""
    bits = GATE_BITS - TABLE_BITS
    return (_between(value, bits) + (1 << bits)) >> (bits + 1)


def tanh_gate(value: Array) -> Array:
    """tanh of sums of gates, by 2 / (1 + e^-2x) - 1; 1.0 is ONE."""
    bits = GATE_BITS - 1 - TABLE_BITS
    return (_between(value, bits) - (1 << (15 + bits)) + (1 << (bits - 1))) >> bits


@op
@dataclass(frozen=True, slots=True)
class RecurrentInt8:
    """A layer of cells with its input's weights, in integers.

    Operands: x int8 [T, (B,) K]; w int8 [gates * H, K]; r int8 [gates * H, H]; numbers int32 [3, gates * H],
    the scales of sums over x and of sums over h, and biases; then those that `operands` names, in the order
    of its type's values: "h" int16 and "c" int32 [1, (B,) H] before the first step, or else 0, and "hops" [1]
    in int32: x begins with row `hops * hop - lag` of a sequence, see `steps_before_start`. Gates are in
    ONNX's order. A GRU that resets `after` its product has numbers of a fourth gate: what r makes of h alone.

    The sum of a gate is bias + floor((X * scale of x + sum h r * scale of h) / 2^32), X = sum (x - x_zero) w
    shifted by `left`; biases are one half larger to make up for that. h is rounded to 15 bits for the next
    step, and once from its exact 30 bits to the result: clamp(round(h * multiplier / 2^shift) + y_zero).

    Results: int8 of all steps [T, (B,) H], 0 before the sequence begins; then what `last` names, "h" int16
    and "c" int32 [1, (B,) H] after the last step.
    """

    cell: Literal["rnn", "gru", "lstm"]
    x_zero: int
    left: int
    multiplier: int
    shift: int
    y_zero: int
    low: int = -128
    high: int = 127
    operands: tuple[Literal["h", "c", "hops"], ...] = ()
    last: tuple[Literal["h", "c"], ...] = ()
    backward: bool = False
    after: bool = False
    lag: int = 0
    hop: int = 0

    kernel: ClassVar[str] = "recurrent_int8"
    traits = OpTraits(saturates=True)

    def position(self, operand: str) -> int | None:
        """Which operand of the op one of `operands` is."""
        return 4 + self.operands.index(operand) if operand in self.operands else None  # type: ignore[arg-type]

    def state_type(self, name: str) -> ElementType:
        """Of h or c."""
        return ElementType.I16 if name == "h" else ElementType.I32

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, r, numbers, *others = (tensor.shape for tensor in inputs)
        units, gates = r[-1] if r else 0, GATES[self.cell]
        sums = gates * units
        if len(x) not in (2, 3) or w != (sums, x[-1]) or r != (sums, units):
            raise ShapeError(f"{gates} gates of a cell: weights {list(w)} and {list(r)} do not fit {list(x)}")
        if numbers != (3, sums + self.after * units):
            raise ShapeError(f"numbers of a cell: {list(numbers)} for {gates} gates of {units} units")
        row = (1, *x[1:-1])
        for name, shape in zip(self.operands, others, strict=True):
            if shape != ((1,) if name == "hops" else (*row, units)):
                raise ShapeError(f"{name} of a cell: {list(shape)} does not fit {list(x)}")
        if "hops" in self.operands and self.backward:
            raise ShapeError(f"a stream's cell goes forward, not {self}")
        last = (((*row, units), self.state_type(name)) for name in self.last)
        return (((*x[:-1], units), ElementType.I8), *last)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, r, numbers, *others = inputs
        operands: list[tuple[Shape, Begin | None]] = [(shape, None) for shape in (w, r, numbers)]
        for name, shape in zip(self.operands, others, strict=True):
            operands.append((shape, None if name == "hops" else "first"))
        products = GATES[self.cell] * (x[-1] + r[1])
        return cell_nest(x, r[1], products, operands, self.backward, len(self.last))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w, r, int32, *others = inputs
        numbers = int32.astype(np.int64)
        numbers[2] <<= 32
        given = dict[str, Array](zip(self.operands, others, strict=True))
        of_h = _OfH(r.astype(np.int64), numbers[1], numbers[2, len(r) :])
        row = (*x.shape[1:-1], r.shape[1])
        state = {
            name: given[name][0].astype(np.int64) if name in given else np.zeros(row, np.int64)
            for name in STATES
        }
        over_x = ((x.astype(np.int64) - self.x_zero) @ w.astype(np.int64).T) << self.left
        parts = over_x * numbers[0, : len(r)] + numbers[2, : len(r)]
        exact = np.zeros((len(x), *row), np.int64)
        early = steps_before_start(self, given.get("hops"), len(x))
        steps = range(early, len(x))
        for t in reversed(steps) if self.backward else steps:
            exact[t], state["c"] = of_h.step(self.cell, parts[t], state)
            state["h"] = np.minimum((exact[t] + ONE // 2) >> 15, ONE - 1)
        y = saturate(requantize(exact, self.multiplier, self.shift), self.y_zero, self.low, self.high)
        y[:early] = 0
        ends = (state[name][np.newaxis].astype(self.state_type(name).numpy) for name in self.last)
        return (y, *ends)

    def __str__(self) -> str:
        return f"{self.cell}_int8<z{self.x_zero}->{self.y_zero}{' backward' if self.backward else ''}>"


@dataclass(frozen=True, slots=True, eq=False)
class _OfH:
    """What all steps share: recurrent weights, the scale of their sums, and the bias within a reset gate."""

    r: Array
    scale: Array
    inner_bias: Array

    def step(self, cell: str, part: Array, state: Mapping[str, Array]) -> tuple[Array, Array]:
        """h with 30 bits of fraction, and c; `part` is what x and biases add to the sums, not yet divided."""
        h, c = state["h"], state["c"]
        match cell:
            case "rnn":
                return tanh_gate(self._sums(part, h, 0, 1)) << 15, c
            case "gru":
                return self._gru(part, h), c
            case _:
                return self._lstm(part, h, c)

    def _sums(self, part: Array, h: Array, first: int, count: int) -> Array:
        units = h.shape[-1]
        rows = slice(first * units, (first + count) * units)
        return (part[..., rows] + (h @ self.r[rows].T) * self.scale[rows]) >> 32

    def _gru(self, part: Array, h: Array) -> Array:
        z, reset = np.split(sigmoid_gate(self._sums(part, h, 0, 2)), 2, axis=-1)
        if self.inner_bias.size == 0:
            total = self._sums(part, (reset * h + ONE // 2) >> 15, 2, 1)
        else:
            units = h.shape[-1]
            inner = (h @ self.r[2 * units :].T * self.scale[3 * units :] + self.inner_bias) >> 32
            total = (part[..., 2 * units :] >> 32) + ((reset * inner + ONE // 2) >> 15)
        return (ONE - z) * tanh_gate(total) + z * h

    def _lstm(self, part: Array, h: Array, c: Array) -> tuple[Array, Array]:
        sums = np.split(self._sums(part, h, 0, 4), 4, axis=-1)
        enter, leave, forget = (sigmoid_gate(each) for each in sums[:3])
        fresh = enter * tanh_gate(sums[3])
        after = (forget * c + (fresh << (CELL_BITS - 15)) + ONE // 2) >> 15
        after = np.clip(after, -CELL_MOST, CELL_MOST - 1)
        less = CELL_BITS - GATE_BITS
        return leave * tanh_gate((after + (1 << (less - 1))) >> less), after


CELLS = (Recurrent, RecurrentInt8)
Cell = Recurrent | RecurrentInt8
