# SPDX-License-Identifier: Apache-2.0
"""Imports every operator family, so that the registry is complete."""

# pyright: reportUnusedImport=false

from __future__ import annotations

from mmcc.ops import (  # noqa: F401
    OPS,
    affine,
    batch_norm,
    bias_gradient,
    clamp_bits,
    conv,
    conv_gradient,
    conv_transpose,
    coupling,
    cumulative,
    dense,
    dense_blocked,
    elementwise,
    elementwise_gradient,
    elementwise_int8,
    fourier,
    indexing,
    int8_to_float,
    int16,
    layer_norm,
    loss,
    matmul,
    movement,
    normalize,
    optimizer,
    paging,
    piecewise,
    pool,
    pool_arg_max,
    pool_gradient,
    quantize,
    recurrent,
    recurrent_gradient,
    recurrent_int8,
    reduce,
    repeat,
    resize,
    sequence_start,
    shift,
    softmax,
    stream,
    suppression,
    tiled_conv,
    topk,
    trees,
)

__all__ = ["OPS"]
