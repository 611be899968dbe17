# SPDX-License-Identifier: Apache-2.0
"""Layers that have kernels for sums in float16, of operands that are all float16.

Asked of a layer alone, whatever plan it is in: one that were made so in some plans would have other bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.activation import Leaky, activate
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.repeat import with_bodies

HalfLayer = Conv | Dense
LEAST_FILTERS = 8  # with fewer, half of a block's work is for nothing
LEAST_CHANNELS = 16  # of a depthwise layer: a vector of the kernel's
DEPTHWISE_LIMIT = 7  # rows and columns of a depthwise window
TAP_LIMIT = 64  # taps of a window whose addresses may be listed on the stack


def has_half_kernel(op: Op, w: Shape) -> bool:
    """True of a layer that can be computed in float16: a dense one, or a convolution that is depthwise or has
    one group, of enough filters."""
    if isinstance(op, Dense):
        return w[0] >= LEAST_FILTERS
    if not isinstance(op, Conv) or op.window.columns_first:
        return False
    rows, cols = op.window.kernel
    if op.groups > 1:
        depthwise = w[3] == 1 and w[0] == op.groups >= LEAST_CHANNELS
        return depthwise and max(rows, cols) <= DEPTHWISE_LIMIT
    return w[0] >= LEAST_FILTERS and rows * cols <= TAP_LIMIT


def sums_in_halves(op: Op, dtype: ElementType) -> bool:
    """True of a layer whose first operand, of this type, says that sums may be float16."""
    return isinstance(op, HalfLayer) and dtype == ElementType.F16


def has_half_layer(graph: Graph) -> bool:
    """True if sums of a layer of the graph, or of the body of a loop in it, may be float16."""
    return any(
        sums_in_halves(node.op, inner.tensors[node.inputs[0]].dtype)
        for inner in with_bodies(graph)
        for node in inner.nodes
        if node.inputs
    )


def rounded_sums(op: HalfLayer, *operands: NDArray[Any]) -> NDArray[Any]:
    """What a layer makes where each product is added and rounded to float16 at once, in the kernels' order.

    float64 has all digits of a float16 and a product of two, so nothing is rounded twice.
    """
    x, w, sums = operands
    for values, weights in _products(op, x, w):
        sums = (sums + values.astype(np.float64) * weights).astype(np.float16)
    if isinstance(op.activation, Leaky):
        return np.where(sums >= 0, sums, sums * np.float16(op.activation.slope))
    return activate(sums.astype(np.float32), op.activation).astype(np.float16)


def _products(op: HalfLayer, x: NDArray[Any], w: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Values and weights whose products are added to the sums, one after the other."""
    if isinstance(op, Dense):
        yield from ((x[..., k, None], w[:, k]) for k in range(w.shape[1]))
        return
    taps = op.window.taps(x, 0)
    for i, j in np.ndindex(*op.window.kernel):
        if op.groups > 1:
            yield taps[:, :, i, j], w[:, i, j, 0]
        else:
            yield from ((taps[:, :, i, j, c, None], w[:, i, j, c]) for c in range(w.shape[3]))
