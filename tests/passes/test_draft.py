# SPDX-License-Identifier: Apache-2.0
"""Which constants that a pass makes are one, and what it takes to know."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from ir_text import read
from mmcc.passes.draft import SHARED_BYTES, Draft

pytestmark = pytest.mark.quick
GRAPH = """
    input %x: f32[2]
    %y: f32[2] = Unary(function="tanh")(%x)
    output %y
"""


def draft(training: bool) -> Draft:
    return Draft(replace(read(GRAPH), learned=frozenset() if training else None))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_equal_constants_are_one(dtype, shape) -> None:
    made = draft(training=False)
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    one = made.constant(data, "one")
    assert made.constant(data.copy(), "other") == one
    assert made.constant(np.array(data, order="F"), "turned") == one
    assert made.constant(data.reshape(*shape, 1), "shape") != one
    if data.size:
        assert made.constant(~data if dtype is np.bool_ else data + dtype(1), "data") != one


def test_zeros_of_both_signs_are_two() -> None:
    made = draft(training=False)
    assert made.constant(np.float32(0.0), "plus") != made.constant(np.float32(-0.0), "minus")


def test_what_training_may_change_is_one_only_by_its_name() -> None:
    made, large = draft(training=True), np.zeros(SHARED_BYTES, np.float32)
    one = made.constant(large, "weights")
    assert made.constant(large.copy(), "weights") == one
    assert made.constant(large.copy(), "others") != one


def test_a_large_constant_is_compared_without_a_copy_of_it() -> None:
    """All weights of a network that trains would be as many bytes again in each pass."""
    made, large = draft(training=True), np.zeros(1 << 21, np.float32)
    tracemalloc.start()
    made.constant(large, "weights")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < large.nbytes // 100
