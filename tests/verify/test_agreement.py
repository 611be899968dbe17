# SPDX-License-Identifier: Apache-2.0
"""How many outputs may be off by one step from ONNX Runtime: those of one accumulator are one event."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.ops.requantize import multiplier_and_shift, requantize, watch_roundings
from mmcc.verification.agreement import Tally, allowed, distinct

pytestmark = pytest.mark.quick
SHAPE = (50, 50, 4)


def count(acc: np.ndarray, wrong: np.ndarray) -> int:
    """Different roundings among the wrong outputs; the scale differs from channel to channel."""
    pairs = [multiplier_and_shift(scale) for scale in (0.01, 0.013, 0.02, 0.029)]
    with watch_roundings() as roundings:
        requantize(acc, np.array([m for m, _ in pairs]), np.array([s for _, s in pairs]))
    (rounding,) = roundings
    return distinct(wrong, rounding.exact)


def test_outputs_of_one_accumulator_are_one_rounding() -> None:
    """By brute force over random accumulators; of a constant region, there is one for each channel."""
    rng = np.random.default_rng(0)
    assert count(np.full(SHAPE, 77), np.ones(SHAPE, bool)) == 4
    for most in (2, 50, 10_000):
        acc, wrong = rng.integers(-most, most, SHAPE), rng.random(SHAPE) < 0.1
        every = {(int(acc[at]), at[-1]) for at in np.ndindex(SHAPE) if wrong[at]}
        assert count(acc, wrong) == len(every)


def test_a_region_that_rounds_in_another_way_is_no_fault() -> None:
    few = int(allowed(10_000))
    assert Tally(10_000, mismatches=2_500, roundings=1, max_abs=1).ok(integer=True)
    assert not Tally(10_000, mismatches=2_500, roundings=few + 1, max_abs=1).ok(integer=True)
    assert not Tally(10_000, mismatches=1, roundings=1, max_abs=2).ok(integer=True)
