# SPDX-License-Identifier: Apache-2.0
"""Sums of runtime_c/mmcc_products.h, where the compiler knows all sizes."""

from __future__ import annotations

import numpy as np
import pytest
from mmcc.resources import data_dir
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from toolchains import FIRMWARE, ready

CASES = (*((count, 8) for count in range(7)), *((count, 9) for count in range(7, 10)))
CASES += ((36, 8), (37, 8), (40, 9), (41, 9))  # as tests/firmware/products.c has them


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "host"])
def test_sums_of_every_count(name, tmp_path):
    target, rng = ready(name), np.random.default_rng(3)
    w, x = (rng.integers(-8, 9, size).astype(np.float32) for size in (16 * 41, 41))  # all sums are exact
    elf = build_firmware(target, [FIRMWARE / "products.c"], [data_dir("runtime_c")], tmp_path)
    given = np.concatenate((w, x)).tobytes()
    run = run_firmware(elf, target, given, len(given), tmp_path / "run")
    wanted = [
        (
            1 + x[:count] @ w[: 8 * count].reshape(count, 8),
            2 + x[:count] @ np.lib.stride_tricks.as_strided(w, (count, 8), (4 * step, 4)),
            x[:count] @ w[: 16 * count].reshape(count, 16),
        )
        for count, step in CASES
    ]
    got = np.frombuffer(run.outputs, np.float32).reshape(len(CASES), 32)
    differs = got != np.stack([np.concatenate(sums) for sums in wanted])
    assert not [case for case, wrong in zip(CASES, differs, strict=True) if wrong.any()]
