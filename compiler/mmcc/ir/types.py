# SPDX-License-Identifier: Apache-2.0
"""What a tensor is: shape, type of its elements, what its integers mean, and how kernels see it.

Tensors are channels-last and carry no batch axis: an image is [H, W, C], a sequence [T, C], a vector [C].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class DType(Enum):
    """Element types; the value is the C type."""

    F32 = "float"
    I8 = "int8_t"
    U8 = "uint8_t"
    I16 = "int16_t"
    U16 = "uint16_t"
    I32 = "int32_t"
    I64 = "int64_t"
    BOOL = "bool"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return _NUMPY[self].itemsize

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of the same width."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self is DType.F32

    @staticmethod
    def of(array: NDArray[Any]) -> DType:
        """The element type of a numpy array; KeyError if mmcc has none for it."""
        return _BY_NUMPY[array.dtype]


_NUMPY = {
    d: np.dtype({"float": "float32", "bool": "bool"}.get(d.value, d.value.removesuffix("_t"))) for d in DType
}
_BY_NUMPY = {dtype: d for d, dtype in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantization of a whole tensor: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value. `quant` says what the integers of an int8 activation mean."""

    name: str
    shape: Shape
    dtype: DType = DType.F32
    quant: Quant | None = None

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.size

    def __str__(self) -> str:
        return f"%{self.name}: {self.dtype.name.lower()}[{','.join(map(str, self.shape))}]"


def geometry(shape: Shape) -> tuple[int, int, int]:
    """(rows, columns, channels): how every kernel and the planner see a tensor.

    A vector is one pixel, a matrix [N, D] is N rows of one pixel; axes past the second fold into channels.
    """
    match shape:
        case ():
            return 1, 1, 1
        case (channels,):
            return 1, 1, channels
        case (rows, channels):
            return rows, 1, channels
        case _:
            return shape[0], shape[1], prod(shape[2:])
