# SPDX-License-Identifier: Apache-2.0
"""One file an operator family. An op is a frozen dataclass of its attributes that satisfies `mmcc.ir.op.Op`.

These are mmcc's own operators, channels-last and without a batch axis; `frontend/` maps ONNX to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Reference = Callable[..., tuple[NDArray[Any], ...]]
OPS: dict[str, type[Any]] = {}


def op(cls: type[T]) -> type[T]:
    """Register an op class, so that tests that hold for all ops find it; its reference computes as C does."""
    assert cls.__name__ not in OPS, f"{cls.__name__} is registered twice"
    assert "traits" in vars(cls), f"{cls.__name__} does not state its traits"
    registered: Any = cls
    registered.reference = _as_c(registered.reference)
    OPS[cls.__name__] = cls
    return cls


def _as_c(reference: Reference) -> Reference:
    """The reference without warnings: infinities and what is no number are values, as in C."""

    @wraps(reference)
    def silent(self: Any, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        with np.errstate(all="ignore"):
            return reference(self, *inputs)

    return silent
