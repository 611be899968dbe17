# SPDX-License-Identifier: Apache-2.0
"""A shift register of rows: the newest come in at its end, and as many of the oldest go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


@op
@dataclass(frozen=True, slots=True)
class Shift:
    """Operands: rows [R, ...] that were kept, and N < R new ones [N, ...]. Result: the newest R of both.

    Rows are made from the first to the last, so the result may be written over the first operand: each row
    that is read lies behind those that are written.
    """

    kernel: ClassVar[str] = "shift"
    traits = OpTraits(moves=Moves.BY_PLACE)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        kept, new = inputs
        match kept.shape, new.shape:
            case (depth, *row), (rows, *other) if row and row == other and 1 <= rows < depth:
                return ((kept.shape, kept.dtype),)
            case shapes:
                raise ShapeError(f"rows {list(shapes[1])} cannot be shifted into {list(shapes[0])}")

    def nest(self, *inputs: Shape) -> Nest:
        (depth, *row), (new, *_) = inputs
        time = Loop("i0", depth, LoopKind.FORWARD)
        others = tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(row, 1))
        rest = tuple(loop.i for loop in others)
        reads = (
            Access(0, inputs[0], (time.i + new, *rest)),  # beyond its end: the row is a new one
            Access(1, inputs[1], (time.i - (depth - new), *rest)),
        )
        return Nest((time, *others), reads, (Access(0, inputs[0], (time.i, *rest)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        kept, new = inputs
        return (np.concatenate([kept[len(new) :], new]),)

    def __str__(self) -> str:
        return "shift"
