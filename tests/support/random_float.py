# SPDX-License-Identifier: Apache-2.0
"""Shapes for float kernels that nobody thought of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from mmcc.ops.conv import Conv
from mmcc.ops.window import Window
from op_case import OpCase
from op_case_values import LAYER, RELU, exact


def spread(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def seeds():
    return st.integers(0, 2**32).map(np.random.default_rng)


@st.composite
def windows(draw, shape: tuple[int, int, int], pad: int = 4) -> Window:
    """A window that fits the padded image."""
    kernel, strides, dilations = draw(spread(1, 4)), draw(spread(1, 3)), draw(spread(1, 3))
    pads = (*draw(spread(0, pad)), *draw(spread(0, pad)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    lacking = [max(0, reach[a] - shape[a] - pads[a] - pads[a + 2]) for a in (0, 1)]
    return Window(kernel, strides, dilations, (*pads[:2], pads[2] + lacking[0], pads[3] + lacking[1]))


@st.composite
def convolutions(draw) -> OpCase:
    groups, depth, size = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 20))
    if draw(st.booleans()):
        depth, size, groups = 1, 1, draw(st.integers(1, 19))
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 19)), groups * depth)
    window, rng = draw(windows(shape)), draw(seeds())
    w = exact(rng, groups * size, *window.kernel, depth)
    op = Conv(window, groups, draw(st.sampled_from((None, RELU))))
    return OpCase("case", op, (exact(rng, *shape), w, exact(rng, groups * size)), LAYER)
