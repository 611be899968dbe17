# SPDX-License-Identifier: Apache-2.0
"""Cases of Fourier transforms: lengths of every radix, real and complex, both ways, with too few numbers."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ops.fourier import Fourier, ShortTimeFourier, Transform
from op_case import OpCase, rng_of
from op_case_values import real

LENGTHS = (2, 3, 8, 15, 16, 25, 30, 60, 64)


def transforms() -> list[OpCase]:
    """Of lines."""
    rng = rng_of("transforms")
    cases: list[OpCase] = []
    for length, parts, inverse, onesided in product(LENGTHS, (1, 2), (False, True), (False, True)):
        transform = Transform(length, parts, inverse, onesided)
        name = f"fourier_{length}_{parts}_{'inverse' * inverse}{'onesided' * onesided}"
        x = real(rng, 3, transform.most * parts)
        cases.append(OpCase(name, Fourier(transform), (x,)))
        few = real(rng, 2, 2, 2, (transform.most // 2 + 1) * parts)
        cases.append(OpCase(f"{name}_few", Fourier(transform), (few,)))
    cases.append(OpCase("fourier_of_one_line", Fourier(Transform(16, 1)), (real(rng, 16),)))
    cases.append(OpCase("fourier_of_columns", Fourier(Transform(12, 2)), (real(rng, 3, 4, 24),)))
    small = real(rng, 2, 512) / 16  # so that all sums are about 1, as the bench's tolerance is
    cases.append(OpCase("fourier_512", Fourier(Transform(512, 1, onesided=True)), (small,)))
    return cases


def frames() -> list[OpCase]:
    """Of signals."""
    rng = rng_of("frames")
    cases: list[OpCase] = []
    for length, parts, onesided in product((8, 9, 16, 20), (1, 2), (False, True)):
        op = ShortTimeFourier(Transform(length, parts, onesided=onesided), step=5)
        x, name = real(rng, 40, parts), f"frames_{length}_{parts}_{'onesided' * onesided}"
        cases.append(OpCase(name, op, (x,)))
        window = np.hanning(length).astype(np.float32)
        cases.append(OpCase(f"{name}_window", op, (x, window), (False, True)))
    op = ShortTimeFourier(Transform(16, 1, onesided=True), step=20)
    cases.append(OpCase("frames_apart", op, (real(rng, 60, 1), real(rng, 16))))
    return cases
