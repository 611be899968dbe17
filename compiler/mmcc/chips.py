# SPDX-License-Identifier: Apache-2.0
"""Chips by their names: core, RAM and flash, from the table targets/chips/chips.csv. Reads it when asked."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mmcc.resources import data_dir

KIB = 1024
# where names have the letters of the package, and how many: stm32f411[r]e, samd21[g]18, nrf52832[qf]aa
PACKAGE = {"stm32": (9, 1), "sam": (6, 1), "nrf": (8, 2)}
BRANDS = {"atsam": "sam", "mk": "k", "mimxrt": "imxrt"}  # what is printed in front of a name


@dataclass(frozen=True, slots=True)
class Chip:
    """A product: the target that is its core, bytes of the RAM for variables, bytes of flash (0: outside).

    `weights_cost` is that of a target: cycles for a byte of weights in flash; 0: not known.
    """

    name: str
    core: str
    ram: int
    flash: int
    source: str  # the document that decides
    checked: str  # who else publishes the same sizes; "" where nobody was asked, or has others
    weights_cost: float


@cache
def chips() -> Mapping[str, Chip]:
    """All of the table, by name."""
    text = (data_dir("targets") / "chips" / "chips.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["name"]: Chip(
            row["name"],
            row["core"],
            int(row["ram"]) * KIB,
            int(row["flash"]) * KIB,
            row["source"],
            row["checked"],
            float(row["weights_cost"] or 0),
        )
        for row in rows
    }


def find_chip(name: str) -> Chip | None:
    """A chip by the table's name, or by what is printed on it: STM32F411RET6, ATSAMD21G18A, nRF52832-QFAA."""
    known = longest_beginning(name, chips())
    return chips()[known] if known else None


def longest_beginning(name: str, known: Iterable[str]) -> str | None:
    """The longest of `known` that a name of a chip begins with, whatever its package is."""
    asked = re.sub(r"[-_ ]", "", name.lower())
    for printed, short in BRANDS.items():
        asked = short + asked.removeprefix(printed) if asked.startswith(printed) else asked
    tries = [asked]
    for family, (at, letters) in PACKAGE.items():
        if asked.startswith(family):
            tries.append(asked[:at] + "x" * letters + asked[at + letters :])
    return max(
        (other for other in known if any(each.startswith(other) for each in tries)), key=len, default=None
    )
