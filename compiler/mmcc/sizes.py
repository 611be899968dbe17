# SPDX-License-Identifier: Apache-2.0
"""Byte counts as people write and read them. 256K is 262144, as GNU ld reads it."""

from __future__ import annotations

import re

from mmcc.errors import CompileError, Exit

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
LARGEST = 2**48


def parse_size(text: str, what: str) -> int:
    """Bytes meant by `text`, e.g. "256K", "1M", "0x4000", "262144"; CompileError if it is no size above 0."""
    match = re.fullmatch(r"\s*(0x[0-9a-fA-F]+|\d+)\s*([KMG]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise CompileError(
            "MM003",
            f'{what}: "{text}" is not a size in bytes',
            exit=Exit.USAGE,
            hint="a whole number, perhaps with K (1024), M or G: 256K",
        )
    bytes_ = int(match[1], 0 if match[1].lower().startswith("0x") else 10) * _UNITS[match[2].upper()]
    if not 0 < bytes_ <= LARGEST:
        raise CompileError("MM003", f"{what}: {text} is outside 1 byte .. 256 TiB", exit=Exit.USAGE)
    return bytes_


def readable(count: int, unit: str = "") -> str:
    """A byte count with thousands separated and perhaps a unit, and in KiB or MiB where that says more."""
    if count < 10_000:
        return f"{count:,}{unit}"
    if count < 10 * 2**20:
        return f"{count:,}{unit} ({count / 2**10:.1f} KiB)"
    return f"{count:,}{unit} ({count / 2**20:.1f} MiB)"
