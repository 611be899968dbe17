# SPDX-License-Identifier: Apache-2.0
"""The float operators that passes treat alike."""

from __future__ import annotations

from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.recurrent import Recurrent

# operands x, weights, bias, and an activation of their own; output channels are the weights' first axis
FloatLayer = Conv | ConvTranspose | Dense
WithHalves = FloatLayer | Recurrent  # whose weights, operand HALVES, may be float16 if they are constant
HALVES = 1
