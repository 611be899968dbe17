# SPDX-License-Identifier: Apache-2.0
"""Sums and products of all elements so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Loop, Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op


@op
@dataclass(frozen=True, slots=True)
class Cumulative:
    """Along the last axis, each element's sum (or product) with all before it, in the type of the elements.

    `exclusive`: without itself. `reverse`: with all behind it instead.
    """

    function: str  # "sum" or "prod"
    exclusive: bool = False
    reverse: bool = False

    kernel: ClassVar[str] = "cumulative"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        loops = tuple(Loop(f"i{axis}", extent) for axis, extent in enumerate(x))
        index = tuple(loop.i for loop in loops)
        return Nest(loops, (Access(0, x, (*index[:-1], None)),), (Access(0, x, index),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        x = x[..., ::-1] if self.reverse else x
        accumulate = np.add.accumulate if self.function == "sum" else np.multiply.accumulate
        y = accumulate(x, -1, dtype=x.dtype)
        if self.exclusive:
            first = np.full_like(y[..., :1], self.function == "prod")
            y = np.concatenate([first, y[..., :-1]], -1)
        return (np.array(y[..., ::-1] if self.reverse else y, order="C"),)

    def __str__(self) -> str:
        how = "".join(f" {name}" for name in ("exclusive", "reverse") if getattr(self, name))
        return f"cumulative_{self.function}<{how.strip()}>"
