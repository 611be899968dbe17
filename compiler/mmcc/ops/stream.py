# SPDX-License-Identifier: Apache-2.0
"""Inputs that arrive and outputs that leave row by row, through callbacks of the caller's.

So the model holds only the rows it needs.

Both are copies between a tensor that is in no memory of the model's (the caller's side) and one that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from mmcc.ir.nest import Nest
from mmcc.ir.op import Result
from mmcc.ir.traits import Moves, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest


@op
@dataclass(frozen=True, slots=True)
class ReadRows:
    """y = x, where x is input number `port` of the model, asked for in rows and columns.

    Unless `again`, each element is asked for once, rows in order: a camera cannot be read twice.
    """

    port: int
    again: bool = False

    kernel: ClassVar[str] = "read_rows"
    traits = OpTraits(moves=Moves.BY_PLACE, permutes=True, elementwise=True, broadcasts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0].copy(),)

    def __str__(self) -> str:
        return f"read_rows<input {self.port}{', again' if self.again else ''}>"


@op
@dataclass(frozen=True, slots=True)
class WriteRows:
    """y = x, where y is output number `port` of the model, handed over in rows and columns, each once."""

    port: int

    kernel: ClassVar[str] = "write_rows"
    traits = OpTraits(moves=Moves.BY_PLACE, permutes=True, elementwise=True, broadcasts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (inputs[0].copy(),)

    def __str__(self) -> str:
        return f"write_rows<output {self.port}>"
