# SPDX-License-Identifier: Apache-2.0
"""Functions of one integer of 16 bits, as polynomials of the third degree on pieces of the line."""

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
from mmcc.ops.int16 import LEAST, MOST
from mmcc.ops.requantize import rounded

EVERY_16 = np.arange(LEAST, MOST + 1).astype(np.int16)  # all inputs of a function, in order
FRACTION = 14  # bits of a result below a step, before it is rounded
MOST_PIECES = 256  # their numbers are bytes
DEGREE = 3


def positions(x: NDArray[np.int64], last: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where x lies in a piece that ends at `last` and is at most 2^bits long: from -1/2 at its end on, in
    units of 2^-32."""
    return ((last - x) << (32 - bits)) - (np.int64(1) << 31)


def polynomial(coefficients: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Horner's scheme, products rounded down: coefficients [.., 4], lowest first, in units of 2^-FRACTION."""
    value = coefficients[..., DEGREE]
    for degree in range(DEGREE - 1, -1, -1):
        value = coefficients[..., degree] + (value * at >> 32)
    return value


@op
@dataclass(frozen=True, slots=True)
class PiecewiseInt16:
    """y = clamp(round(p(x))): p is a polynomial of the third degree on each of at most 256 pieces of int16.

    Operands: x int16; first uint8 [256], the piece of the least x with each high byte; last int16 [P], the
    largest x of each piece, in order; bits int8 [P], of its length, rounded up; coefficients int32 [4 * P],
    lowest degree first, in units of 2^-FRACTION steps (`positions` says of what).
    """

    low: int = LEAST
    high: int = MOST

    kernel: ClassVar[str] = "piecewise_int16"
    traits = OpTraits(elementwise=True, tables=True, saturates=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _, first, last, bits, coefficients = (x.shape for x in inputs)
        pieces = last[0] if last else 0
        if (
            not 0 < pieces <= MOST_PIECES
            or first != (256,)
            or bits != last
            or coefficients != (pieces * (DEGREE + 1),)
        ):
            raise ShapeError(f"{pieces} pieces do not go with coefficients {list(coefficients)}")
        return ((inputs[0].shape, ElementType.I16),)

    def nest(self, *inputs: Shape) -> Nest:
        nest = broadcast_nest(inputs[0])
        tables = (Access(1 + k, shape, (None,)) for k, shape in enumerate(inputs[1:]))
        return Nest(nest.loops, (*nest.reads, *tables), nest.writes)

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, _, last, bits, coefficients = (each.astype(np.int64) for each in inputs)
        piece = np.searchsorted(last, x)
        at = positions(x, last[piece], bits[piece])
        own = coefficients.reshape(-1, DEGREE + 1)[piece]
        value = rounded(polynomial(own, at), FRACTION)
        return (np.clip(value, self.low, self.high).astype(np.int16),)

    def __str__(self) -> str:
        return f"piecewise_int16<[{self.low},{self.high}]>"
