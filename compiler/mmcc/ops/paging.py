# SPDX-License-Identifier: Apache-2.0
"""Values that wait in slow memory until they are read again, and the copies there and back, row by row.

Both are copies between a tensor in the arena and one that only callbacks of the caller's reach. They go on
while the model computes, so what a copy reads has to stay, and what it writes must not be looked at, until
the copy is waited for. The nests say that: nothing else knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from numpy.typing import NDArray

from mmcc.ir.nest import Access, LoopKind, Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops

COPIES = OpTraits(moves=Moves.BY_PLACE, permutes=True)


@op
@dataclass(frozen=True, slots=True)
class PageOut:
    """y = x, where y is in slow memory; `page` is the number of the copy for the caller.

    Rows leave in order. That of a row is complete when the next one leaves, or with the call for the last
    row: so row r also reads row r - 1.
    """

    page: int

    kernel: ClassVar[str] = "page_out"
    traits = replace(COPIES, rides=True, paged=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        nest = in_order(x)
        if len(x) < 2:
            return nest
        own = nest.reads[0]
        row, *others = own.index
        assert row is not None
        before = replace(own, index=(nest.loops[0].i - 1, *others))
        return replace(nest, reads=(own, before))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0].copy(),)

    def __str__(self) -> str:
        return f"page_out<{self.page}>"


@op
@dataclass(frozen=True, slots=True)
class PageIn:
    """y = x, where x is in slow memory, as `PageOut` left all of it.

    Rows come in order. While a row is computed with, the next one comes to the kernel's scratch.
    """

    page: int

    kernel: ClassVar[str] = "page_in"
    traits = COPIES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        nest = in_order(x)
        return replace(nest, reads=(Access(0, x, (None,) * len(x)),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0].copy(),)

    def __str__(self) -> str:
        return f"page_in<{self.page}>"


def in_order(x: Shape) -> Nest:
    """A copy of a tensor whose rows, if it has several, are made from the first to the last."""
    loops = output_loops(x)
    if len(x) > 1:
        loops = (replace(loops[0], kind=LoopKind.FORWARD), *loops[1:])
    index = tuple(loop.i for loop in loops)
    return Nest(loops, (Access(0, x, index),), (Access(0, x, index),))
