# SPDX-License-Identifier: Apache-2.0
"""A dense layer of floats whose constant weights are small integers, scaled in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


def packed(w: NDArray[Any]) -> NDArray[np.uint8]:
    """Integers of 4 bits [N,K], two to a byte along the last axis, the first in the lower half."""
    even = np.pad(w.astype(np.int64), ((0, 0), (0, w.shape[1] % 2))) & 15
    return (even[:, ::2] | even[:, 1::2] << 4).astype(np.uint8)


@op
@dataclass(frozen=True, slots=True)
class DenseBlocked:
    """y[.., n] = b[n] + sum over blocks j of scale[n,j] * sum of x[k] * w[n,k] + offset[n,j] * sum of x[k].

    Float. `block` weights, the last ones perhaps fewer, have one scale; an `offset`, if there is one, is the
    scale times the zero point, negative. Operands: x [K] or [M,K], w int8 [N,K] or, of 4 bits with a sign,
    uint8 [N, K/2] (`packed`), scale [N,J], then offset [N,J] if `offsets`, then b [N] or none.
    """

    bits: int
    block: int
    offsets: bool = False

    kernel: ClassVar[str] = "dense_blocked"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, w, scale, *more = (tensor.shape for tensor in inputs)
        held = -(-x[-1] // 2) if x and self.bits == 4 else x[-1] if x else 0
        fits = len(x) in (1, 2) and w[1:] == (held,) and scale == (w[0], -(-x[-1] // self.block))
        per_block, bias = more[: self.offsets], more[self.offsets :]
        if not fits or any(s != scale for s in per_block) or any(b != w[:1] for b in bias):
            raise ShapeError(f"weights {list(w)} in blocks of {self.block} do not fit input {list(x)}")
        return (((*x[:-1], w[0]), inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        x, w, *more = inputs
        n, k = Loop("n", w[0]), Loop("k", x[-1], LoopKind.REDUCE)
        rows = (Loop("m", x[0]),) if len(x) == 2 else ()
        row = tuple(m.i for m in rows)
        weights = k.i // 2 if self.bits == 4 else k.i
        return Nest(
            loops=(*rows, n, k),
            reads=(
                Access(0, x, (*row, k.i)),
                Access(1, w, (n.i, weights)),
                *(Access(2 + j, s, (n.i, *(None,) * (len(s) - 1))) for j, s in enumerate(more)),
            ),
            writes=(Access(0, (*x[:-1], w[0]), (*row, n.i)),),
            multiplies=True,
        )

    def weights(self, w: NDArray[Any], length: int) -> NDArray[np.int8]:
        """The integers [N,K] of operand w."""
        if self.bits != 4:
            return w
        halves = np.stack((w & 15, w >> 4), -1).reshape(w.shape[0], -1)[:, :length].astype(np.int8)
        return np.where(halves > 7, halves - 16, halves).astype(np.int8)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, w, scale, *more = inputs
        length = int(x.shape[-1])
        place = np.arange(length) // self.block
        real = self.weights(w, length) * scale.astype(np.float64)[:, place]
        if self.offsets:
            real += more[0].astype(np.float64)[:, place]
        y = x.astype(np.float64) @ real.T
        return ((y + more[-1] if len(more) > self.offsets else y).astype(np.float32),)

    def __str__(self) -> str:
        return f"dense_blocked<{self.bits} bits, blocks of {self.block}>"
