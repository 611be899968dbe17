# SPDX-License-Identifier: Apache-2.0
"""The one definition of requantization, in numpy; runtime_c/mmcc_requantize.h is its twin in C.

`(acc * multiplier + 2^(shift-1)) >> shift` in 64 bits with a 31-bit multiplier: a single rounding, half up.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SHIFT, MAX_SHIFT = 1, 62
TIE = 2.0**-16  # of a step: what a float32 of 128 and more, which others round, cannot tell from a half


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """Values before rounding, in units that may differ between channels, and which of them are half-way."""

    exact: NDArray[np.int64]
    tie: NDArray[np.bool_]


_roundings: ContextVar[list[Rounding] | None] = ContextVar("roundings", default=None)


@contextmanager
def watch_roundings() -> Generator[list[Rounding]]:
    """Within the context, each rounding is appended to the list."""
    found: list[Rounding] = []
    token = _roundings.set(found)
    try:
        yield found
    finally:
        _roundings.reset(token)


def rounded(value: NDArray[np.int64], shift: NDArray[Any] | int) -> NDArray[np.int64]:
    """`value / 2^shift` to the nearest integer, halves up."""
    s = np.asarray(shift, np.int64)
    up = value + (np.int64(1) << (s - 1))
    roundings = _roundings.get()
    if roundings is not None:
        rest = (up & ((np.int64(1) << s) - 1)) / 2.0**s  # 0: exactly half-way
        roundings.append(Rounding(np.broadcast_to(value, rest.shape), np.minimum(rest, 1 - rest) < TIE))
    return up >> s


def multiplier_and_shift(scale: float) -> tuple[int, int]:
    """`(multiplier, shift)` with `multiplier / 2**shift` nearest to `scale` and 2^30 <= multiplier < 2^31.

    Scales too small to matter (below 2^-32) give (0, 1); scales of 2^29 and more raise ValueError.
    """
    if not 0 <= scale < 2.0**29:
        raise ValueError(f"requantization scale {scale} is outside [0, 2^29)")
    mantissa, exponent = frexp(scale)
    multiplier, shift = round(mantissa * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    if shift > MAX_SHIFT:
        return 0, MIN_SHIFT
    return multiplier, shift


def multipliers_and_shifts(scales: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """`multiplier_and_shift` of each of several scales, as int32 and int8 arrays."""
    pairs = [multiplier_and_shift(float(s)) for s in np.atleast_1d(scales)]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)


def requantize(
    acc: NDArray[Any], multiplier: NDArray[Any] | int, shift: NDArray[Any] | int
) -> NDArray[np.int64]:
    """Scale accumulators; the last axis goes with per-channel multipliers."""
    m, s = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    return rounded(acc.astype(np.int64) * m, s)


def requantize_wide(acc: NDArray[np.int64], multiplier: int, shift: int) -> NDArray[np.int64]:
    """As `requantize`, of sums of up to 62 bits, for a shift of 33 and more.

    Rounding then leaves the low word of the product alone, which has more than 64 bits.
    """
    m, word = np.int64(multiplier), np.int64(32)
    high = (acc >> word) * m + ((acc & np.int64(0xFFFFFFFF)) * m >> word)
    return rounded(high, shift - 32)


def saturate(values: NDArray[Any], zero: int, low: int, high: int) -> NDArray[np.int8]:
    """Add the output's zero point and clamp to [low, high], which lies within int8."""
    return np.clip(values + zero, low, high).astype(np.int8)
