# SPDX-License-Identifier: Apache-2.0
"""What code costs once it is linked: flash, RAM and stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mmcc.target import Target, Window
from mmcc.toolchain.build import compile_objects, firmware_sources, link, write_linker_script
from mmcc.toolchain.link_map import map_of, read_map, section_bytes
from mmcc.toolchain.stack import StackBound, stack_bounds

# Wide enough for any model: this program is only measured, never run.
_CODE = Window(0x0000_0000, 0x0F00_0000)
_CONSTANTS = Window(0x1000_0000, 0x5000_0000)
_RAM = Window(0x6000_0000, 0x1000_0000)
_IO = Window(0x7000_0000, 0x0100_0000)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of what was reachable from the entry functions, libraries included."""

    code: int  # instructions and constants other than weights
    weights: int
    data: int  # initialised variables: in flash and in RAM
    bss: int
    stack: Mapping[str, StackBound]  # by entry function

    @property
    def flash(self) -> int:
        """Bytes of flash."""
        return self.code + self.weights + self.data

    @property
    def ram(self) -> int:
        """Bytes of static RAM; the stack comes on top."""
        return self.data + self.bss


def measure(
    target: Target,
    objects: Sequence[Path],
    entries: Sequence[str],
    workdir: Path,
    *,
    weight_prefixes: Sequence[str] = (),
    called_back: Sequence[str] = (),
    stack: bool = True,
) -> Footprint:
    """Link objects without start-up code, keeping what `entries` reach, and take its measure.

    Functions `called_back` are those that the caller's may call meanwhile, with a stack bound of their own.
    Constants whose symbol begins with one of `weight_prefixes` count as weights.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if target.webassembly:
        prefixes = tuple(weight_prefixes)
        return _measure_module(target, objects, entries, workdir, prefixes, called_back, stack=stack)
    keep = [f"-Wl,--undefined={entry}" for entry in entries]
    flags = [*keep, f"-Wl,--entry={entries[0]}"]
    if target.bare_metal:
        script = write_linker_script(
            workdir / "probe.ld", _CODE, _CONSTANTS, _RAM, _IO, ram_limit=_RAM.length, stack_bytes=0
        )
        flags += ["-T", str(script)]
    else:
        flags += ["-nostartfiles", "-Wl,-z,now"]
    libc = [source for source in firmware_sources(target) if source.stem.startswith("libc_")]
    extra = compile_objects(target, libc, workdir)
    probe = link(target, [*objects, *extra], workdir / "probe.elf", flags=flags)
    bounds = stack_bounds(probe, objects, entries, target, called_back) if stack else {}
    return _sizes(probe, tuple(weight_prefixes), bounds)


def _measure_module(
    target: Target,
    objects: Sequence[Path],
    entries: Sequence[str],
    workdir: Path,
    weight_prefixes: tuple[str, ...],
    called_back: Sequence[str],
    *,
    stack: bool,
) -> Footprint:
    """The same of a module that exports `entries`: a library for the engine, with its initialization."""
    exported = [f"-Wl,--export={entry}" for entry in entries]
    module = link(target, objects, workdir / "probe.wasm", flags=["-mexec-model=reactor", *exported])
    rows = read_map(map_of(module))
    symbols = [row for row in rows if row.level == 2 and row.section.startswith(".rodata")]
    weights = sum(row.bytes for row in symbols if weight_prefixes and row.name.startswith(weight_prefixes))
    code = section_bytes(rows, "CODE") + section_bytes(rows, ".rodata") - weights
    bounds = stack_bounds(module, objects, entries, target, called_back) if stack else {}
    return Footprint(code, weights, section_bytes(rows, ".data"), section_bytes(rows, ".bss"), bounds)


def _sizes(elf: Path, weight_prefixes: tuple[str, ...], bounds: Mapping[str, StackBound]) -> Footprint:
    code = data = bss = weights = 0
    constants: set[int] = set()
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        for index, section in enumerate(file.iter_sections()):
            name, size = section.name, int(cast(Any, section)["sh_size"])
            if name.startswith((".text", ".rodata", ".srodata", ".ARM", ".eh_frame", ".data.rel.ro")):
                code += size
                constants |= {index} if name.startswith((".rodata", ".srodata", ".data.rel.ro")) else set()
            elif name in (".data", ".sdata", ".tdata"):  # with an s: RISC-V's small ones
                data += size
            elif name in (".bss", ".sbss", ".tbss", ".arena"):
                bss += size
        table = file.get_section_by_name(".symtab")
        symbols = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
        for symbol in symbols:
            entry = cast(Any, symbol).entry
            if weight_prefixes and entry["st_shndx"] in constants and symbol.name.startswith(weight_prefixes):
                weights += int(entry["st_size"])
    return Footprint(code - weights, weights, data, bss, bounds)
