# SPDX-License-Identifier: Apache-2.0
"""Dense layers: an activation times constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.activation import Activation, activate
from mmcc.ops.halves import widened
from mmcc.ops.requantize import requantize, saturate


def dense_shape(x: Shape, w: Shape) -> Shape:
    """Shape rule: x [K] or [M, K], w [N, K]."""
    if len(x) not in (1, 2) or len(w) != 2 or x[-1] != w[1]:
        raise ShapeError(f"dense weights {list(w)} do not fit input {list(x)}")
    return (*x[:-1], w[0])


def dense_nest(x: Shape, w: Shape, per_channel: int) -> Nest:
    """Loops (m,) n, k."""
    n, k = Loop("n", w[0]), Loop("k", w[1], LoopKind.REDUCE)
    rows = (Loop("m", x[0]),) if len(x) == 2 else ()
    row = tuple(m.i for m in rows)
    return Nest(
        loops=(*rows, n, k),
        reads=(
            Access(0, x, (*row, k.i)),
            Access(1, w, (n.i, k.i)),
            *(Access(2 + j, (w[0],), (n.i,)) for j in range(per_channel)),
        ),
        writes=(Access(0, dense_shape(x, w), (*row, n.i)),),
        multiplies=True,
    )


@op
@dataclass(frozen=True, slots=True)
class Dense:
    """y[.., n] = act(b[n] + sum over k of x[.., k] * w[n, k]), float.

    Operands: x [K] or [M,K], w [N,K], b [N]. Constant w may be float16, whose values count as they are. Where
    all are float16, so is the result, and sums may be rounded to float16 from product to product.
    """

    activation: Activation | None = None

    kernel: ClassVar[str] = "dense"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, _ = inputs
        return ((dense_shape(x.shape, w.shape), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return dense_nest(inputs[0], inputs[1], 1)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b = inputs
        sums = widened(x) @ widened(w).T + widened(b)
        return (activate(sums, self.activation).astype(x.dtype),)

    def __str__(self) -> str:
        return f"dense<{self.activation}>" if self.activation else "dense"


def dense_products(x: NDArray[Any], x_zero: int, w: NDArray[Any], w_zero: int) -> NDArray[np.int64]:
    """The sums of (x - x_zero) * (w - w_zero), exactly."""
    wide = x.astype(np.float64) - x_zero  # exact below 2^53
    return (wide @ (w.astype(np.float64) - w_zero).T).astype(np.int64)


@op
@dataclass(frozen=True, slots=True)
class DenseInt8:
    """Integers, as ConvInt8: x int8 [K] or [M,K], w int8 [N,K], b int32, multiplier int32, shift int8 [N]."""

    x_zero: int
    y_zero: int
    w_zero: int = 0
    low: int = -128
    high: int = 127
    bias_bits: int = 0

    kernel: ClassVar[str] = "dense_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((dense_shape(inputs[0].shape, inputs[1].shape), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return dense_nest(inputs[0], inputs[1], len(inputs) - 2)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, b, multiplier, shift = inputs
        acc = (dense_products(x, self.x_zero, w, self.w_zero) << self.bias_bits) + b
        return (saturate(requantize(acc, multiplier, shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        return f"dense_int8<z{self.x_zero}->{self.y_zero} [{self.low},{self.high}]>"
