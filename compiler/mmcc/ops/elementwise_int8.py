# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators on quantized integers: tables, sums and products."""

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
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape
from mmcc.ops.requantize import requantize, rounded, saturate

Array = NDArray[Any]

EVERY = np.arange(-128, 128).astype(np.int8)  # all inputs of a table, in its order


@op
@dataclass(frozen=True, slots=True)
class Lookup:
    """y = table[x + 128] for int8 x: any function of one quantized value, exact by construction.

    Operands: x int8, table int8 [256].
    """

    kernel: ClassVar[str] = "lookup"
    traits = OpTraits(elementwise=True, tables=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        if inputs[1].shape != (256,):
            raise ShapeError(f"a look-up table has 256 entries, not {list(inputs[1].shape)}")
        return ((inputs[0].shape, inputs[1].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        nest = broadcast_nest(inputs[0])
        return Nest(nest.loops, (*nest.reads, Access(1, inputs[1], (None,))), nest.writes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, table = inputs
        return (table[x.astype(np.int64) + 128],)

    def __str__(self) -> str:
        return "lookup"


@op
@dataclass(frozen=True, slots=True)
class AddInt8:
    """y = clamp(((a - za) * ma + (b - zb) * mb + 2^(shift-1)) >> shift + y_zero), in 64 bits.

    A subtraction has a negative multiplier.
    """

    zeros: tuple[int, int]
    multipliers: tuple[int, int]
    shift: int
    y_zero: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "add_int8"
    traits = OpTraits(elementwise=True, broadcasts=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = (
            (x.astype(np.int64) - zero) * m
            for x, zero, m in zip(inputs, self.zeros, self.multipliers, strict=True)
        )
        return (saturate(rounded(a + b, self.shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        return f"add_int8<z{self.zeros[0]},{self.zeros[1]}->{self.y_zero}>"


@op
@dataclass(frozen=True, slots=True)
class MulInt8:
    """y = clamp(requantize((a - za) * (b - zb)) + y_zero)."""

    zeros: tuple[int, int]
    multiplier: int
    shift: int
    y_zero: int
    low: int = -128
    high: int = 127

    kernel: ClassVar[str] = "mul_int8"
    traits = OpTraits(elementwise=True, broadcasts=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), ElementType.I8),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = (x.astype(np.int64) - zero for x, zero in zip(inputs, self.zeros, strict=True))
        return (saturate(requantize(a * b, self.multiplier, self.shift), self.y_zero, self.low, self.high),)

    def __str__(self) -> str:
        return f"mul_int8<z{self.zeros[0]},{self.zeros[1]}->{self.y_zero}>"
