# SPDX-License-Identifier: Apache-2.0
"""Constant weights that a file has as small integers with scales in blocks: kept so for layers of floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ops.dense_blocked import DenseBlocked, packed


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """A matrix of integers [A,B] with scales and zero points for each `block` of them along an axis."""

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]
    zeros: NDArray[np.int64]
    block: int
    axis: int
    bits: int

    def transposed(self) -> Blocked:
        """The same with its axes exchanged."""
        w, scale, zeros = (array.T for array in (self.integers, self.scale, self.zeros))
        return replace(self, integers=w, scale=scale, zeros=zeros, axis=1 - self.axis)

    def layer(self) -> tuple[DenseBlocked, tuple[NDArray[Any], ...]]:
        """The layer that has these as weights [N,K], scaled along K, and its constants."""
        assert self.axis == 1
        w = packed(self.integers) if self.bits == 4 else self.integers
        constants = (w, self.scale.astype(np.float32))
        if not self.zeros.any():
            return DenseBlocked(self.bits, self.block), tuple(map(np.ascontiguousarray, constants))
        offset = (-self.scale.astype(np.float64) * self.zeros).astype(np.float32)
        op = DenseBlocked(self.bits, self.block, offsets=True)
        return op, tuple(map(np.ascontiguousarray, (*constants, offset)))


def blocked(
    integers: NDArray[Any], scale: NDArray[Any], zeros: NDArray[Any], block: int, axis: int
) -> Blocked | None:
    """Integers that a layer can have as weights: of 4 or 8 bits, with a sign once zero points are moved."""
    wide, zeros = integers.astype(np.int64), zeros.astype(np.int64)
    if integers.ndim != 2 or not integers.size or block < 1:
        return None
    low, high = int(wide.min()), int(wide.max())
    if high - low < 16 and low >= 0 and high > 7:
        wide, zeros = wide - 8, zeros - 8
    elif high > 127:
        wide, zeros = wide - 128, zeros - 128
    low, high = int(wide.min()), int(wide.max())
    if low < ElementType.I8.least or high > ElementType.I8.most:
        return None
    bits = 4 if low >= -8 and high <= 7 else 8
    return Blocked(wide.astype(np.int8), scale.astype(np.float32), zeros, block, axis, bits)
