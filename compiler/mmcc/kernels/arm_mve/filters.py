# SPDX-License-Identifier: Apache-2.0
"""Filters and channels in blocks of four, and what becomes of their sums, for Armv8.1-M vectors (Helium).

Filters beyond a multiple of four, and channels of a depthwise window, are made by a last block that overlaps
the one before: nothing is padded and no partial block is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcc.kernels.epilogue import Fields, Options
from mmcc.kernels.portable.filters_int8 import Filters
from mmcc.kernels.select import Site
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat

Layer = ConvInt8 | DenseInt8 | ConvInt8ToFloat | DenseInt8ToFloat

BLOCK = 4  # filters or channels of a block


@dataclass(frozen=True, slots=True)
class Block:
    """What all kernels of filters in blocks of four are told of the end of a filter."""

    filters: Filters

    @property
    def usable(self) -> bool:
        """Vectors keep the high word of a product only, and have symmetric weights."""
        return (self.sums or self.filters.plain) and self.filters.w_zero == 0

    @property
    def sums(self) -> bool:
        """True if outputs are float: sums are scaled behind."""
        return self.filters.epilogue.form == "float"

    @property
    def options(self) -> Options:
        activation = tuple(option for option in self.filters.epilogue.options if option[0] == "activation")
        return (("left", self.filters.epilogue.left > 0), ("sums", self.sums), *activation)

    def end(self, op: Layer, site: Site) -> Fields:
        """What sums end with, besides what each filter has in its stream."""
        if isinstance(op, ConvInt8 | DenseInt8):
            return (*self.fields(op), *self.limits(op))
        return (*self.filters.epilogue.fields, ("tail", site.keep("tail", self.filters.epilogue.tail)))

    def fields(self, op: ConvInt8 | DenseInt8) -> Fields:
        left = self.filters.epilogue.left
        more: Fields = (("left", left),) if left else ()
        return (("y_zero", op.y_zero), *more)

    @staticmethod
    def limits(op: ConvInt8 | DenseInt8) -> Fields:
        return (("low", op.low), ("high", op.high))

    @property
    def order(self) -> NDArray[np.int64]:
        """The filters of all blocks, one after the other; the first few again if there are less than four."""
        count = self.filters.w.shape[0]
        if count < BLOCK:
            return np.arange(BLOCK) % count
        starts = [*range(0, count - BLOCK + 1, BLOCK), *([count - BLOCK] if count % BLOCK else [])]
        return (np.array(starts)[:, None] + np.arange(BLOCK)).reshape(-1)

    @property
    def scale(self) -> NDArray[np.int32]:
        """For each block four biases, multipliers, and shifts of a byte each, negative to the right; biases
        alone if outputs are float."""
        filters, order = self.filters, self.order
        if self.sums:
            return filters.bias[order].astype(np.int32).reshape(-1, BLOCK)
        right = -(filters.epilogue.tail.astype(np.int16) + 1)
        shift = np.ascontiguousarray(right[order].astype(np.int8).reshape(-1, BLOCK))
        bias = filters.bias[order].astype(np.int32).reshape(-1, BLOCK)
        multiplier = filters.multiplier[order].astype(np.int32).reshape(-1, BLOCK)
        return np.concatenate((bias, multiplier, shift.view("<i4").astype(np.int32)), 1)
