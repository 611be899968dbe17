# SPDX-License-Identifier: Apache-2.0
"""One file an operator family. An op is a frozen dataclass of its attributes that satisfies `mmcc.ir.op.Op`.

These are mmcc's own operators, channels-last and without a batch axis; `frontend/` maps ONNX to them.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")
OPS: dict[str, type[Any]] = {}


def op(cls: type[T]) -> type[T]:
    """Register an op class, so that the tests that hold for every op find it."""
    assert cls.__name__ not in OPS, f"{cls.__name__} is registered twice"
    assert "traits" in vars(cls), f"{cls.__name__} does not state its traits"
    OPS[cls.__name__] = cls
    return cls
