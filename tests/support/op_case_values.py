# SPDX-License-Identifier: Apache-2.0
"""Values for cases of operators: of floats, whose sums are exact, and of all other types."""

from __future__ import annotations

from math import inf

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ops.activation import Clamp

LAYER = (False, True, True)  # which operands of a layer are constant


RELU, RELU6 = Clamp(0, inf), Clamp(0, 6)


SIGNED = (ElementType.I8, ElementType.I16, ElementType.I32, ElementType.I64)


UNSIGNED = (ElementType.U8, ElementType.U16, ElementType.U32, ElementType.U64)


def exact(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal values, rounded so that sums of products are exact."""
    return np.asarray(np.rint(rng.standard_normal(shape) * 16) / 16).astype(np.float32)


def real(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape)).astype(np.float32)


def integers(rng: np.random.Generator, dtype: ElementType, *shape: int) -> np.ndarray:
    """Small ones, and the ends of the type's range."""
    if dtype == ElementType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    ends = np.iinfo(dtype.numpy)
    values = rng.integers(-9 if ends.min < 0 else 0, 10, shape)
    extremes = rng.choice(np.array([ends.min, ends.max, ends.max - 1], dtype.numpy), shape)
    return np.where(rng.random(shape) < 0.1, extremes, values.astype(dtype.numpy))


def values(rng: np.random.Generator, dtype: ElementType, *shape: int) -> np.ndarray:
    return real(rng, *shape) if dtype == ElementType.F32 else integers(rng, dtype, *shape)
