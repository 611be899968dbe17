# SPDX-License-Identifier: Apache-2.0
"""Kernels that are called by other kernels only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KernelPart:
    """A kernel that another one calls: `name` tells it from the other's further parts.

    It reads the other's constant struct, where its own members have other names: `members` are pairs of both.
    """

    name: str
    template: str
    options: tuple[tuple[str, Any], ...]
    members: tuple[tuple[str, str], ...]
