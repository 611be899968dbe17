# SPDX-License-Identifier: Apache-2.0
"""Imports every family of kernel selectors, so that the registry is complete."""

# pyright: reportUnusedImport=false

from __future__ import annotations

from mmcc.kernels.portable import (  # noqa: F401
    affine,
    conv_float,
    conv_int8,
    dense_float,
    elementwise_float,
    elementwise_int8,
    movement,
    normalize,
    pool,
    pool_float,
    quantize,
    reduce,
    reduce_int8,
    resize,
    softmax,
    stream,
)
