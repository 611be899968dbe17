# SPDX-License-Identifier: Apache-2.0
"""Random graphs: every pass leaves a sound graph that computes the same."""

from __future__ import annotations

from math import inf, prod

import numpy as np
import pytest
from graphs import Builder, run
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.verify import check_final, check_graph
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Concat, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.reduce import Reduce
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.window import Window
from mmcc.passes import PASSES, optimize

SCALES = (0.05, 0.05, 0.031, 0.083)  # the first is likely: equal scales must cancel
FUNCTIONS = (Unary("sigmoid"), Unary("tanh"), Unary("clamp", (0.0, inf)), Unary("leaky_relu", (0.1,)))


class Grower:
    """Adds one random node after another to a pool of float tensors."""

    def __init__(self, seed: int, *, quantized: bool, exact: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder()
        self.quantized, self.exact = quantized, exact
        self.pool = [self.settle(self.b.input("x", 4, 6, 3)), self.settle(self.b.input("y", 6, 4, 3))]

    def choose(self, count: int) -> int:
        return int(self.rng.integers(count))

    def settle(self, x: str) -> str:
        """Mostly, a Quantize and a Dequantize."""
        if not self.quantized or self.choose(5) == 0:
            return x
        dtype = (ElementType.I8, ElementType.U8)[self.choose(2)]
        zero = self.choose(60) - 30 + (128 if dtype == ElementType.U8 else 0)
        if self.choose(2):
            dtype, zero = ElementType.I8, 3
        return self.b.quantize(x, SCALES[self.choose(4)], zero, dtype)

    def grow(self) -> None:
        x = self.pool[self.choose(len(self.pool))]
        kinds = [self.move, self.function, self.join]
        kinds += [] if self.exact else [self.layer, self.average]
        y = kinds[self.choose(len(kinds))](x, self.b.tensors[x].shape)
        if y is not None and prod(self.b.tensors[y].shape) < 2000:
            self.pool.append(self.settle(y))

    def move(self, x: str, shape: tuple[int, ...]) -> str:
        rank = len(shape)
        options = [shape[::-1], (prod(shape),), (1, *shape), (*shape, 1), (shape[0], prod(shape[1:]))]
        half = tuple((n + 1) // 2 for n in shape)
        moves = [
            Transpose(tuple(int(k) for k in self.rng.permutation(rank))),
            Reshape(options[self.choose(5)]),
            Pad((1,) * rank, (0,) * rank, "edge" if self.choose(2) else "constant"),
            Slice((0,) * rank, (1,) * rank, half),
            Gather(rank - 1, (0,) * 2),
        ]
        if rank == 3:
            moves.append(ResizeNearest((0, *range(shape[0])), tuple(range(shape[1]))))
            moves.append(MaxPool(Window((2, 2), (1, 2), pads=(0, 1, 1, 0))))
        op = moves[self.choose(len(moves))]
        if isinstance(op, MaxPool):
            x = self.b.op(Pad((1, 0, 0), (0, 0, 0)), x)
        return self.b.op(op, x)

    def function(self, x: str, shape: tuple[int, ...]) -> str:
        y = self.b.op(FUNCTIONS[self.choose(4)], x)
        match self.choose(3):
            case 0:
                return self.b.op(Binary("mul"), y, self.b.const(np.array(1.5)))
            case 1:
                return self.b.op(Binary("mul"), x, y)
            case _:
                return y

    def join(self, x: str, shape: tuple[int, ...]) -> str | None:
        same = [name for name in self.pool if self.b.tensors[name].shape == shape]
        other = same[self.choose(len(same))]
        if self.exact or self.choose(2):
            return self.b.op(Concat(self.choose(len(shape))), x, other)
        return self.b.op(Binary(("add", "sub", "mul")[self.choose(3)]), x, other)

    def weights(self, *shape: int) -> tuple[str, str]:
        if not self.quantized:
            return self.b.const(self.rng.normal(0, 0.3, shape)), self.b.const(self.rng.normal(0, 1, shape[0]))
        w = self.b.dequantized(self.rng.integers(-127, 128, shape, dtype=np.int8), 0.0031)
        return w, self.b.dequantized(self.rng.integers(-900, 900, shape[0], dtype=np.int32), 0.05 * 0.0031)

    def layer(self, x: str, shape: tuple[int, ...]) -> str:
        if len(shape) != 3:
            flat = self.b.op(Reshape((prod(shape),)), x)
            return self.b.op(Dense(), flat, *self.weights(6, prod(shape)))
        op = Conv(Window((2, 1), pads=(1, 0, 0, 0)))
        y = self.b.op(op, self.b.op(Pad((1, 0, 0), (0, 1, 0)), x), *self.weights(4, 2, 1, shape[2]))
        return self.b.op(Unary("clamp", (0.0, 6.0)), y) if self.choose(2) else y

    def average(self, x: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 3 and self.choose(2):
            return self.b.op(AveragePool(Window((2, 2), pads=(1, 0, 0, 1))), x)
        return self.b.op(Reduce("mean", (self.choose(len(shape)),)), x)

    def graph(self, nodes: int) -> Graph:
        for _ in range(nodes):
            self.grow()
        return self.b.graph(*dict.fromkeys(self.pool[-3:]))


def outputs(seed: int, *, quantized: bool, exact: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    before = Grower(seed, quantized=quantized, exact=exact).graph(12)
    after = before
    for step in PASSES:
        after = step(after)
        assert check_graph(after) == [], step
    assert check_final(after) == []
    kept = optimize(before, float_io=True)
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(0, 2, port.onnx_shape).astype(np.float32) for port in before.inputs]
    want = run(before, *inputs)
    return [*zip(want, run(after, *inputs), strict=True), *zip(want, run(kept, *inputs), strict=True)]


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(60))
def test_float_graphs(seed: int) -> None:
    for want, got in outputs(seed, quantized=False, exact=False):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1, np.abs(want).max()))


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(60))
def test_movement_and_functions_of_quantized_tensors_are_exact(seed: int) -> None:
    for want, got in outputs(seed, quantized=True, exact=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(100, 160))
def test_quantized_graphs(seed: int) -> None:
    for want, got in outputs(seed, quantized=True, exact=False):
        assert np.abs(got.astype(np.float64) - want).mean() <= 0.05 * max(1, np.abs(want).max())
