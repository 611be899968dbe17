# SPDX-License-Identifier: Apache-2.0
"""Rounding to whole numbers, bit by bit: cores without an instruction for it add and take off 2^23."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.ops.elementwise import Unary
from op_case import OpCase
from qemu_bench import QemuBench
from toolchains import ready


class Exact(QemuBench):
    """Compares bits, and so the signs of zeros."""

    def _compare(self, case: OpCase, got: np.ndarray, what: str, tolerance: tuple[float, float]) -> None:
        super()._compare(case, got, what, tolerance)
        if not self.recording:
            numbers = ~np.isnan(case.want)
            np.testing.assert_array_equal(
                got.view(np.uint32)[numbers], case.want.view(np.uint32)[numbers], what
            )


def ends() -> np.ndarray:
    """Ties, their neighbours, the last numbers with bits behind the point, and no numbers."""
    whole = np.array([0, 1, 2, 3, 2**22 - 1, 2**22, 2**23 - 1, 2**23, 2**24, 2**31, 1e30], np.float32)
    ties = (whole + np.float32(0.5)).astype(np.float32)
    near = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    rest = np.array([np.inf, np.nan, 1e-45, 0.25], np.float32)
    values = np.concatenate([whole, ties, *near, rest])
    return np.stack([values, -values])


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4", "cortex-m33", "aarch64"])
def test_ends_of_rounding(target):
    Exact([OpCase("ends", Unary("round"), (ends(),))], ready(target)).check_all()
