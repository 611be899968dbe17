# SPDX-License-Identifier: Apache-2.0
"""Cross entropy of a softmax and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import CONSTANT, Access, Loop, LoopKind, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.movement import output_loops

Array = NDArray[Any]


def label_shape(logits: Shape) -> Shape:
    """One label for each line of logits [.., K]."""
    return (*logits[:-1], 1)


def _check(logits: Tensor, label: Tensor) -> None:
    if not logits.shape or label.shape != label_shape(logits.shape) or label.dtype != ElementType.I32:
        raise ShapeError(f"labels {label} do not fit logits {list(logits.shape)}")


def _log_softmax(logits: Array) -> Array:
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _one_hot(logits: Array, label: Array) -> Array:
    """1 at each label; a label that is no class has none."""
    return np.equal(np.arange(int(logits.shape[-1])), label)


@op
@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The mean over all lines of -log softmax(logits)[label]; float, shape [1].

    Operands: logits [.., K], label int32 [.., 1]. A line whose label is no class counts as 0.
    """

    kernel: ClassVar[str] = "cross_entropy"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _check(*inputs)
        return (((1,), inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        logits, label = inputs
        loops = tuple(Loop(f"i{k}", n, LoopKind.REDUCE) for k, n in enumerate(logits))
        lines = (*(loop.i for loop in loops[:-1]), CONSTANT)
        reads = (Access(0, logits, tuple(loop.i for loop in loops)), Access(1, label, lines))
        return Nest(loops, reads, (Access(0, (1,), (CONSTANT,)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        logits, label = inputs
        lost = -np.where(_one_hot(logits, label), _log_softmax(logits), 0).sum()
        return (np.array([lost / prod(label.shape)], logits.dtype),)

    def __str__(self) -> str:
        return "cross_entropy"


@op
@dataclass(frozen=True, slots=True)
class CrossEntropyGradient:
    """(softmax(logits) - 1 at the label) / lines: the gradient of CrossEntropy, of the same operands. Float.

    A line whose label is no class has the gradient 0.
    """

    kernel: ClassVar[str] = "cross_entropy_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        _check(*inputs)
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        logits, label = inputs
        loops = output_loops(logits)
        k = Loop("k", logits[-1], LoopKind.REDUCE)
        line = tuple(loop.i for loop in loops[:-1])
        reads = (Access(0, logits, (*line, k.i)), Access(1, label, (*line, CONSTANT)))
        return Nest((*loops, k), reads, (Access(0, logits, tuple(loop.i for loop in loops)),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        logits, label = inputs
        hot = _one_hot(logits, label)
        grown = np.where(hot.any(-1, keepdims=True), np.exp(_log_softmax(logits)) - hot, 0)
        return ((grown / prod(label.shape)).astype(logits.dtype),)

    def __str__(self) -> str:
        return "cross_entropy_gradient"
