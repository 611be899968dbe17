# SPDX-License-Identifier: Apache-2.0
"""Hold targets/chips/chips.csv against what others publish of the same chips: RAM and flash in KiB.

    pip install modm-devices==0.13.1 pyocd==0.46.0
    python scripts/check_chips.py [--write]

modm-devices has STM32, SAM, nRF and RP chips, made from their makers' own data (ST's CubeMX, Microchip's
packs), pyOCD the memory maps of its built-in targets, taken from CMSIS packs. Chips that neither has keep
what the table says: "zephyr" is a device tree of Zephyr's (dts/), looked up by hand. With --write the column
`checked` is made anew.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "targets" / "chips" / "chips.csv"
RAM_WINDOW = range(0x1000_0000, 0x6000_0000)  # where variables may be; below it are tightly coupled ones
BY_HAND = "zephyr"
Sizes = set[tuple[int, int]]


def longest(regions: Iterable[tuple[int, int]]) -> int:
    """KiB of the longest stretch of (start, bytes) that follow each other."""
    best = end = length = 0
    for start, size in sorted(regions):
        length = length + size if start == end and length else size
        end, best = start + size, max(best, length)
    return best // 1024


def of_modm() -> Iterator[tuple[str, int, int]]:
    """Each part of modm-devices: name, RAM, flash."""
    import modm_devices
    from modm_devices.parser import DeviceParser

    folder = Path(modm_devices.__file__).parent / "resources" / "devices"
    for path in sorted(p for p in folder.rglob("*.xml") if "avr" not in p.parts):
        for device in DeviceParser().parse(path).get_devices():
            (core,) = (driver for driver in device.properties["driver"] if driver["name"] == "core")
            memories = [
                (m["name"], int(m["start"], 16), int(m["size"]), m["access"])
                for m in core.get("memory", [])
                if m.get("start")
            ]
            ram = [
                (start, size)
                for name, start, size, access in memories
                if "w" in access and start in RAM_WINDOW and name not in ("backup", "eeprom")
            ]
            flash = [(start, size) for name, start, size, _ in memories if name.startswith("flash")]
            yield device.partname.replace("-", ""), longest(ram), longest(flash)


def of_pyocd() -> Iterator[tuple[str, int, int]]:
    """Each built-in target of pyOCD, by the name of its file and its own: RAM, flash."""
    from pyocd.core.memory_map import MemoryMap
    from pyocd.target import builtin

    for module in pkgutil.iter_modules(builtin.__path__, "pyocd.target.builtin."):
        short = module.name.rpartition(".")[2]
        if not short.startswith("target_"):
            continue
        loaded = importlib.import_module(module.name)
        for value in vars(loaded).values():
            memory: Any = getattr(value, "MEMORY_MAP", None)
            if isinstance(memory, MemoryMap) and value.__module__ == loaded.__name__:
                ram = [(r.start, r.length) for r in memory if r.type.name == "RAM"]
                flash = [(r.start, r.length) for r in memory if r.type.name == "FLASH"]
                name = short.removeprefix("target_").lower().replace("_", "")
                yield re.sub(r"^mk", "k", name), longest(ram), longest(flash)


def pattern(name: str) -> re.Pattern[str]:
    """What the parts of a row are called: an x stands for any letter of the package."""
    return re.compile(re.sub(r"(?<=\d)x(?=[0-9a-z])|xx", lambda m: "." * len(m[0]), name) + ".*")


def found(name: str, parts: Iterable[tuple[str, int, int]]) -> Sizes:
    """RAM and flash of all parts of a row."""
    whole = pattern(name)
    return {(ram, flash) for part, ram, flash in parts if whole.fullmatch(part)}


def main() -> None:
    """Print what differs; with --write change the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="make the column `checked` anew")
    write = parser.parse_args().write
    lines = TABLE.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    sources = {"modm-devices": list(of_modm()), "pyocd": list(of_pyocd())}
    for row in rows:
        mine = int(row["ram"]), int(row["flash"])
        agree: list[str] = []
        for source, parts in sources.items():
            sizes = found(row["name"], parts)
            if mine in sizes:
                agree.append(source)
            elif sizes:
                print(f"{row['name']}: {mine} here, {sorted(sizes)} in {source}")
        row["checked"] = " ".join([*agree, *([BY_HAND] if BY_HAND in row["checked"] else [])])
    print(f"{sum(bool(row['checked']) for row in rows)} of {len(rows)} chips agree with what others publish")
    if write:
        text = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        TABLE.write_text("\n".join([*head, *text]) + "\n")


if __name__ == "__main__":
    main()
