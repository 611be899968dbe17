# SPDX-License-Identifier: Apache-2.0
"""The largest or smallest elements of an axis, with their indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


@op
@dataclass(frozen=True, slots=True)
class TopK:
    """The `count` largest (or smallest) elements of the last axis, best first, and their indices (int64).

    Of equal elements the one with the lower index comes first. What is no number (NaN) is the largest.
    """

    count: int
    smallest: bool = False

    kernel: ClassVar[str] = "top_k"
    traits = OpTraits(moves=Moves.BY_ORDER)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if not x.shape or not 1 <= self.count <= x.shape[-1]:
            raise ShapeError(f"{self.count} elements of the last axis of {list(x.shape)}")
        shape = (*x.shape[:-1], self.count)
        return (shape, x.dtype), (shape, ElementType.I64)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        extents = (*x[:-1], self.count)
        loops = tuple(Loop(f"o{axis}", extent) for axis, extent in enumerate(extents))
        index = tuple(loop.i for loop in loops)
        return Nest(
            loops,
            (Access(0, x, (*index[:-1], None)),),
            (Access(0, extents, index), Access(1, extents, index)),
        )

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        if self.smallest:
            order = np.argsort(x, -1, kind="stable")
        else:  # from the end, so that of equal elements the first comes first
            order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
        order = order[..., : self.count]
        return np.take_along_axis(x, order, -1), order.astype(np.int64)

    def __str__(self) -> str:
        return f"top_k<{self.count} {'smallest' if self.smallest else 'largest'}>"
