# SPDX-License-Identifier: Apache-2.0
"""Weights in float16 among operands in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def widened(weights: NDArray[Any]) -> NDArray[Any]:
    """float16 as float32, which has all its values; others as they are.

    numpy multiplies arrays of two types without its library for matrices: slowly, and in another order.
    """
    return weights.astype(np.float32) if weights.dtype == np.float16 else weights
