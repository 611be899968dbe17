"""Imports every module of converters, so that the registry is complete."""

from __future__ import annotations

from mmcc.frontend import (  # noqa: F401
    constants,
    convolution,
    elementwise,
    matrix,
    movement,
    normalization,
    pooling,
    qlinear,
    quantization,
    reduction,
    resizing,
)
