# SPDX-License-Identifier: Apache-2.0
"""Shapes and scales for int8 kernels that nobody thought of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from mmcc.ops.conv import ConvInt8
from mmcc.ops.elementwise_int8 import AddInt8
from mmcc.ops.pool import AveragePoolInt8
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.ops.window import Window
from op_case import OpCase, rng_of
from op_cases_int8_layers import CONSTANTS, SCALES, int8, per_filter


def spread(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def windows(draw, shape: tuple[int, int, int]) -> Window:
    """A window that fits the padded image."""
    kernel, strides, dilations = draw(spread(1, 4)), draw(spread(1, 3)), draw(spread(1, 2))
    far = st.tuples(st.integers(0, 4), st.integers(0, 40))  # columns that see nothing of the image
    pads = (*draw(spread(0, 4) | far), *draw(spread(0, 4) | far))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    lacking = [max(0, reach[a] - shape[a] - pads[a] - pads[a + 2]) for a in (0, 1)]
    return Window(kernel, strides, dilations, (*pads[:2], pads[2] + lacking[0], pads[3] + lacking[1]))


@st.composite
def convolutions(draw) -> OpCase:
    groups, depth, size = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    if draw(st.booleans()):
        depth, groups = 1, draw(st.integers(1, 12))
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 9)), groups * depth)
    window = draw(windows(shape))
    zeros = draw(spread(-128, 127))
    w_zero = draw(st.sampled_from((0, 0, 5, -128)))
    low = draw(st.sampled_from((-128, zeros[1])))
    form = draw(st.sampled_from(sorted(SCALES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    w = int8(rng, groups * size, *window.kernel, depth)
    op = ConvInt8(window, *zeros, groups, w_zero, low)
    return OpCase("case", op, (int8(rng, *shape), w, *per_filter(rng, groups * size, form)), CONSTANTS)


@st.composite
def averages(draw) -> OpCase:
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 18)))
    window, zeros = draw(windows(shape)), draw(spread(-128, 127))
    taps = window.kernel[0] * window.kernel[1]
    scale = draw(st.sampled_from((1.0, 0.25, 0.8731, 3.0))) / taps
    op = AveragePoolInt8(window, *zeros, low=draw(st.sampled_from((-128, -50))))
    table = multipliers_and_shifts(np.array([scale]))
    return OpCase("case", op, (int8(rng_of(str(shape)), *shape), *table), CONSTANTS)


@st.composite
def sums(draw) -> AddInt8:
    """Both operands' scales within a factor of 100 of the output's, as often a difference."""
    shift = draw(st.integers(22, 40))
    scales = [draw(st.floats(-2, 2)) for _ in range(2)]
    signs = draw(st.sampled_from(((1, 1), (1, -1), (-1, 1))))
    times = [sign * min(int(10**e * 2**shift), 2**31 - 1) for sign, e in zip(signs, scales, strict=True)]
    low, high = draw(st.sampled_from(((-128, 127), (-128, 127), (-7, 90))))
    zeros, y_zero = draw(spread(-128, 127)), draw(st.integers(-128, 127))
    return AddInt8(zeros, (times[0], times[1]), shift, y_zero, low, high)
