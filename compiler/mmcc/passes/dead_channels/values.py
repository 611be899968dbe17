# SPDX-License-Identifier: Apache-2.0
"""A range of values for each channel, and the ranges of sums that are scaled, rounded and clamped.

Where a value is half-way between two steps, a range has both: ONNX Runtime, which rounds in float, may give
either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ops.requantize import requantize, saturate, watch_roundings

Array = NDArray[Any]
LEAST, MOST = -128, 127  # of int8


@dataclass(frozen=True, eq=False, slots=True)
class Range:
    """By channel: no element is below `low` or above `high`."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Channels whose elements all have one value, whatever the inputs are."""
        return self.low == self.high

    def map(self, change: Callable[[Array], Array]) -> Range:
        """The range of channels that are found among these."""
        return Range(change(self.low), change(self.high))


def joined(made: Sequence[tuple[Array, Array]]) -> Range:
    """One range for all of these lows and highs, whose last axis is channels."""
    low, high = (np.stack([pair[k] for pair in made]) for k in (0, 1))
    channels = low.shape[-1]
    return Range(low.reshape(-1, channels).min(0), high.reshape(-1, channels).max(0))


def requantized(op: Any, ends: Sequence[tuple[Array, Array, Array]]) -> Range:
    """The range of sums, each with its multiplier and shift, as `op` rounds and clamps them."""
    made: list[tuple[Array, Array]] = []
    for total, multiplier, shift in ends:
        with watch_roundings() as roundings:
            values = requantize(total, multiplier, shift)
        tie = roundings[-1].tie
        low, high = (saturate(v, op.y_zero, op.low, op.high) for v in (values - tie, values + tie))
        made.append((low.astype(np.int64), high.astype(np.int64)))
    return joined(made)


def computed(op: Any, *operands: Array) -> tuple[Array, Array]:
    """What an op that rounds once gives for these, at least and at most."""
    with watch_roundings() as roundings:
        y = op.reference(*operands)[0].astype(np.int64)
    tie = roundings[-1].tie
    return np.clip(y - tie, op.low, op.high), np.clip(y + tie, op.low, op.high)
