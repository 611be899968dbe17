# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization as training knows it. Inference has a product and a sum in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Access, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops


@op
@dataclass(frozen=True, slots=True)
class BatchNorm:
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias, channel by channel, float.

    Operands: x [.., C]; scale, bias, mean and variance [C]. A step of training takes mean and variance of x
    itself, and moves the running ones: `momentum` times what they were, and the rest of this x's (ONNX). No
    kernel computes it: `training/batch_norm.py` says it with others.
    """

    epsilon: float
    momentum: float

    kernel: ClassVar[str] = "batch_norm"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        x, *parameters = inputs
        if not x.shape or any(p.shape != x.shape[-1:] for p in parameters) or len(parameters) != 4:
            raise ShapeError(f"parameters of a BatchNormalization do not fit {list(x.shape)}")
        return ((x.shape, x.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        loops = output_loops(inputs[0])
        here = tuple(loop.i for loop in loops)
        reads = (Access(0, inputs[0], here), *(Access(k, inputs[k], here[-1:]) for k in range(1, 5)))
        return Nest(loops, reads, (Access(0, inputs[0], here),))

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        x, scale, bias, mean, variance = (array.astype(np.float64) for array in inputs)
        y = (x - mean) / np.sqrt(variance + self.epsilon) * scale + bias
        return (y.astype(inputs[0].dtype),)

    def __str__(self) -> str:
        return f"batch_norm<{self.epsilon:g}>"
