# SPDX-License-Identifier: Apache-2.0
"""Gradient of what is added to every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
    """The sum of g over all its axes but the last, float.

    Operand: g [M,C] or [H,W,C], the gradient of a layer's result; the result is [C]. The columns of a row are
    summed, then the sums of rows, from the first on. With `into` "sum" there is a second operand s [C], and
    the result is `decay` * s + that, a sum that begins with s.
    """

    into: Literal["", "sum"] = ""
    decay: float = 1.0

    kernel: ClassVar[str] = "bias_gradient"
    traits = OpTraits(rides=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, *sums = inputs
        shape = g.shape[-1:]
        if len(g.shape) not in (2, 3) or [s.shape for s in sums] != [shape] * (self.into == "sum"):
            raise ShapeError(f"{self}: sums {[list(s.shape) for s in sums]} of a gradient {list(g.shape)}")
        return ((shape, g.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        g, *sums = inputs
        c = Loop("c", g[-1])
        over = tuple(Loop(f"i{k}", extent, LoopKind.REDUCE) for k, extent in enumerate(g[:-1]))
        begins = tuple(Access(1, s, (c.i,)) for s in sums)
        reads = (Access(0, g, (*(loop.i for loop in over), c.i)), *begins)
        return Nest((c, *over), reads, (Access(0, g[-1:], (c.i,)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        g, *sums = (x.astype(np.float64) for x in inputs)
        total = g.sum(tuple(range(g.ndim - 1)))
        return (sum((self.decay * s for s in sums), total).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return f"bias_gradient{'<into sum>' if self.into else ''}"
