# SPDX-License-Identifier: Apache-2.0
"""int8 kernels in C: every case in every way a plan may run it, and shapes that nobody thought of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import Bench, OpCase, rng_of
from mmcc.kernels.portable.elementwise_int8 import short_sum
from mmcc.ops import OPS
from mmcc.ops.conv import ConvInt8
from mmcc.ops.elementwise import AddInt8
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.requantize import multipliers_and_shifts
from mmcc.ops.window import Window
from mmcc.target import load_target
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
    assert tested == {name for name in OPS if "Int8" in name} | OTHERS


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


@settings(max_examples=300, deadline=None, derandomize=True)
@given(sums())
@pytest.mark.quick
def test_short_sums_are_right_for_every_pair(op):
    short = short_sum(op)
    if short is not None:
        a, b = (x.astype(np.int64) for x in np.meshgrid(*[np.arange(-128, 128)] * 2))
        total = a * short.times_a + b * short.times_b + short.offset
        reach = 128 * (abs(short.times_a) + abs(short.times_b)) + abs(short.offset)
        assert reach + (128 << short.bits) < 2**31
        want = op.reference(a.astype(np.int8), b.astype(np.int8))
        np.testing.assert_array_equal(np.clip(total >> short.bits, op.low, op.high), want)


@pytest.mark.quick
def test_usual_additions_have_short_sums():
    """Scales within a factor of two of each other, rounded as models have them."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(200):
        times = [int(r * 2**30) for r in rng.uniform(0.5, 1.999, 2)]
        zeros = [int(z) for z in rng.integers(-128, 128, 3)]
        found += short_sum(AddInt8((zeros[0], zeros[1]), (times[0], times[1]), 30, zeros[2])) is not None
    assert found == 200


def every_pair(name: str, op: AddInt8) -> OpCase:
    """All pairs of values, a pixel a value of `a`."""
    a, b = np.meshgrid(np.arange(-128, 128, dtype=np.int8), np.arange(-128, 128, dtype=np.int8))
    return OpCase(name, op, (a.reshape(16, 16, 256), b.reshape(16, 16, 256)))


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(sums(), min_size=6, max_size=6))
def test_sums_of_every_pair(ops):
    cases = [every_pair(f"case{k}", op) for k, op in enumerate(ops)]
    for target in (None, load_target("host")):
        bench = Bench(cases, target)
        for case in cases:
            bench.check(case.name)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(convolutions(), pools(), averages()), min_size=12, max_size=12))
def test_generated_shapes(cases):
    """Several a time: compiling costs more than running."""
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    bench = Bench(named)
    for case in named:
        bench.check(case.name)
