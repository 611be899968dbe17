# SPDX-License-Identifier: Apache-2.0
"""Imports every module of converters, so that the registry is complete."""

from __future__ import annotations

from mmcc.frontend.converters import (
    bits,
    constants,
    convolution,
    einsum,
    elementwise,
    indexing,
    matrix,
    movement,
    normalization,
    parts,
    pooling,
    qlinear,
    quantization,
    recurrent,
    reduction,
    resizing,
    selecting,
    spectral,
)

__all__ = [
    "bits",
    "constants",
    "convolution",
    "einsum",
    "elementwise",
    "indexing",
    "matrix",
    "movement",
    "normalization",
    "parts",
    "pooling",
    "qlinear",
    "quantization",
    "recurrent",
    "reduction",
    "resizing",
    "selecting",
    "spectral",
]
