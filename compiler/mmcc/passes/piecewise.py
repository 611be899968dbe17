# SPDX-License-Identifier: Apache-2.0
"""Functions of one integer of 16 bits as polynomials on pieces, found by what the model's floats give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmcc.ops.int16 import LEAST, MOST
from mmcc.ops.piecewise import DEGREE, EVERY_16, FRACTION, MOST_PIECES, polynomial, positions
from mmcc.ops.quantize import Quantize
from mmcc.passes.quantized import StaysFloat

OFF = 2.0**-11  # of a step, by which a polynomial may miss the function,
ROUNDING = 2.0**-24  # and of the value, where the function is known as float32 only
UNSURE = 2.0**-3  # of a step: what roundings to float32 may change; more than that is another result
SAMPLES = 48  # places of a piece by which its polynomial is found
BEYOND = 8  # steps beyond the bounds of the result from which on all values are alike
INT32 = 2**31

Floats = NDArray[np.float64]
Table = tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int8], NDArray[np.int32]]


def pieces_of(quantize: Quantize, values: NDArray[np.float32], exact: Floats, low: int, high: int) -> Table:
    """The operands of a PiecewiseInt16 which gives what `quantize` makes of `values`, one for each int16, but
    where these are so near to a half step that float32 decides; raises StaysFloat if that takes more than
    MOST_PIECES.

    `exact` are the values without roundings on the way, which make the curve rough. Where they give something
    else than the model's own float steps, as behind a Floor, these count. Pieces are as long as their
    polynomials hold: a bend of the function, as a Clip has it, begins another.
    """
    scale = np.float64(np.float32(quantize.scale))
    steps, fine = (each.astype(np.float64) / scale + quantize.zero_point for each in (values, exact))
    lost = ~np.isfinite(steps)
    steps[lost] = quantize.reference(values[lost])[0].astype(np.float64)
    near = np.abs(fine - steps) < UNSURE
    steps = np.clip(np.where(near, fine, steps), low - BEYOND, high + BEYOND)
    found = list(_pieces(steps))
    last = np.array([end for end, _, _ in found])
    bits = np.array([bits for _, bits, _ in found], np.int8)
    first = np.searchsorted(last, np.arange(LEAST, MOST + 1, 256)).astype(np.uint8)
    return first, last.astype(np.int16), bits, np.concatenate([c for _, _, c in found]).astype(np.int32)


def _pieces(steps: Floats) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """The last x of each piece, the bits of its length, and its polynomial: each as long as it may be."""
    begin, length, count = 0, 256, 0
    while begin < len(steps):
        count += 1
        if count > MOST_PIECES:
            raise StaysFloat(f"a table for it takes more than {MOST_PIECES} pieces")
        length = min(length, len(steps) - begin)
        best = _fitted(steps, begin, length)
        while best is not None and begin + length < len(steps):
            longer = min(2 * length, len(steps) - begin)
            more = _fitted(steps, begin, longer)
            if more is None:
                break
            best, length = more, longer
        holds, fails = (length, min(2 * length, len(steps) - begin + 1)) if best is not None else (0, length)
        while fails - holds > max(1, holds >> 6):
            middle = (holds + fails) // 2
            more = _fitted(steps, begin, middle)
            best, holds, fails = (more, middle, fails) if more is not None else (best, holds, middle)
        assert best is not None, "one value is a constant"
        begin, length = begin + holds, max(1, holds)
        yield begin - 1 + LEAST, (holds - 1).bit_length(), best


def _fitted(steps: Floats, begin: int, length: int) -> NDArray[np.int64] | None:
    """The polynomial of a piece, if it is near enough everywhere on it."""
    want = steps[begin : begin + length]
    bits = (length - 1).bit_length()
    x = EVERY_16[begin : begin + length].astype(np.int64)
    at = positions(x, x[-1:], np.array([bits], np.int64))
    place = at / 2.0**32
    turns = np.cos(np.pi * (np.arange(SAMPLES) + 0.5) / SAMPLES)
    chosen = np.unique(np.rint((turns + 1) / 2 * (length - 1)).astype(np.int64))
    degree = min(DEGREE, len(chosen) - 1)
    powers = place[chosen, None] ** np.arange(degree + 1)
    solved = np.linalg.lstsq(powers, want[chosen], rcond=None)[0]
    fine = np.rint(np.pad(solved, (0, DEGREE - degree)) * 2.0**FRACTION)
    if (np.abs(fine) * 0.5 ** np.arange(DEGREE + 1)).sum() >= INT32 / 2 or np.abs(fine).max() >= INT32 / 2:
        return None
    coefficients = fine.astype(np.int64)
    off = polynomial(coefficients, at) / 2.0**FRACTION - want
    return coefficients if (np.abs(off) <= OFF + ROUNDING * np.abs(want)).all() else None
