# SPDX-License-Identifier: Apache-2.0
"""The float operators that passes treat alike: they have weights, a bias, and an activation of their own."""

from __future__ import annotations

from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense

FloatLayer = (
    Conv | ConvTranspose | Dense
)  # operands x, weights, bias; output channels are the weights' first axis
