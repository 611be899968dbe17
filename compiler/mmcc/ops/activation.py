# SPDX-License-Identifier: Apache-2.0
"""Activations that a producing op applies before it stores: they cost no memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Clamp:
    """min(max(x, low), high): Relu is (0, inf), Relu6 is (0, 6)."""

    low: float = -inf
    high: float = inf

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.minimum(np.maximum(x, np.float32(self.low)), np.float32(self.high))

    def __str__(self) -> str:
        return {(0.0, inf): "relu", (0.0, 6.0): "relu6"}.get(
            (self.low, self.high), f"clamp{self.low, self.high}"
        )


@dataclass(frozen=True, slots=True)
class Leaky:
    """x where x >= 0, slope * x elsewhere."""

    slope: float

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(x >= 0, x, x * np.float32(self.slope)).astype(x.dtype)

    def __str__(self) -> str:
        return f"leaky({self.slope:g})"


Activation = Clamp | Leaky


def activate(x: NDArray[np.float32], activation: Activation | None) -> NDArray[np.float32]:
    """Apply the activation, if there is one."""
    return x if activation is None else activation(x)
