# SPDX-License-Identifier: Apache-2.0
"""What a sweep is of: its cases, and the rows that come of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Row = dict[str, Any]
DIED = "its process ended without a word"


@dataclass(frozen=True, slots=True)
class Case:
    """One combination; `ram` is a limit in bytes of all RAM, 0 for as little as possible."""

    model: str
    target: str
    io: str
    ram: int


def failed(case: Case, error: str) -> Row:
    """The row of a case that gave none."""
    return {**asdict(case), "fits": False, "error": error}


COLUMNS = (
    *("model", "target", "io", "ram", "fits", "arena", "total", "predicted"),
    *("macs", "flash", "proved", "error"),
)
