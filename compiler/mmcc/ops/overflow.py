# SPDX-License-Identifier: Apache-2.0
"""Where sums within an op may be more than a float32 holds: what comes out then hangs on their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.op import Op
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.reduce import Reduce

Array = NDArray[Any]
FLOAT_MAX = float(np.finfo(np.float32).max)


def may_overflow(operands: Sequence[Array]) -> bool:
    """True if the square of the largest float, added up over all elements four times, is not sure to be a
    float32, or if one of them is not finite."""
    floats = [array for array in operands if array.dtype.kind == "f"]
    largest = float(np.max([np.abs(array).max(initial=0) for array in floats], initial=0))  # NaN stays
    return not 4 * largest * largest * max((array.size for array in floats), default=1) <= FLOAT_MAX


def has_factors(op: Op, operands: Sequence[Array]) -> bool:
    """True for a product of floats along some axes: of many small ones, it may be more than a float."""
    return isinstance(op, Reduce) and op.function == "prod" and operands[0].dtype.kind == "f"


@np.errstate(all="ignore")  # arithmetic as in C, which warns of nothing
def overflows_unseen(op: Op, operands: Sequence[Array], count: int) -> NDArray[np.bool_]:
    """Of `count` elements of a result those that a sum or product within the op, beyond floats, may change.

    A sum that is infinite does not show where a line is divided by its root, behind a clamp, or in a cell,
    whose functions are bounded and whose h goes from step to step. A product of some of the factors may be
    infinite though that of all is small, or 0.
    """
    if has_factors(op, operands):
        (largest,) = op.reference(np.maximum(np.abs(operands[0].astype(np.float64)), 1))
        return ~(largest <= FLOAT_MAX).reshape(-1)  # no product of some of the factors is larger
    if not may_overflow(operands):
        return np.zeros(count, np.bool_)
    if isinstance(op, Recurrent):
        return np.ones(count, np.bool_)
    wide = [array.astype(np.float64) for array in operands]
    if op.traits.normalizes:
        x = wide[0]
        squares = 4 * (x * x).sum(-1, keepdims=True)  # less its mean, an element is twice as large at most
        return np.broadcast_to(~(squares <= FLOAT_MAX), x.shape).reshape(-1)
    integers = any(array.dtype.kind != "f" for array in operands)
    if integers or getattr(op, "activation", None) is None:
        return np.zeros(count, np.bool_)
    bare: Any = replace(cast(Any, op), activation=None)
    (sums,) = bare.reference(*(np.abs(array) for array in wide))  # no sum of some of the products is larger
    return ~(sums <= FLOAT_MAX).reshape(-1)
