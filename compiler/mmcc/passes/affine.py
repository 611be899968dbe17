# SPDX-License-Identifier: Apache-2.0
"""Functions of an int8 tensor and constants for each channel, as lines: exact but for ties, or not written.

What stands between Dequantize and Quantize is evaluated with the model's own float steps for all 256 values
of each channel. Lines are looked for that give the same integers: one for each channel, or two with a knee.
Half-way between two integers, where the model rounds to even, either will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import Where as Place
from mmcc.ir.graph import Node
from mmcc.ir.types import Quant
from mmcc.ops.affine import AffineInt8
from mmcc.ops.elementwise_int8 import EVERY
from mmcc.ops.quantize import Quantize
from mmcc.passes.draft import Draft
from mmcc.passes.lookup import evaluate, nearest_source

MOST_CHANNELS = 4096  # whose 256 values are looked at
WORD = 2.0**31 - 1
MOST_SHIFT = 30

Real = NDArray[np.float64]
INF = np.inf


def write_affine(draft: Draft, node: Node) -> bool:
    """Write a Quantize as an AffineInt8, if its input is such a function."""
    assert isinstance(node.op, Quantize)
    shape = draft.tensors[node.output].shape
    channels = shape[-1] if shape else 0
    if not 0 < channels <= MOST_CHANNELS:
        return False
    name = draft.now(node.inputs[0])
    source = nearest_source(draft, name, channels)
    if source is None:
        return False
    places: list[Place] = []
    values = evaluate(draft, name, {source: EVERY[:, None]}, places)
    table = np.broadcast_to(node.op.reference(values)[0], (len(EVERY), channels))
    low, high = int(table.min()), int(table.max())
    limits = _limits(table, _ties(values, node.op, table.shape), low, high)
    found = one_line(limits) or two_lines(limits)
    if found is None:
        return False
    hints = ("multiplier", "bias", "knee", "multiplier", "bias")
    constants = [
        draft.constant(data, f"{node.output}_{hint}")
        for data, hint in zip(found.operands, hints, strict=False)
    ]
    op = AffineInt8(found.shift, low, high)
    quant = Quant(node.op.scale, node.op.zero_point)
    draft.write(op, (source, *constants), node.output, (*places, *node.where), quant)
    return True


@dataclass(frozen=True, slots=True)
class Lines:
    """Operands and shift of an AffineInt8."""

    operands: tuple[NDArray[np.int32] | NDArray[np.int8], ...]
    shift: int


@dataclass(frozen=True, slots=True)
class Limits:
    """A line m * x + b must have low <= m * x + b < high at each of the 256 values of each channel."""

    low: Real  # [256, C]
    high: Real

    def within(self, points: NDArray[np.bool_]) -> Limits:
        """These limits at the given points, and none elsewhere."""
        return Limits(np.where(points, self.low, -INF), np.where(points, self.high, INF))


def _ties(values: NDArray[np.float32], op: Quantize, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """1 where the model rounds a half up, -1 where down, else 0."""
    steps = np.broadcast_to(values / np.float32(op.scale), shape)
    half = np.abs(steps - np.floor(steps) - 0.5) == 0
    return np.where(half, np.where(np.rint(steps) > steps, 1, -1), 0).astype(np.int8)


def _limits(table: NDArray[np.int8], ties: NDArray[np.int8], low: int, high: int) -> Limits:
    """The limits that give the wanted integers; beyond a clamped one there is no limit."""
    least, most = table - (ties > 0).astype(np.float64), table + (ties < 0).astype(np.float64)
    return Limits(np.where(least > low, least, -INF), np.where(most < high, most + 1, INF))


def one_line(limits: Limits) -> Lines | None:
    """A line for each channel; None if one has none."""
    slopes = _slopes(limits)
    found = None if slopes is None else _in_words([limits], [slopes])
    return None if found is None else Lines(found[0], found[1])


def two_lines(limits: Limits) -> Lines | None:
    """A line below a knee, and one from there on."""
    last = _passed(limits)  # the knee may be this at most, for the line below it
    least = len(EVERY) - _passed(Limits(limits.low[::-1], limits.high[::-1]))
    if (least > last).any():
        return None
    knee = np.minimum((least + last) // 2, len(EVERY) - 1)
    below = np.arange(len(EVERY))[:, None] < knee
    parts = [limits.within(below), limits.within(~below)]
    slopes = [_slopes(part) for part in parts]
    if slopes[0] is None or slopes[1] is None:
        return None
    found = _in_words(parts, [slopes[0], slopes[1]])
    if found is None:
        return None
    operands, shift = found
    return Lines((*operands[:2], (knee - 128).astype(np.int8), *operands[2:]), shift)


def _slopes(limits: Limits) -> Real | None:
    """A slope for each channel in the middle of those that some line has; None if a channel has none.

    A line exists just if the slopes that any two points allow have a number in common.
    """
    least, most = np.full(limits.low.shape[1], -INF), np.full(limits.low.shape[1], INF)
    with np.errstate(invalid="ignore"):
        for step in range(1, len(EVERY)):
            least = np.maximum(least, ((limits.low[step:] - limits.high[:-step]) / step).max(0))
            most = np.minimum(most, ((limits.high[step:] - limits.low[:-step]) / step).min(0))
    if (least >= most).any():
        return None
    return _middle(least, most)


def _passed(limits: Limits) -> NDArray[np.int64]:
    """For each channel how many points, from the first on, one line can pass."""
    channels = limits.low.shape[1]
    least, most = np.full(channels, -INF), np.full(channels, INF)
    count = np.full(channels, len(EVERY), np.int64)
    for k in range(1, len(EVERY)):
        step = np.arange(k, 0, -1)[:, None]
        up = ((limits.low[k] - limits.high[:k]) / step).max(0)
        down = ((limits.high[k] - limits.low[:k]) / step).min(0)
        least, most = np.maximum(least, up), np.minimum(most, down)
        count = np.where((least >= most) & (count == len(EVERY)), k, count)
    return count


def _middle(least: Real, most: Real) -> Real:
    """A number between two; near the finite one if only one is finite; 0 if none is."""
    both = np.isfinite(least) & np.isfinite(most)
    with np.errstate(invalid="ignore"):
        middle = (least + most) / 2
    one = np.where(np.isfinite(least), least + 0.5, np.where(np.isfinite(most), most - 0.5, 0.0))
    return np.where(both, middle, one)


def _in_words(parts: list[Limits], slopes: list[Real]) -> tuple[tuple[NDArray[np.int32], ...], int] | None:
    """Multiplier and bias of each part in integers, over one power of two; None if they need more bits."""
    x = EVERY.astype(np.float64)[:, None]
    largest = 1.0
    for limits, slope in zip(parts, slopes, strict=True):
        offset = _middle((limits.low - slope * x).max(0), (limits.high - slope * x).min(0))
        largest = max(largest, float((np.abs(slope) * 128 + np.abs(offset) + 2).max()))
    shift = min(MOST_SHIFT, int(np.floor(np.log2(WORD / largest))))
    if shift < 0:
        return None
    operands: list[NDArray[np.int32]] = []
    for limits, slope in zip(parts, slopes, strict=True):
        multiplier = np.rint(slope * 2.0**shift)
        least = np.ceil((limits.low * 2.0**shift - multiplier * x).max(0))
        most = np.ceil((limits.high * 2.0**shift - multiplier * x).min(0)) - 1
        bias = np.floor(_middle(least, most))
        if (least > most).any() or (np.abs(multiplier) * 128 + np.abs(bias)).max() > WORD:
            return None
        operands += [multiplier.astype(np.int32), bias.astype(np.int32)]
    return tuple(operands), shift
