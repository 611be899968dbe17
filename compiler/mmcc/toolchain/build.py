# SPDX-License-Identifier: Apache-2.0
"""Find a target's tools, compile C with them, link it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import Template

from mmcc.errors import CompileError, Exit, printable
from mmcc.resources import data_dir
from mmcc.target import Target, Window
from mmcc.toolchain.link_map import map_of

STRICT_FLAGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wshadow",
    "-Wdouble-promotion",
    "-Wvla",
    "-Werror",
)
# Behind all other flags, in the package's own CMake too: what bits and frames of generated code depend on,
# whatever a project asks for. A fused multiply-add here and not there would make results depend on how a
# loop was cut; optimization at link time and canaries make other frames than those that were measured.
CODE_FLAGS = (
    "-fno-fast-math",
    "-ffp-contract=off",
    "-fno-lto",
    "-fomit-frame-pointer",
    "-fno-stack-protector",
)

WINDOW = "REGION_"  # before the name of a region, in the linker script

_LIBC_HEADERS = ("errno.h", "features.h", "math.h", "stdint.h", "stdio.h", "stdlib.h", "string.h")


def find_tool(name: str, target: Target) -> Path:
    """Where a tool is; if it is not installed, the error says what to install."""
    found = shutil.which(name)
    if found is None:
        package = target.packages.get(name)
        raise CompileError(
            "MM801",
            f"there is no {name} in PATH; target {target.name} needs it",
            exit=Exit.TOOL_MISSING,
            hint=f"apt-get install {package}" if package else "adding the folder that has it to PATH",
        )
    return Path(found)


@dataclass(frozen=True, slots=True)
class PackageBuild:
    """What a package's own CMake must do so that figures measured here hold for it.

    Which processor the code is for is left to the project: all of its code must agree on that.
    """

    flags: tuple[str, ...] = ("-O2", *CODE_FLAGS)  # optimization, and what frames and bits depend on
    cpu: tuple[str, ...] = ()  # the project's part, for people
    compiler: str = ""  # as CMake names its kind: "GNU" or "Clang"; "" if nothing was measured
    version: str = ""  # major.minor
    vector_bits: int = 0  # the longest vector registers that the stack holds for, where code is for any


def package_build(target: Target, *, measured: bool = True) -> PackageBuild:
    """Flags and compiler of the target, as the package's CMake needs them; asks it if `measured`."""
    ours = tuple(flag for flag in target.flags if flag.startswith(("-O", "-f")))
    cpu = tuple(flag for flag in target.flags if flag not in ours)
    if not measured:
        return PackageBuild((*ours, *CODE_FLAGS), cpu)
    macros = run_tool([find_tool(target.compiler, target), "-dM", "-E", "-x", "c", os.devnull], target)
    values = dict(re.findall(r"^#define (__\w+__) (\d+)$", macros, re.MULTILINE))
    clang = "__clang_major__" in values
    numbers = ("__clang_major__", "__clang_minor__") if clang else ("__GNUC__", "__GNUC_MINOR__")
    version = ".".join(values.get(name, "0") for name in numbers)
    kind = "Clang" if clang else "GNU"
    return PackageBuild((*ours, *CODE_FLAGS), cpu, kind, version, target.vector_bits)


def compile_objects(
    target: Target,
    sources: Sequence[Path],
    out_dir: Path,
    *,
    include_dirs: Sequence[Path] = (),
    flags: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Compile C files with every warning an error; objects among `sources` pass through.

    Beside each object lies the compiler's record of stack frames (.su), which `stack_bounds` reads.
    """
    compiler = find_tool(target.compiler, target)
    out_dir.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{folder}" for folder in include_dirs]

    def one(source: Path) -> Path:
        if source.suffix == ".o":
            return source
        made = out_dir / f"{source.stem}.o"
        command = [
            compiler,
            *STRICT_FLAGS,
            *target.flags,
            *CODE_FLAGS,
            "-fstack-usage",
            *includes,
            *flags,
        ]
        _run([*command, "-c", source, "-o", made], target, f"{source.name} does not compile")
        return made

    names = [source.stem for source in sources]
    assert len(set(names)) == len(names), f"two sources of one name: {names}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(pool.map(one, sources))


def link(target: Target, objects: Sequence[Path], elf: Path, *, flags: Sequence[str] = ()) -> Path:
    """Link objects and the target's libraries; what cannot be reached from the entry is dropped."""
    compiler = find_tool(target.compiler, target)
    start = ["-nostdlib"] if target.bare_metal else []
    libraries = ["-Wl,--start-group", *target.libraries, "-Wl,--end-group"]
    if target.webassembly:
        libraries = [*target.libraries, f"-Wl,-Map={map_of(elf)}"]  # its linker needs no groups
        find_tool("wasm-ld", target)
    command = [compiler, *target.flags, *start, "-Wl,--gc-sections", *flags, *objects, *libraries, "-o", elf]
    _run(command, target, f"{elf.name} does not link")
    return elf


def write_linker_script(
    path: Path,
    code: Window,
    constants: Window,
    ram: Window,
    io: Window,
    *,
    ram_limit: int,
    stack_bytes: int,
    windows: Mapping[str, Window] | None = None,
) -> Path:
    """Fill in the linker script of the firmware: `ram` cut to `ram_limit`, and `windows` of other regions."""
    template = Template((data_dir("runtime_c") / "firmware" / "link.ld.in").read_text())
    numbers = {
        "code_origin": code.origin,
        "code_length": code.length,
        "constants_origin": constants.origin,
        "constants_length": constants.length,
        "ram_origin": ram.origin,
        "ram_length": ram_limit,
        "board_ram_length": ram.length,
        "io_origin": io.origin,
        "io_length": io.length,
        "stack_bytes": stack_bytes,
    }
    texts = {name: f"0x{number:x}" for name, number in numbers.items()}
    path.write_text(template.substitute(texts | _window_texts(windows or {})))
    return path


def _window_texts(windows: Mapping[str, Window]) -> dict[str, str]:
    """What the linker script says of regions with windows of their own, in the order of their addresses."""
    memory, table, sections = "", "", ""
    for name, window in sorted(windows.items(), key=lambda item: item[1].origin):
        lo, hi = f"__{name}_lo", f"__{name}_hi"
        memory += f"    {WINDOW}{name} (rw) : ORIGIN = 0x{window.origin:x}, LENGTH = 0x{window.length:x}\n"
        table += f"LONG({lo}) LONG({hi}) LONG(0x{window.origin + window.length:x}) "
        arena = f"*(.bss.mmcc_arena.{name}) *(.bss.mmcc_arena.{name}_state)"
        sections += f"    .arena.{name} (NOLOAD) : {{ {lo} = .; {arena} {hi} = .; }} > {WINDOW}{name}\n"
    return {"window_memory": memory, "window_table": table, "window_sections": sections}


def firmware_sources(target: Target) -> tuple[Path, ...]:
    """The files of runtime_c/firmware below main: start-up and port."""
    names = {
        "cortex_m": ("semihost.c", "startup_cortex_m.c", "libc_cortex_m.c"),
        "riscv": ("semihost.c", "startup_riscv.c"),
        "posix": ("port_stdio.c", "port_posix.c"),
        "wasi": ("port_stdio.c", "port_wasi.c"),
    }
    if target.firmware not in names:
        known = ", ".join(names)
        message = f'target {target.name}: no start-up code "{target.firmware}"'
        raise CompileError("MM002", message, exit=Exit.USAGE, hint=f"one of: {known}")
    return tuple(data_dir("runtime_c") / "firmware" / name for name in names[target.firmware])


def run_tool(command: Sequence[str | Path], target: Target) -> str:
    """What a tool printed; its failure is an error of the build."""
    return _run(command, target, f"{Path(command[0]).name} failed")


def _run(command: Sequence[str | Path], target: Target, what: str) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", env=environment
    )
    if done.returncode == 0:
        return done.stdout
    output = done.stdout + done.stderr
    raise_if_disk_full(output)
    _raise_if_library_missing(output, target)
    overflow = re.search(r"region `(\w+)' overflowed by (\d+) bytes", output)
    if overflow:
        raise RegionOverflow(overflow[1], int(overflow[2]))
    lines = [printable(line, 400) for line in output.splitlines() if "error" in line or "undefined" in line]
    shown = "\n    ".join((lines or output.splitlines()[-5:])[:8])
    raise CompileError(
        "MM802",
        f"{what} for {target.name}:\n    {shown}",
        exit=Exit.INTERNAL,
        hint="report this with the model and the options" if "compile" in what else "",
    )


def raise_if_disk_full(output: str) -> None:
    """Tools that could not write say so: the disk is the user's, and no fault of what was compiled."""
    said = re.search(r"No space left on device|Disk quota exceeded|annot create temporary file", output)
    if said:
        where = os.environ.get("TMPDIR") or "/tmp"
        raise CompileError(
            "MM006",
            f'a compiler could not write in {printable(where, 100)} or where the package goes: "{said[0]}"',
            exit=Exit.USAGE,
            hint="make room there, or set TMPDIR to a folder with room",
        )


def _raise_if_library_missing(output: str, target: Target) -> None:
    """A cross compiler comes without its C library."""
    header = (
        r"(\w+\.h): No such file|no include path in which to search for (\w+\.h)|'(\w+\.h)' file not found"
    )
    library = r"cannot find -l\w+|cannot read spec file|'[\w.]+specs'|cannot open \S+\.[ao]: No such file"
    missing = re.search(rf"{header}|{library}", output)
    if missing and (missing[1] or missing[2] or missing[3] or "string.h") in _LIBC_HEADERS:
        raise CompileError(
            "MM801",
            f"the C library of {target.compiler} is not installed; target {target.name} needs it",
            exit=Exit.TOOL_MISSING,
            hint=f"apt-get install {target.packages['libc']}" if "libc" in target.packages else "",
        )


class RegionOverflow(Exception):
    """The linker found a memory too small; the caller knows what that means."""

    def __init__(self, region: str, excess: int) -> None:
        self.region, self.excess = region, excess
        super().__init__(f"{region} overflowed by {excess} bytes")
