# SPDX-License-Identifier: Apache-2.0
"""C integer types by the values they must hold."""

from __future__ import annotations

from collections.abc import Iterable

INTEGER_TYPES = (
    ("int8_t", -(2**7), 2**7),
    ("uint8_t", 0, 2**8),
    ("int16_t", -(2**15), 2**15),
    ("uint16_t", 0, 2**16),
    ("int32_t", -(2**31), 2**31),
    ("uint32_t", 0, 2**32),
)


def smallest_type(values: Iterable[int]) -> str:
    """The smallest C integer type that holds all values."""
    numbers = list(values)
    for ctype, low, high in INTEGER_TYPES:
        if all(low <= v < high for v in numbers):
            return ctype
    raise OverflowError(f"no 32-bit type holds {min(numbers)}..{max(numbers)}")
