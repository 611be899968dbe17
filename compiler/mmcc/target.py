# SPDX-License-Identifier: Apache-2.0
"""A target is one TOML file; this is the only code that reads them. The dataclasses are the schema."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import pairwise
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from mmcc.chips import Chip, chips, find_chip, longest_beginning
from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.ir.plan import BLOCK_ALIGN
from mmcc.ir.regions import SRAM, Cache, Region
from mmcc.ops import (
    OPS,
    catalog,  # noqa: F401  # pyright: ignore[reportUnusedImport]
)
from mmcc.resources import data_dir
from mmcc.sizes import readable

_T = TypeVar("_T")

# the figures that planner/cost.py asks for; another is a slip of the pen, which would go unnoticed
LAYER_KINDS = ("conv", "pointwise", "depthwise", "dense")
COST_KEYS = frozenset(
    ["call", "element_row", "staged_byte", "winograd_float_mac", "winograd_float_rows_mac"]
    + [f"{op.kernel}_element" for op in OPS.values()]
    + [f"{kind}_row" for kind in LAYER_KINDS]
    + [
        f"{kind}{of}_{what}"
        for kind in LAYER_KINDS
        for of in ("", "_float", "_fp16")
        for what in ("mac", "output", "input")
    ]
)
COST_UNITS = ("instructions", "cycles")  # the first, unless a target says
COST_TABLES = ("cost", "cost_of_small_frames")  # in this unit

REGION_NAME = re.compile("[a-z][a-z0-9_]{0,30}")
TAKEN_NAME = re.compile(r"weights|slice|streams|(\w+_)?state|arena|context|(input|output)_\d+")
CHIPS = "chips"  # the folder of theirs below that of targets
MOST_WINDOWS = 3  # of regions on an emulated board: memory protection units have so many entries


@dataclass(frozen=True, slots=True)
class Window:
    """A range of addresses of the emulated board."""

    origin: int
    length: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.origin + self.length


@dataclass(frozen=True, slots=True)
class Qemu:
    """How to run a program for this target under QEMU.

    A board has `code`, `constants`, `ram` and `io`. User mode (`machine` is "") has none: the program runs on
    a libc.
    """

    program: str
    machine: str = ""
    cpu: str = ""
    options: tuple[str, ...] = ()
    code: Window | None = None  # vectors, instructions, initial values of .data
    constants: Window | None = None  # weights and tables; large on boards with a large external memory
    ram: Window | None = None  # the model's: stack, arena, .data, .bss; cut down to --ram
    io: Window | None = None  # what the test bench needs for itself and must not count
    memory: Mapping[str, Window] = field(default_factory=dict[str, Window])  # regions that are not in `ram`


@dataclass(frozen=True, slots=True)
class Target:
    """What the compiler knows of a machine."""

    name: str
    description: str
    firmware: str  # start-up code in runtime_c/firmware: "cortex_m", "riscv"; a libc's: "posix", "wasi"
    kernels: tuple[str, ...]  # folders under templates/kernels, best first; missing ones are skipped
    compiler: str
    flags: tuple[str, ...]
    objdump: str
    pointer_bytes: int
    stack_bytes: int  # reserved for the stack until the real bound is known
    libraries: tuple[str, ...] = ()  # given to the linker after the objects
    library_stack_bytes: int = 0  # margin for a call into a shared library, whose code is not in the ELF
    vector_bits: int = (
        0  # longest vector registers that frames are measured for, if the processor says how long
    )
    note: str = ""  # shown when the target is chosen
    packages: Mapping[str, str] = field(default_factory=dict[str, str])  # tool -> Debian package
    cost: Mapping[str, float] = field(default_factory=dict[str, float])  # of work, by kind
    cost_unit: str = COST_UNITS[0]  # of these figures
    cost_of_small_frames: Mapping[str, float] = field(default_factory=dict[str, float])  # where that differs
    qemu: Qemu | None = None
    engine: str = (
        ""  # the program that runs WebAssembly modules, as runtime_c/firmware/run_wasi.mjs asks for it
    )
    memory: tuple[Region, ...] = (SRAM,)  # where arenas may be, best first
    cache: tuple[Cache, ...] = ()  # before all memory, the smallest first; that plans are chosen by
    weights_cost: float = 0.0  # cycles for a byte of weights where the linker puts them; 0: not known
    fp16_math: bool = False  # kernels in float16 pay: the flags let the compiler use arithmetic of it
    small_frames: bool = False  # kernels take less stack, and are slower: so with --ram min

    @property
    def bare_metal(self) -> bool:
        """True where the linker script, not an operating system, decides what is where."""
        return self.firmware not in ("posix", "wasi")

    @property
    def webassembly(self) -> bool:
        """True where programs are modules of WebAssembly, which are no ELF files."""
        return self.firmware == "wasi"


def list_targets() -> tuple[str, ...]:
    """Names of the targets that come with the compiler."""
    return tuple(sorted(p.stem for p in data_dir("targets").glob("*.toml")))


def list_chips() -> tuple[str, ...]:
    """Names of the chips that come with the compiler: a target's core with the memories of one product."""
    return tuple(sorted(p.stem for p in (data_dir("targets") / CHIPS).glob("*.toml")))


def is_path(name_or_path: str) -> bool:
    """Whether a target is a file of the user's own, not a name."""
    return "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(".toml")


def load_target(name_or_path: str) -> Target:
    """Read a target by name, or a user's own TOML file by path. What is wrong in it is a user error."""
    named = not is_path(name_or_path)
    if named and name_or_path not in (*list_targets(), *list_chips()):
        if chip := find_chip(name_or_path):
            return _of_chip(chip)
        name_or_path = longest_beginning(name_or_path, list_chips()) or name_or_path
    path = _shipped(name_or_path) if named else Path(name_or_path)
    if not path.is_file():
        what = f'no target "{name_or_path}"' if named else f"there is no file {name_or_path}"
        guess = did_you_mean(path.stem, (*list_targets(), *list_chips(), *chips()))
        raise CompileError("MM001", what, exit=Exit.USAGE, hint=f"{guess}one of: {', '.join(list_targets())}")
    table = _read(path)
    table.setdefault("name", path.stem)
    target = _record(Target, table, path.name)
    _check_memory(target.memory, f'{path.name}, "memory"')
    _check_caches(target.cache, f'{path.name}, "cache"')
    if target.qemu is not None:
        _check_board(target.memory, target.qemu, f'{path.name}, "qemu"')
    if target.cost_unit not in COST_UNITS:
        hint = did_you_mean(target.cost_unit, COST_UNITS)
        what = f'must be {" or ".join(COST_UNITS)}, not "{target.cost_unit}"'
        raise _wrong(f'{path.name}, "cost_unit"', what, hint)
    for name in COST_TABLES:
        for key in getattr(target, name):
            if key not in COST_KEYS:
                hint = did_you_mean(key, COST_KEYS) + "docs/targets.md lists the figures"
                raise _wrong(path.name, f'"{name}": unknown key "{key}"', hint)
    return target


def _of_chip(chip: Chip) -> Target:
    """The core of a chip, with its RAM as the only memory."""
    core = load_target(chip.core)
    flash = f", {readable(chip.flash)} of flash" if chip.flash else ""
    checked = f"; the same in {' and '.join(chip.checked.split())}" if chip.checked else "; check it"
    described = f"{chip.core}, {readable(chip.ram)} of RAM{flash} ({chip.source}{checked})"
    memory = (replace(SRAM, size=chip.ram),)
    return replace(core, name=chip.name, description=described, memory=memory, weights_cost=chip.weights_cost)


def _check_memory(memory: tuple[Region, ...], where: str) -> None:
    """What the types of the keys do not say."""
    names = [region.name for region in memory]
    if not memory or len(set(names)) != len(names):
        raise _wrong(where, f"must be regions of different names, not {names}")
    for region in memory:
        if not REGION_NAME.fullmatch(region.name) or TAKEN_NAME.fullmatch(region.name):
            hint = "a lower-case letter, then letters, digits and _; no name that generated C has already"
            raise _wrong(where, f'"{region.name}" cannot be the name of a region', hint)
        if region.align < BLOCK_ALIGN or region.align & (region.align - 1):
            what = f"must be a power of two, {BLOCK_ALIGN} or more: {region.align}"
            raise _wrong(f'{where}, "align"', what)
        line = region.cache_line
        if line < 0 or line & (line - 1) or line > region.align:
            raise _wrong(
                f'{where}, "cache_line"', f"must be a power of two, {region.align} (align) or less: {line}"
            )
        if '"' in region.section or not region.section.isprintable():
            raise _wrong(f'{where}, "section"', f"is no name of a section: {region.section!r}")


def _check_caches(caches: tuple[Cache, ...], where: str) -> None:
    sizes = [cache.size for cache in caches]
    if sizes != sorted(set(sizes)) or 0 in sizes:
        raise _wrong(where, f"must be caches of growing sizes, not {sizes}")


def _check_board(memory: tuple[Region, ...], qemu: Qemu, where: str) -> None:
    """All windows of a board are apart, and those of regions are what the start-up code can protect."""
    own = {"code": qemu.code, "constants": qemu.constants, "ram": qemu.ram, "io": qemu.io}
    windows = [(name, window) for name, window in own.items() if window is not None]
    windows += [(f"memory, {name}", window) for name, window in qemu.memory.items()]
    windows.sort(key=lambda item: item[1].origin)
    for (before, below), (name, window) in pairwise(windows):
        if window.origin < below.end:
            raise _wrong(
                where, f'"{name}" begins at {window.origin:#x}, and "{before}" ends at {below.end:#x}'
            )
    _check_windows(memory, qemu, f'{where}, "memory"')


def _check_windows(memory: tuple[Region, ...], qemu: Qemu, where: str) -> None:
    """Windows of regions are one behind the other, between ram and io."""
    names = [region.name for region in memory]
    for name, window in sorted(qemu.memory.items(), key=lambda item: item[1].origin):
        if name not in names:
            raise _wrong(where, f'no region is called "{name}"', did_you_mean(name, names))
        if qemu.ram is None or qemu.io is None or not qemu.ram.end <= window.origin < qemu.io.origin:
            raise _wrong(where, f'"{name}" is not between ram and io')
        if window.length & (window.length - 1) or window.origin % max(1, window.length):
            raise _wrong(where, f'"{name}": length must be a power of two that divides the origin')
        if qemu.constants is not None and qemu.ram.origin < qemu.constants.origin < window.origin:
            # constants behind ram, as boards with an external memory have them, are opened as one with io
            raise _wrong(where, f'"{name}" is between constants and io, which are protected as one')
    if len(qemu.memory) > MOST_WINDOWS:
        raise _wrong(where, f"has {len(qemu.memory)} windows, {MOST_WINDOWS} can be protected")


def _shipped(name: str) -> Path:
    """The file of a target or chip that comes with the compiler, if there is one of this name."""
    folder = CHIPS if name in list_chips() else ""
    return data_dir("targets") / folder / f"{name}.toml"


def _read(path: Path) -> dict[str, Any]:
    """The table of one file, laid over that of the target it names with `same_as`."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path.name, str(error)) from error
    base = table.pop("same_as", None)
    if base is None:
        return table
    base_path = _shipped(str(base))
    if not base_path.is_file() or base_path.resolve() == path.resolve():
        known = (*list_targets(), *list_chips())
        hint = f"{did_you_mean(str(base), known)}one of: {', '.join(known)}"
        raise _wrong(path.name, f'same_as = "{base}" is no known target', hint)
    under = _read(base_path)
    unit = under.get("cost_unit", COST_UNITS[0])
    if table.get("cost_unit", unit) != unit:
        under = {key: value for key, value in under.items() if key not in COST_TABLES}
    for key in ("packages", *COST_TABLES, "qemu"):  # added to; all else is replaced
        if isinstance(under.get(key), dict) and isinstance(table.get(key), dict):
            table[key] = under[key] | table[key]
    return under | table


def _record(kind: type[_T], value: object, where: str) -> _T:
    """`value`, a TOML table, as a `kind`; its fields and their types are the only keys allowed."""
    table = _table(value, where)
    known = {f.name: f for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    for key in table:
        if key not in known:
            raise _wrong(
                where, f'unknown key "{key}"', hint=f"{did_you_mean(key, known)}known: {', '.join(known)}"
            )
    for key, f in known.items():
        if key not in table and f.default is MISSING and f.default_factory is MISSING:
            raise _wrong(where, f'"{key}" is missing')
    hints = get_type_hints(kind)
    return kind(**{key: _typed(hints[key], v, f'{where}, "{key}"') for key, v in table.items()})


def _typed(kind: object, value: Any, where: str) -> object:
    """`value` as the field type `kind`."""
    if kind == tuple[str, ...]:
        return tuple(_scalar(str, v, where) for v in _list(value, where))
    for of in (str, float, Window):
        if kind == Mapping[str, of]:
            items = _table(value, where).items()
            return MappingProxyType({k: _typed(of, v, f"{where}, {k}") for k, v in items})
    for each in (Region, Cache):
        if kind == tuple[each, ...]:
            tables = enumerate(_list(value, where))
            return tuple(_record(each, v, f"{where}, table {k + 1}") for k, v in tables)
    for record in (Qemu, Window):
        if kind in (record, record | None):
            return _record(record, value, where)
    for required in (int, float):  # absent is None
        if kind == required | None:
            return _scalar(required, value, where)
    return _scalar(kind, value, where)


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "must be a table")
    return value  # pyright: ignore[reportUnknownVariableType]


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "must be a list")
    return value  # pyright: ignore[reportUnknownVariableType]


def _scalar(kind: object, value: object, where: str) -> object:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind))
        raise _wrong(where, f"must be of type {wanted}, not {type(value).__name__}")
    if isinstance(value, int | float) and not 0 <= value < inf:
        raise _wrong(where, f"must be a finite number, not negative: {value}")
    return value


def _wrong(where: str, what: str, hint: str = "") -> CompileError:
    return CompileError("MM002", f"target {where}: {what}", exit=Exit.USAGE, hint=hint)
