"""Convolutions and dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.layers import Site, layer
from mmcc.ir.program import Field, KernelUse
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.window import Window


def requantization(
    site: Site, acc_bound: int, multiplier: NDArray[np.int32], shift: NDArray[np.int8]
) -> tuple[dict[str, Any], dict[str, Field]]:
    """Options and fields for the epilogue: `left` brings every shift to 33 or more, for the fast form.

    Shifting the accumulator left by `left` and scaling by `shift + left` gives the same bits; it is allowed
    where the accumulator's bound leaves room. Otherwise the epilogue works in 64 bits.
    """
    left = max(0, 33 - int(shift.min()))
    fast = acc_bound << left < 2**31
    fields: dict[str, Field] = {
        "multiplier": site.keep("multiplier", multiplier),
        "shift": site.keep("shift", (shift + left - 32 if fast else shift).astype(np.uint8)),
    }
    if fast and left:
        fields["left"] = left
    return {"requantize": ("left" if left else "high") if fast else "wide"}, fields


def accumulator_bound(w: NDArray[Any], b: NDArray[Any], x_zero: int, w_zero: int) -> int:
    """Largest |accumulator| that any int8 input can cause; w has the output channel first."""
    flat = np.abs(w.reshape(w.shape[0], -1).astype(np.int64) - w_zero).sum(1)
    reach = max(127 - x_zero, x_zero + 128)
    return int((flat * reach + np.abs(b.astype(np.int64))).max(initial=0))
