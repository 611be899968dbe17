# SPDX-License-Identifier: Apache-2.0
"""int8 kernels in C: every case in every way a plan may run it, and shapes that nobody thought of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import Bench
from mmcc.kernels.portable.elementwise_int8 import short_sum
from mmcc.ops import OPS
from mmcc.ops.elementwise_int8 import AddInt8
from mmcc.ops.pool import MaxPool
from mmcc.target import load_target
from op_case import OpCase, rng_of
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import int8
from random_int8 import averages, convolutions, sums, windows

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
    assert tested == {name for name in OPS if "Int8" in name or "Int16" in name} | OTHERS


@pytest.mark.quick
def test_no_two_cases_share_a_name():
    names = [case.name for family in FAMILIES.values() for case in family()]
    assert len(set(names)) == len(names)


@st.composite
def pools(draw) -> OpCase:
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 18)))
    window = draw(windows(shape))
    dtype = draw(st.sampled_from((np.int8, np.float32)))
    return OpCase("case", MaxPool(window), (int8(rng_of(str(shape)), *shape).astype(dtype),))


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
        (want,) = op.reference(a.astype(np.int8), b.astype(np.int8))
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
