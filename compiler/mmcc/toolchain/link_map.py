# SPDX-License-Identifier: Apache-2.0
"""What the linker of WebAssembly put into a module: sections, pieces of objects, symbols, and their sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmcc.toolchain.elf import BENCH

_ROW = re.compile(r" *(?:-|[0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+) ( *)(\S.*)$")
_LEVEL = 8  # columns by which a piece is indented below its section, and a symbol below its piece


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the map: a section, a piece of an object in it, or a symbol of that piece."""

    level: int  # 0, 1 or 2
    name: str
    bytes: int
    section: str  # in which it is; for a section itself its own name


def map_of(module: Path) -> Path:
    """Where `link` has the map of a module written."""
    return module.with_suffix(".map")


def read_map(path: Path) -> tuple[Row, ...]:
    """The rows of a map that wasm-ld wrote."""
    rows: list[Row] = []
    section = ""
    for line in path.read_text().splitlines():
        found = _ROW.match(line)
        if found is None:
            continue  # the heading
        size, indent, name = found.groups()
        level = len(indent) // _LEVEL
        section = name if level == 0 else section
        rows.append(Row(level, name, int(size, 16), section))
    return tuple(rows)


def section_bytes(rows: tuple[Row, ...], prefix: str) -> int:
    """Bytes of all sections whose names begin so."""
    return sum(row.bytes for row in rows if row.level == 0 and row.name.startswith(prefix))


def variable_bytes(rows: tuple[Row, ...], objects: frozenset[str]) -> int:
    """Bytes of the variables that come from these objects, but for those of the test bench."""
    return sum(
        row.bytes
        for row in rows
        if row.level == 1
        and row.section.startswith((".data", ".bss"))
        and row.name.partition(":(")[0] in objects
        and not row.name.partition(":(")[2].startswith(BENCH)
    )
