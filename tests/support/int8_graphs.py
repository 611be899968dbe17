# SPDX-License-Identifier: Apache-2.0
"""Random graphs of final int8 operators in which many channels change nothing."""

from __future__ import annotations

import numpy as np
from graphs import Builder
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ops.affine import AffineInt8
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8
from mmcc.ops.int8_to_float import DenseInt8ToFloat
from mmcc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePoolInt8, MaxPool, window_counts
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.requantize import multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.window import Window

ZEROS = (-128, -128, 0, 5)
WINDOWS = (
    *(Window((1, 1)),) * 3,
    *(Window((3, 3), pads=(1, 1, 1, 1)),) * 2,
    Window((2, 2), (2, 2)),
    Window((3, 2), (2, 1), pads=(0, 1, 1, 0)),
    Window((2, 2), (1, 1), (2, 1), (2, 0, 0, 1)),
)


class Int8Grower:
    """One random operator after another over images whose integers have random zero points."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = (4, 3, 4)) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder()
        self.pool = [self.b.op(Lookup(), self.b.input("x", *shape, dtype=ElementType.I8), self._table())]
        self.zeros = {self.pool[0]: self._zero()}

    def _table(self) -> str:
        low = int(self.rng.integers(-128, 0))
        return self.b.const(np.clip(self.rng.permutation(256) - 128, low, 127).astype(np.int8))

    def _zero(self) -> int:
        return int(self.rng.choice(ZEROS))

    def shape(self, x: str) -> tuple[int, ...]:
        return self.b.tensors[x].shape

    def grow(self) -> None:
        x = self.pool[-1] if self.rng.random() < 0.7 else self.rng.choice(self.pool)
        kinds = [self.conv, self.conv, self.depthwise, self.pair, self.unary, self.move, self.join]
        y = kinds[self.rng.integers(len(kinds))](str(x))
        if y is not None:
            self.pool.append(y)
            self.zeros.setdefault(y, self._zero())

    def _constants(self, w: np.ndarray) -> list[str]:
        """Weights and what comes per channel: some channels are clamped away, some have one value."""
        rng, outputs = self.rng, len(w)
        w[rng.random(outputs) < 0.2] = 0
        if (w.ndim == 4 and w.shape[3] > 1) or w.ndim == 2:
            w[..., rng.random(w.shape[-1]) < 0.15] = 0
        b = rng.integers(-4000, 4000, outputs)
        b = np.where(rng.random(outputs) < 0.4, rng.integers(-90_000, -20_000, outputs), b)
        scales = rng.uniform(0.2, 2.0, outputs) / (20 * np.sqrt(w[0].size))
        multiplier, shift = multipliers_and_shifts(scales)
        like = np.where(rng.random(outputs) < 0.25, rng.integers(0, outputs, outputs), np.arange(outputs))
        constants = w.astype(np.int8), b.astype(np.int32), multiplier, shift
        return [self.b.const(a[like]) for a in constants]  # some channels are as others

    def _bounds(self) -> dict[str, int]:
        return {"low": int(self.rng.choice([-128, -128, -20])), "high": int(self.rng.choice([127, 127, 60]))}

    def _weights(self, *shape: int) -> np.ndarray:
        return np.rint(np.clip(self.rng.standard_normal(shape) * 30, -127, 127))

    def _window(self, x: str) -> Window:
        rows, cols, _ = self.shape(x)
        fits = [w for w in WINDOWS if rows >= 4 or w.kernel == (1, 1) or w.pads == (1, 1, 1, 1)]
        return fits[self.rng.integers(len(fits))] if cols >= 3 else WINDOWS[0]

    def conv(self, x: str) -> str:
        window, outputs = self._window(x), int(self.rng.integers(1, 10))
        w = self._weights(outputs, *window.kernel, self.shape(x)[2])
        op = ConvInt8(
            window, self.zeros[x], self._zero(), 1, int(self.rng.choice([0, 0, 3])), **self._bounds()
        )
        y = self.b.op(op, x, *self._constants(w))
        self.zeros[y] = op.y_zero
        return y

    def depthwise(self, x: str) -> str:
        window, channels = self._window(x), self.shape(x)[2]
        w = self._weights(channels, *window.kernel, 1)
        op = ConvInt8(window, self.zeros[x], self._zero(), channels, **self._bounds())
        y = self.b.op(op, x, *self._constants(w))
        self.zeros[y] = op.y_zero
        return y

    def pair(self, x: str) -> str | None:
        """A residual, a gate of one pixel, or numbers for each channel."""
        others = [o for o in self.pool if self.shape(o) == self.shape(x)]
        other = str(self.rng.choice(others))
        if self.rng.random() < 0.3:
            mean = MeanInt8((0, 1), self.zeros[x], -128, *multiplier_and_shift(0.01))
            other = self.b.op(mean, x)
            self.zeros[other] = -128
        elif self.rng.random() < 0.3:
            other = self.b.const(self.rng.integers(-128, 128, self.shape(x)[2]).astype(np.int8))
            self.zeros[other] = 1
        zeros = self.zeros[x], self.zeros[other]
        if self.rng.random() < 0.5:
            op = MulInt8(zeros, *multiplier_and_shift(0.013), self._zero(), **self._bounds())
        else:
            op = AddInt8(zeros, (1 << 30, -(1 << 29)), 31, self._zero(), **self._bounds())
        y = self.b.op(op, x, other)
        self.zeros[y] = op.y_zero
        return y

    def unary(self, x: str) -> str:
        channels = self.shape(x)[2]
        match self.rng.integers(4):
            case 0:
                return self.b.op(Lookup(), x, self._table())
            case 1:
                numbers = [
                    self.b.const(self.rng.integers(-9, 9, channels).astype(np.int32)) for _ in range(2)
                ]
                return self.b.op(AffineInt8(2, **self._bounds()), x, *numbers)
            case 2:
                window = Window((2, 2), (1, 1), pads=(int(self.rng.integers(1, 3)), 0, 0, 1))
                return self.b.op(MaxPool(window), x) if min(self.shape(x)[:2]) > 1 else x
            case _:
                window = Window((2, 2), (1, 1), pads=(0, 0, 1, 1))
                count = int(window_counts(window, (0, 0, 0, 0), self.shape(x)).max())
                scale = multipliers_and_shifts(1 / np.arange(1, count + 1))
                op = AveragePoolInt8(window, self.zeros[x], self.zeros[x])
                y = self.b.op(op, x, *map(self.b.const, scale)) if count == 4 else x
                self.zeros[y] = self.zeros[x]
                return y

    def move(self, x: str) -> str:
        rows, cols, channels = self.shape(x)
        ops = [
            Slice((0, 0, channels // 3), (1, 1, 1), (rows, cols, (channels + 1) // 2)),
            Pad((1, 0, 0), (0, 1, 0), "constant", float(self.zeros[x])),
            Transpose((1, 0, 2)),
            ResizeNearest((0, *range(rows)), tuple(range(cols))),
            Reshape((cols, rows, channels)),
            Expand((rows, cols, 4 if channels == 1 else channels)),
            Slice((0, 0, channels - 1), (1, 1, -1), (rows, cols, channels)),
        ]
        y = self.b.op(ops[self.rng.integers(len(ops))], x)
        self.zeros[y] = self.zeros[x]
        return y if min(self.shape(y)) > 0 and max(self.shape(y)[:2]) < 7 else x

    def join(self, x: str) -> str | None:
        others = [o for o in self.pool if self.shape(o)[:2] == self.shape(x)[:2]]
        other = str(self.rng.choice(others))
        if self.shape(x)[2] + self.shape(other)[2] > 16:
            return None
        y = self.b.op(Concat(2), x, other)
        self.zeros[y] = self.zeros[x]
        return y

    def graph(self) -> Graph:
        """With a dense layer behind the last tensor, flattened, and sometimes its float form."""
        x = self.pool[-1]
        flat = self.b.op(Reshape((int(np.prod(self.shape(x))),)), x)
        w = self._weights(3, self.shape(flat)[0])
        constants = self._constants(w)
        outputs = [self.b.op(DenseInt8(self.zeros[x], -3), flat, *constants)]
        if self.rng.random() < 0.3:
            scale = [self.b.const(np.full(3, v, np.float32)) for v in (0.03, 0.5)]
            outputs.append(self.b.op(DenseInt8ToFloat(self.zeros[x]), flat, *constants[:2], *scale))
        return self.b.graph(*outputs)


def int8_graph(seed: int, shape: tuple[int, int, int] = (4, 3, 4), most: int = 9) -> Graph:
    """A graph of up to `most` operators and a dense layer."""
    grower = Int8Grower(seed, shape)
    for _ in range(int(grower.rng.integers(3, most + 1))):
        grower.grow()
    return grower.graph()
