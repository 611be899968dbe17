# SPDX-License-Identifier: Apache-2.0
"""What optimizers do to parameters and to what they keep of them: element by element, so in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import CONSTANT, Access, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import ELEMENTWISE
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest

Array = NDArray[Any]
ONE: Shape = (1,)


def _results(alike: int, *inputs: Tensor) -> tuple[Result, ...]:
    """The first `alike` operands have one shape, all others are single numbers."""
    first = inputs[0]
    if any(t.shape != (first.shape if k < alike else ONE) for k, t in enumerate(inputs)):
        raise ShapeError(f"operands {[list(t.shape) for t in inputs]} of a step do not fit together")
    return ((first.shape, first.dtype),)


def _nest(alike: int, *inputs: Shape) -> Nest:
    nest = broadcast_nest(*inputs[:alike])
    numbers = tuple(Access(alike + k, ONE, (CONSTANT,)) for k in range(len(inputs) - alike))
    return Nest(nest.loops, (*nest.reads, *numbers), nest.writes)


@op
@dataclass(frozen=True, slots=True)
class Descend:
    """w - rate * (d + decay * w). Operands: w, a direction d of the same shape, rate [1]. Float."""

    decay: float = 0.0

    kernel: ClassVar[str] = "descend"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return _results(2, *inputs)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(2, *inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        w, d, rate = (x.astype(np.float64) for x in inputs)
        return ((w - rate[0] * (d + self.decay * w)).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "descend"


@op
@dataclass(frozen=True, slots=True)
class Moment:
    """decay * m + weight * g, or with `squares` decay * m + weight * g * g. Operands of one shape; float."""

    decay: float
    weight: float = 1.0
    squares: bool = False

    kernel: ClassVar[str] = "moment"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return _results(2, *inputs)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(2, *inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        m, g = (x.astype(np.float64) for x in inputs)
        decay, weight = float(np.float32(self.decay)), float(np.float32(self.weight))
        return ((decay * m + weight * (g * g if self.squares else g)).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "moment of squares" if self.squares else "moment"


@op
@dataclass(frozen=True, slots=True)
class AdamStep:
    """w - rate * (m / (1 - p) / (sqrt(v / (1 - q)) + epsilon) + decay * w). Float.

    Operands: w, its first and second moment m and v, all of one shape; rate, p and q [1]. p and q are the
    decays of the moments to the power of the steps so far, this one included. With `early` epsilon is added
    before the moment is corrected, as ONNX's Adam has it: (sqrt(v) + epsilon) / sqrt(1 - q).
    """

    epsilon: float
    decay: float = 0.0
    early: bool = False

    kernel: ClassVar[str] = "adam_step"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return _results(3, *inputs)

    def nest(self, *inputs: Shape) -> Nest:
        return _nest(3, *inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        w, m, v, rate, p, q = (x.astype(np.float64) for x in inputs)
        root = np.sqrt(1 - q[0])
        early, late = (self.epsilon, 0.0) if self.early else (0.0, self.epsilon)
        step = m / (1 - p[0]) / ((np.sqrt(v) + early) / root + late)
        return ((w - rate[0] * (step + self.decay * w)).astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return "adam_step"
