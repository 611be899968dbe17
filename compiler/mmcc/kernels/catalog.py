# SPDX-License-Identifier: Apache-2.0
"""Imports every family of kernel selectors, so that the registry is complete."""

# pyright: reportUnusedImport=false
# ruff: noqa: F401

from __future__ import annotations

import mmcc.kernels.arm_dsp.conv
import mmcc.kernels.arm_dsp.elements
import mmcc.kernels.arm_dsp.int16
import mmcc.kernels.arm_dsp.matmul
import mmcc.kernels.arm_mve.conv
import mmcc.kernels.arm_mve.dense_float
import mmcc.kernels.arm_mve.elementwise
import mmcc.kernels.arm_mve.int16
import mmcc.kernels.arm_mve.pool
import mmcc.kernels.armv6m.conv
import mmcc.kernels.portable.affine
import mmcc.kernels.portable.conv_float
import mmcc.kernels.portable.conv_int8
import mmcc.kernels.portable.coupling
import mmcc.kernels.portable.cumulative
import mmcc.kernels.portable.dense_blocked
import mmcc.kernels.portable.dense_float
import mmcc.kernels.portable.elementwise_float
import mmcc.kernels.portable.elementwise_int8
import mmcc.kernels.portable.fourier
import mmcc.kernels.portable.gradients
import mmcc.kernels.portable.indexing
import mmcc.kernels.portable.int16
import mmcc.kernels.portable.layer_norm
import mmcc.kernels.portable.matmul
import mmcc.kernels.portable.movement
import mmcc.kernels.portable.normalize
import mmcc.kernels.portable.optimizer
import mmcc.kernels.portable.paging
import mmcc.kernels.portable.plain_layers
import mmcc.kernels.portable.pool
import mmcc.kernels.portable.pool_float
import mmcc.kernels.portable.quantize
import mmcc.kernels.portable.recurrent
import mmcc.kernels.portable.recurrent_gradient
import mmcc.kernels.portable.recurrent_int8
import mmcc.kernels.portable.reduce
import mmcc.kernels.portable.reduce_int8
import mmcc.kernels.portable.repeat
import mmcc.kernels.portable.resize
import mmcc.kernels.portable.sequence_start
import mmcc.kernels.portable.shift
import mmcc.kernels.portable.softmax
import mmcc.kernels.portable.stream
import mmcc.kernels.portable.suppression
import mmcc.kernels.portable.tiled_conv
import mmcc.kernels.portable.topk
import mmcc.kernels.portable.trees
import mmcc.kernels.simd.conv_float
import mmcc.kernels.simd.conv_int8
import mmcc.kernels.winograd.conv_float
