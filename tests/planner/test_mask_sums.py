# SPDX-License-Identifier: Apache-2.0
"""Sums over sets given as masks are those of their members."""

from __future__ import annotations

import pytest
from mmcc.planner.memory.mask_sums import MaskSums


@pytest.mark.quick
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
def test_sums_over_masks(count: int) -> None:
    values = [3**k for k in range(count)]
    sums = MaskSums(values)
    for mask in {0, (1 << count) - 1, *(1 << k for k in range(count)), 0x5555 & (1 << count) - 1}:
        assert sums(mask) == sum(value for k, value in enumerate(values) if mask >> k & 1)
