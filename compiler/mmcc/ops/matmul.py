# SPDX-License-Identifier: Apache-2.0
"""Products of two activations, in the layouts that attention has them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Index, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.requantize import requantize, requantize_wide, saturate


@dataclass(frozen=True, slots=True)
class Operands:
    """How the matrices of two operands, of shape [M,K] and [K,N], lie in memory.

    `transposed`: the second operand is [N,K], so that what is summed over is innermost in both.

    `heads`: matrices lie side by side, as those of the heads of attention do: a is [M,H,K], b is [K,H/g,N] or
    [N,H/g,K], and the result [M,H,N]. Each g neighbours of the first operand meet one of the second. Rows
    are then tokens (queries, keys), and one row of the result has one row of all heads. Otherwise leading
    axes come first, and broadcast as numpy's do.
    """

    transposed: bool = False
    heads: bool = False

    def result(self, a: Shape, b: Shape) -> Shape:
        """The shape rule; ShapeError on operands that do not fit together."""
        wrong = ShapeError(f"cannot multiply {list(a)} by {list(b)} ({self})")
        if self.heads and (len(a) != 3 or len(b) != 3 or not b[1] or a[1] % b[1]):
            raise wrong
        if len(a) < 2 or len(b) < 2:
            raise wrong
        inner, outer = self.extents(b)
        if a[-1] != inner:
            raise wrong
        if self.heads:
            return (a[0], a[1], outer)
        try:
            return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], outer)
        except ValueError:
            raise ShapeError(f"{wrong}: leading axes do not broadcast") from None

    def extents(self, b: Shape) -> tuple[int, int]:
        """(K, N) of the second operand."""
        first = b[0] if self.heads else b[-2]
        return (b[-1], first) if self.transposed else (first, b[-1])

    def nest(self, a: Shape, b: Shape) -> Nest:
        """Loops m, n, k, and those over matrices."""
        y = self.result(a, b)
        extents = y[1:2] if self.heads else y[:-2]
        batch = tuple(Loop(f"b{k}", extent) for k, extent in enumerate(extents))
        m, n = Loop("m", y[0] if self.heads else y[-2]), Loop("n", y[-1])
        k = Loop("k", a[-1], LoopKind.REDUCE)
        last = (n.i, k.i) if self.transposed else (k.i, n.i)
        if self.heads:
            (h,) = batch
            group = a[1] // b[1]
            index: tuple[tuple[Index, ...], ...] = (
                (m.i, h.i, k.i),
                (last[0], h.i // group if group > 1 else h.i, last[1]),
                (m.i, h.i, n.i),
            )
        else:
            index = (
                (*_leading(a, batch), m.i, k.i),
                (*_leading(b, batch), *last),
                (*(loop.i for loop in batch), m.i, n.i),
            )
        return Nest(
            loops=(m, *batch, n, k) if self.heads else (*batch, m, n, k),
            reads=(Access(0, a, index[0]), Access(1, b, index[1])),
            writes=(Access(0, y, index[2]),),
            multiplies=True,
        )

    def product(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """What numpy makes of the operands."""
        if self.heads:
            a, b = a.transpose(1, 0, 2), b.transpose(1, 0, 2).repeat(a.shape[1] // b.shape[1], 0)
        y = np.matmul(a, np.swapaxes(b, -1, -2) if self.transposed else b)
        return y.transpose(1, 0, 2) if self.heads else y

    def __str__(self) -> str:
        words = [word for word, on in (("heads", self.heads), ("transposed", self.transposed)) if on]
        return " ".join(words)


def _leading(shape: Shape, batch: tuple[Loop, ...]) -> tuple[Index, ...]:
    own = shape[:-2]
    loops = batch[len(batch) - len(own) :]
    return tuple(CONSTANT if extent == 1 else loop.i for extent, loop in zip(own, loops, strict=True))


@op
@dataclass(frozen=True, slots=True)
class MatMul:
    """a [.., M, K] times b [.., K, N], both activations, float; or as `operands` has them."""

    operands: Operands = Operands()

    kernel: ClassVar[str] = "matmul"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((self.operands.result(inputs[0].shape, inputs[1].shape), inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return self.operands.nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        a, b = inputs
        wide = self.operands.product(a.astype(np.float64), b.astype(np.float64))
        return (wide.astype(a.dtype),)

    def __str__(self) -> str:
        return f"matmul<{self.operands}>" if str(self.operands) else "matmul"


@op
@dataclass(frozen=True, slots=True)
class MatMulInt8:
    """Integers: y = clamp(requantize(sum of (a - a_zero) * (b - b_zero)) + y_zero); both operands int8."""

    operands: Operands
    zeros: tuple[int, int]
    multiplier: int
    shift: int
    y_zero: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "matmul_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((self.operands.result(inputs[0].shape, inputs[1].shape), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return self.operands.nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        a, b = (x.astype(np.float64) - zero for x, zero in zip(inputs, self.zeros, strict=True))
        acc = self.operands.product(a, b).astype(np.int64)  # exact below 2^53
        return (saturate(requantize(acc, self.multiplier, self.shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        words = (str(self.operands), f"z{self.zeros[0]},{self.zeros[1]}->{self.y_zero}")
        return f"matmul_int8<{' '.join(word for word in words if word)}>"


@op
@dataclass(frozen=True, slots=True)
class MatMulInt16:
    """As MatMulInt8, of int16 with zero points of 0: y = clamp(requantize(sum of a * b)), sums in 64 bits."""

    operands: Operands
    multiplier: int
    shift: int
    low: int = -(2**15)
    high: int = 2**15 - 1

    kernel: ClassVar[str] = "matmul_int16"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((self.operands.result(inputs[0].shape, inputs[1].shape), ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        return self.operands.nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        a, b = (x.astype(np.float64) for x in inputs)
        acc = self.operands.product(a, b).astype(np.int64)  # exact below 2^53
        value = requantize_wide(acc, self.multiplier, self.shift)
        return (np.clip(value, self.low, self.high).astype(np.int16),)

    def __str__(self) -> str:
        return f"matmul_int16<{self.operands}>" if str(self.operands) else "matmul_int16"
