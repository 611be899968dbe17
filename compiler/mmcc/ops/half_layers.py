# SPDX-License-Identifier: Apache-2.0
"""Layers that have kernels for sums in float16, of operands that are all float16.

Asked of a layer alone, whatever plan it is in: one that were made so in some plans would have other bits.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense

HalfLayer = Conv | Dense
LEAST_FILTERS = 8  # with fewer, half of a block's work is for nothing
LEAST_CHANNELS = 16  # of a depthwise layer: a vector of the kernel's
DEPTHWISE_LIMIT = 7  # rows and columns of a depthwise window
TAP_LIMIT = 64  # taps of a window whose addresses may be listed on the stack
ROUNDING = 2.0**-11  # of a sum in float16, at most, as a share of it
LEAST, MOST = 2.0**-14, 65504.0  # that have all digits


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
    """True if sums of a layer of the graph may be float16."""
    return any(
        sums_in_halves(node.op, graph.tensors[node.inputs[0]].dtype) for node in graph.nodes if node.inputs
    )


def rounding_of_sums(op: HalfLayer, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """How far sums that are rounded after each product may be from the exact ones, for each output.

    A rounding is a share of the sum so far, which is at most that of the magnitudes. Roundings of either sign
    add up as the root of their number. Infinite where a sum may have been.
    """
    sizes = [np.abs(array.astype(np.float32)) for array in (x, w, b)]
    plain = Conv(op.window, op.groups) if isinstance(op, Conv) else Dense()
    (magnitudes,) = plain.reference(*sizes)
    products = w[0].size
    known = np.where(magnitudes <= MOST, magnitudes.astype(np.float64) + LEAST, np.inf)
    return ROUNDING * sqrt(products + 1) * known
