# SPDX-License-Identifier: Apache-2.0
"""What a tensor is: shape, type of its elements, what its integers mean, and how kernels see it.

Tensors are channels-last and carry no batch axis: an image is [H, W, C], a sequence [T, C], a vector [C].
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mmcc.ir.element_type import ElementType

Shape = tuple[int, ...]


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
    dtype: ElementType = ElementType.F32
    quant: Quant | None = None

    @property
    def bytes(self) -> int:
        """Of all elements, packed as `ElementType.bytes` says."""
        return self.dtype.bytes(prod(self.shape))

    def __str__(self) -> str:
        return f"%{self.name}: {self.dtype.name}[{','.join(map(str, self.shape))}]"


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
