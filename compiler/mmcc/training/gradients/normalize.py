# SPDX-License-Identifier: Apache-2.0
"""Gradients of what normalizes over neighbouring channels."""

from __future__ import annotations

import numpy as np

from mmcc.ops.matmul import MatMul
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.training.gradients.registry import Backward, gradient


@gradient(LocalResponseNorm)
def local_response_norm(op: LocalResponseNorm, call: Backward) -> dict[int, str]:
    """g d^-beta - 2 a beta x * sum of g y / d over those who have x as a neighbour, where y = x d^-beta.

    d is bias + a * sum of x² over neighbours, and a is alpha / size. Both sums are products with a constant
    matrix of ones in a band.
    """
    (x,) = call.node.inputs
    channels, share = call.shape(x)[-1], op.alpha / op.size
    band = np.zeros((channels, channels), np.float32)
    for out in range(channels):
        first = out - (op.size - 1) // 2
        band[max(first, 0) : max(first + op.size, 0), out] = 1
    near, back = (call.draft.constant(matrix, "band") for matrix in (band, np.ascontiguousarray(band.T)))
    squares = call.add(MatMul(), call.binary("mul", x, x), near)
    divisor = call.binary("add", call.scaled(squares, share), call.number(op.bias))
    power = call.binary("pow", divisor, call.number(-op.beta))
    g = call.whole
    others = call.binary("div", call.binary("mul", g, call.node.output), divisor)
    spread = call.binary("mul", x, call.add(MatMul(), others, back))
    own = call.binary("mul", g, power)
    return {0: call.binary("add", own, call.scaled(spread, -2 * share * op.beta))}
