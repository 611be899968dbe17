# SPDX-License-Identifier: Apache-2.0
"""A line for each channel of an int8 tensor: what BatchNormalization, a bias or PRelu are beside int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest


@op
@dataclass(frozen=True, slots=True)
class AffineInt8:
    """y = clamp((x * multiplier[c] + bias[c]) >> shift, low, high), in 32 bits, c the last axis.

    Operands: x int8 [.., C], multiplier int32 [C], bias int32 [C]; and, where two lines make the function,
    knee int8 [C] and another multiplier and bias, for x >= knee.
    """

    shift: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "affine_int8"
    traits = OpTraits(saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, *each = inputs
        if not x.shape or len(each) not in (2, 5) or any(t.shape != x.shape[-1:] for t in each):
            raise ShapeError(
                f"numbers {[list(t.shape) for t in each]} do not fit channels of {list(x.shape)}"
            )
        return ((x.shape, ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        nest = broadcast_nest(inputs[0])
        channel = nest.write.index[-1:]
        reads = (Access(k, shape, channel) for k, shape in enumerate(inputs) if k)
        return Nest(nest.loops, (*nest.reads, *reads), nest.writes)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, *each = (data.astype(np.int64) for data in inputs)
        lines = [(x * m + b) >> self.shift for m, b in (each[:2], each[-2:])]
        y = lines[0] if len(each) == 2 else np.where(x < each[2], *lines)
        return (np.clip(y, self.low, self.high).astype(np.int8),)

    def __str__(self) -> str:
        return f"affine_int8<>>{self.shift} [{self.low},{self.high}]>"
