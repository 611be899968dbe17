# SPDX-License-Identifier: Apache-2.0
"""Imports every family of layers, so that the registry is complete."""

# pyright: reportUnusedImport=false

from __future__ import annotations

from mmcc.codegen.layers import (  # noqa: F401
    affine,
    conv_float,
    conv_int8,
    dense_float,
    dsp,
    dsp_elements,
    elementwise_float,
    elementwise_int8,
    movement,
    mve_conv,
    mve_elementwise,
    mve_float,
    mve_pool,
    normalize,
    pool,
    pool_float,
    quantize,
    reduce,
    reduce_int8,
    resize,
    simd,
    simd_float,
    softmax,
    stream,
)
