# SPDX-License-Identifier: Apache-2.0
"""Values for cases of operators: of floats, whose sums are exact, and of all other types."""

from __future__ import annotations

from math import inf

import numpy as np
from mmcc.ir.types import DType
from mmcc.ops.activation import Clamp

LAYER = (False, True, True)  # which operands of a layer are constant


RELU, RELU6 = Clamp(0, inf), Clamp(0, 6)


SIGNED = (DType.I8, DType.I16, DType.I32, DType.I64)


UNSIGNED = (DType.U8, DType.U16)


def exact(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal values, rounded so that sums of products are exact."""
    return np.asarray(np.rint(rng.standard_normal(shape) * 16) / 16).astype(np.float32)


def real(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape)).astype(np.float32)


def integers(rng: np.random.Generator, dtype: DType, *shape: int) -> np.ndarray:
    """Small ones, and the ends of the type's range."""
    if dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    ends = np.iinfo(dtype.numpy)
    values = rng.integers(-9 if ends.min < 0 else 0, 10, shape)
    extremes = rng.choice([ends.min, ends.max, ends.max - 1], shape)
    return np.where(rng.random(shape) < 0.1, extremes, values).astype(dtype.numpy)


def values(rng: np.random.Generator, dtype: DType, *shape: int) -> np.ndarray:
    return real(rng, *shape) if dtype is DType.F32 else integers(rng, dtype, *shape)
