# SPDX-License-Identifier: Apache-2.0
"""Imports every module of converters, so that the registry is complete."""

from __future__ import annotations

from mmcc.frontend.converters import (
    bits,
    classes,
    constants,
    convolution,
    einsum,
    elementwise,
    indexing,
    learned,
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
    trees,
)

__all__ = [
    "bits",
    "classes",
    "constants",
    "convolution",
    "einsum",
    "elementwise",
    "indexing",
    "learned",
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
    "trees",
]
