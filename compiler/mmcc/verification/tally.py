# SPDX-License-Identifier: Apache-2.0
"""How many of a node's outputs are not ONNX Runtime's, and how many need not be."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
INT8_RATE = 1e-5  # of a node's outputs that may be off by one step
INT16_RATE = (
    2e-3  # of 16 bits: a float32 of 24 bits, in which ONNX Runtime computes, is that near to a step of them
)
RECURRENT_RATE = 5e-3  # of a recurrent layer's in int8: gates and h between steps are fixed point there


@dataclass(slots=True)
class Tally:
    """Of one node, over all samples. `ties` are mismatches where the exact value is half-way between steps;
    `roundings` are the others, those of one accumulator in one channel counted once: they are the same event.

    `depth` is how many nodes lie between values that ONNX Runtime has: it rounds as often. `recurrent` where
    one of these is a recurrent layer in int8, `wide` where the result has 16 bits.
    """

    outputs: int = 0
    mismatches: int = 0
    ties: int = 0
    roundings: int = 0
    max_abs: float = 0.0
    depth: int = 1
    recurrent: bool = False
    wide: bool = False

    def ok(self, integer: bool) -> bool:
        """Equal, or one step off: in ties, and in as few outputs as rounding of floats makes."""
        if self.mismatches == 0 or not integer:
            return self.mismatches == 0
        rate = (INT16_RATE if self.wide else INT8_RATE) * self.depth
        rate = RECURRENT_RATE if self.recurrent else rate
        return self.max_abs <= 1 and self.roundings <= allowed(self.outputs, rate)


def allowed(outputs: float, rate: float = INT8_RATE) -> float:
    """How many roundings may be off by one step: the rate, plus three deviations of a sample."""
    mean = rate * outputs
    return mean + 3 * sqrt(mean) + 1


def distinct(wrong: Array, exact: Array) -> int:
    """Of the outputs that are wrong, those that differ in their exact value or their channel."""
    channels = np.broadcast_to(np.arange(wrong.shape[-1] if wrong.ndim else 1), wrong.shape)
    return len(set(zip(exact[wrong].tolist(), channels[wrong].tolist(), strict=True)))
