# SPDX-License-Identifier: Apache-2.0
"""One op with its operands, and what of them its output needs: what tests of kernels are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Span
from mmcc.ir.types import Tensor, geometry


@dataclass(frozen=True)
class OpCase:
    """An op with its operands: activations as arrays, constants as arrays, in operand order."""

    name: str
    op: Any
    inputs: tuple[np.ndarray, ...]
    constant: tuple[bool, ...] = ()  # by operand; missing ones are activations

    def is_constant(self, k: int) -> bool:
        return k < len(self.constant) and self.constant[k]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(Tensor(f"x{k}", a.shape, ElementType.of(a)) for k, a in enumerate(self.inputs))

    @cached_property
    def want(self) -> np.ndarray:
        return np.asarray(self.op.reference(*self.inputs)[0], order="C")  # a scalar stays one

    @property
    def nest(self):
        return self.op.nest(*(a.shape for a in self.inputs))

    @property
    def activations(self) -> list[int]:
        return [k for k in range(len(self.inputs)) if not self.is_constant(k)]

    @property
    def by_rows(self) -> bool:
        """True if the kernel can make some rows of the output."""
        return len(self.want.shape) >= 2 and self.nest.axis_loop(0) is not None

    @property
    def overwritten(self) -> int | None:
        """The activation over which an elementwise op may write its output exactly."""
        for n, read in enumerate(self.nest.reads):
            k = read.operand
            same_size = self.inputs[k].dtype.itemsize == self.want.dtype.itemsize
            if same_size and not self.is_constant(k) and self.nest.is_elementwise_in(n):
                return k
        return None

    def rows(self, k: int, row: int) -> Span:
        """Rows of operand k that output row `row` needs, as the kernel's geometry counts them."""
        if len(self.inputs[k].shape) < len(self.want.shape):
            return Span(0, geometry(self.inputs[k].shape)[0])
        spans = [self.nest.rows_needed(n, row) for n, read in enumerate(self.nest.reads) if read.operand == k]
        return Span(min(s.lo for s in spans), max(s.hi for s in spans))

    def cols(self, k: int, cols: Span) -> Span:
        width = geometry(self.inputs[k].shape)[1]
        spans = [
            self.nest.cols_needed(n, cols) for n, read in enumerate(self.nest.reads) if read.operand == k
        ]
        return Span(min(s.lo for s in spans), max(s.hi for s in spans)).clamp(width)

    def ring(self, k: int) -> int:
        """Least ring depth of operand k when rows are asked for one after the other."""
        height = geometry(self.want.shape)[0]
        spans = [self.rows(k, r) for r in range(height)]
        depth, low = 1, geometry(self.inputs[k].shape)[0]
        for span in reversed(spans):
            low = min(low, span.lo)
            depth = max(depth, span.hi - low)
        return depth


def rng_of(text: str) -> np.random.Generator:
    """Random numbers that depend on the name of a case only."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
