# SPDX-License-Identifier: Apache-2.0
"""Chips by their names: core, RAM and flash, from the table targets/chips/chips.csv. Reads it when asked."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mmcc.resources import data_dir

KIB = 1024
STM32_PINS = 9  # where an STM32's name has the letter of its package: stm32f411[r]e


@dataclass(frozen=True, slots=True)
class Chip:
    """A product: the target that is its core, bytes of the RAM for variables, bytes of flash (0: outside)."""

    name: str
    core: str
    ram: int
    flash: int
    source: str


@cache
def chips() -> Mapping[str, Chip]:
    """All of the table, by name."""
    text = (data_dir("targets") / "chips" / "chips.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["name"]: Chip(
            row["name"], row["core"], int(row["ram"]) * KIB, int(row["flash"]) * KIB, row["source"]
        )
        for row in rows
    }


def find_chip(name: str) -> Chip | None:
    """A chip by the table's name, or by what is printed on it: STM32F411RET6 is stm32f411xe."""
    asked = name.lower()
    tries = [asked]
    if asked.startswith("stm32") and len(asked) > STM32_PINS + 1:
        tries.append(f"{asked[:STM32_PINS]}x{asked[STM32_PINS + 1]}")
    tries += [other for other in chips() if not asked.startswith("stm32") and asked.startswith(other)]
    return next((chips()[each] for each in tries if each in chips()), None)
