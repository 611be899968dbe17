# SPDX-License-Identifier: Apache-2.0
"""Gradient of what is added to every pixel."""

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


@op
@dataclass(frozen=True, slots=True)
class BiasGradient:
    """`decay` * s + sum of g over all its axes but the last, float.

    Operands: g [M,C] or [H,W,C], the gradient of a layer's result, and s [C], a sum that the result goes on
    with. The columns of a row are summed, then the sums of rows, from the first on.
    """

    decay: float = 1.0

    kernel: ClassVar[str] = "bias_gradient"
    traits = OpTraits(rides=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, s = inputs
        if len(g.shape) not in (2, 3) or s.shape != g.shape[-1:]:
            raise ShapeError(f"sums {list(s.shape)} of a gradient {list(g.shape)}")
        return ((s.shape, s.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        g, s = inputs
        c = Loop("c", g[-1])
        over = tuple(Loop(f"i{k}", extent, LoopKind.REDUCE) for k, extent in enumerate(g[:-1]))
        reads = Access(0, g, (*(loop.i for loop in over), c.i)), Access(1, s, (c.i,))
        return Nest((c, *over), reads, (Access(0, s, (c.i,)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        g, s = (x.astype(np.float64) for x in inputs)
        total = g.sum(tuple(range(g.ndim - 1)))
        return ((self.decay * s + total).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "bias_gradient"
