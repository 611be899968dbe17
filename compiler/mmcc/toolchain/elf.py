# SPDX-License-Identifier: Apache-2.0
"""What linked programs and objects say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

BENCH = ".bss.mmcc_io"  # sections of what is the test bench's own: files read and written, copies begun


def symbols(elf: Path, names: Sequence[str]) -> dict[str, int]:
    """Values of the symbols that are there."""
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{elf.name} has no symbols"
        found = [cast(Any, symbol) for symbol in table.iter_symbols() if symbol.name in names]
    return {symbol.name: int(symbol.entry["st_value"]) for symbol in found}


def arenas(elf: Path) -> dict[str, tuple[int, int]]:
    """First address and end of each arena of the test bench, by memory; of the only one, by "arena". Memory
    for states has names of its own: "states", "parameters", or "dtcm_states"."""
    found: dict[str, tuple[int, int]] = {}
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
            entry, name = cast(Any, symbol).entry, symbol.name
            ours = name in ("arena", "states", "parameters") or name.endswith(("_arena", "_states"))
            if entry["st_info"]["type"] == "STT_OBJECT" and ours:
                start = int(entry["st_value"])
                found[name.removesuffix("_arena")] = (start, start + int(entry["st_size"]))
    return found


def function_at(elf: Path, address: int, *, thumb: bool) -> str:
    """The function that holds an address; empty if none does. The last bit of Thumb symbols is no address."""
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    for symbol in symbols:
        entry = cast(Any, symbol).entry
        start = int(entry["st_value"]) & ~1 if thumb else int(entry["st_value"])
        if start <= address < start + int(entry["st_size"]):
            return symbol.name
    return ""


def writable_bytes(path: Path) -> int:
    """Bytes of an object's variables, but for those of the test bench."""
    writable, in_memory = 1, 2  # SHF_WRITE, SHF_ALLOC
    with path.open("rb") as stream:
        sections = [each for each in ELFFile(stream).iter_sections() if not each.name.startswith(BENCH)]
        headers = [cast(Any, section).header for section in sections]
    return sum(int(h["sh_size"]) for h in headers if h["sh_flags"] & writable and h["sh_flags"] & in_memory)
