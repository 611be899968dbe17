# SPDX-License-Identifier: Apache-2.0
"""Probabilities of classes from those of their pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops

MOST_ROUNDS = 100
TOLERANCE = 0.005  # of the largest gradient, times the number of classes


@op
@dataclass(frozen=True, slots=True)
class PairwiseCoupling:
    """p [.., classes] that fits x [.., pairs], how probably each class is preferred to a later one.

    Wu, Lin and Weng, "Probability Estimates for Multi-class Classification by Pairwise Coupling", JMLR 5
    (2004), algorithm 2: p minimizes the sum over i, j of (r_ji p_i - r_ij p_j)^2, where r_ij + r_ji = 1. It
    is improved class by class until the slope is small, as libsvm and ONNX Runtime do: the stop is part of
    the result. Pairs are in the order 0-1, 0-2, .. 1-2, ..; float, above 0 and below 1.
    """

    classes: int

    kernel: ClassVar[str] = "pairwise_coupling"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if self.classes < 2 or not x.shape or x.shape[-1] != self.classes * (self.classes - 1) // 2:
            raise ShapeError(f"{list(x.shape)} does not have the pairs of {self.classes} classes")
        return (((*x.shape[:-1], self.classes), x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        (x,) = inputs
        loops = output_loops((*x[:-1], self.classes))
        here = tuple(loop.i for loop in loops)
        return Nest(loops, (Access(0, x, (*here[:-1], None)),), (Access(0, (*x[:-1], self.classes), here),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        lines = x.reshape(-1, x.shape[-1])
        made = np.array([self._coupled(line) for line in lines], x.dtype)
        return (made.reshape(*x.shape[:-1], self.classes),)

    def _coupled(self, pairs: NDArray[Any]) -> NDArray[Any]:
        n = self.classes
        r = np.zeros((n, n), pairs.dtype)
        for value, (i, j) in zip(pairs, combinations(range(n), 2), strict=True):
            r[i, j], r[j, i] = value, 1 - value
        q = -r.T * r
        np.fill_diagonal(q, (r * r).sum(0))
        p = np.full(n, 1 / n, pairs.dtype)
        for _ in range(MOST_ROUNDS):
            slope = q @ p
            total = p @ slope
            if np.abs(slope - total).max() < TOLERANCE / n:
                break
            for i in range(n):
                own = q[i] @ p
                step = (total - own) / q[i, i]
                p[i] += step
                total = (total + step * (step * q[i, i] + 2 * own)) / (1 + step) / (1 + step)
                p /= 1 + step
        return p

    def __str__(self) -> str:
        return f"pairwise_coupling<{self.classes}>"
