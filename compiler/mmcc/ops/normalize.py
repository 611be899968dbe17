# SPDX-License-Identifier: Apache-2.0
"""Local response normalization across channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops


@op
@dataclass(frozen=True, slots=True)
class LocalResponseNorm:
    """y = x / (bias + alpha / size * sum of squares of `size` neighbour channels) ** beta; float [.., C]."""

    size: int
    alpha: float
    beta: float
    bias: float

    kernel: ClassVar[str] = "local_response_norm"
    traits = OpTraits(normalizes=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        if not inputs[0].shape:
            raise ShapeError("LRN of a scalar")
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        loops = output_loops(x)
        k = Loop("k", self.size, LoopKind.REDUCE)
        here = tuple(loop.i for loop in loops)
        neighbour = loops[-1].i + k.i - (self.size - 1) // 2
        return Nest((*loops, k), (Access(0, x, (*here[:-1], neighbour)),), (Access(0, x, here),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x = inputs[0].astype(np.float64)
        before = (self.size - 1) // 2
        width = [(0, 0)] * (x.ndim - 1) + [(before, self.size - 1 - before)]
        squares = np.pad(x * x, width)
        total = sum(squares[..., k : k + x.shape[-1]] for k in range(self.size))
        return ((x / (self.bias + self.alpha / self.size * total) ** self.beta).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return f"local_response_norm<{self.size}>"
