"""int8 kernels in C: every case in every way a plan may run it, and shapes that nobody thought of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import Bench, OpCase, rng_of
from mmcc.ops import OPS
from mmcc.ops.conv import ConvInt8
from mmcc.ops.pool import MaxPool
from mmcc.ops.window import Window
from op_cases_int8 import CONSTANTS, FAMILIES, SCALES, int8, per_filter

OTHERS = {"Lookup", "FlipSign", "MaxPool", "ArgMax"}  # ops of this family whose name does not say int8


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_equal_the_reference(family):
    cases = FAMILIES[family]()
    bench = Bench(cases)
    for case in cases:
        bench.check(case.name)


@pytest.mark.quick
def test_every_int8_operator_has_cases():
    tested = {type(case.op).__name__ for family in FAMILIES.values() for case in family()}
    assert tested == {name for name in OPS if name.endswith("Int8")} | OTHERS


@pytest.mark.quick
def test_no_two_cases_share_a_name():
    names = [case.name for family in FAMILIES.values() for case in family()]
    assert len(set(names)) == len(names)


def spread(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def windows(draw, shape: tuple[int, int, int]) -> Window:
    """A window that fits the padded image."""
    kernel, strides, dilations = draw(spread(1, 4)), draw(spread(1, 3)), draw(spread(1, 2))
    pads = (*draw(spread(0, 4)), *draw(spread(0, 4)))
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
def pools(draw) -> OpCase:
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 18)))
    window = draw(windows(shape))
    dtype = draw(st.sampled_from((np.int8, np.float32)))
    return OpCase("case", MaxPool(window), (int8(rng_of(str(shape)), *shape).astype(dtype),))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(convolutions(), pools()), min_size=12, max_size=12))
def test_generated_shapes(cases):
    """Several a time: compiling costs more than running."""
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    bench = Bench(named)
    for case in named:
        bench.check(case.name)
