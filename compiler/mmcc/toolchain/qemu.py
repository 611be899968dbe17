# SPDX-License-Identifier: Apache-2.0
"""Build firmware for a target's emulated board, run it, count what it executes."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mmcc.errors import CompileError, Exit, printable
from mmcc.resources import data_dir
from mmcc.target import Target, load_target
from mmcc.toolchain import (
    RegionOverflow,
    compile_objects,
    find_tool,
    firmware_sources,
    link,
    run_tool,
    write_linker_script,
)

OUTSIDE = -1  # the node of a lap before the first call of the hook

_BEGIN, _END, _LAP, _CALIBRATE = 5, 6, 7, 8  # markers, as in port.h
_MARKER, _CALL = 1, 1  # instructions between begin and end that are not the model's
_STACK_EXIT = 97
_PLUGIN_FLAGS = ("-O2", "-shared", "-fPIC")


@dataclass(frozen=True, slots=True)
class Lap:
    """What was executed from one call of the hook to the next."""

    node: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Executed instructions over all samples."""

    functions: Mapping[str, int]  # most first
    mnemonics: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FirmwareRun:
    """What came of running a firmware."""

    outputs: bytes  # sample after sample, all outputs in order
    instructions: tuple[int, ...]  # of each sample, without hooks; empty where nothing counts them
    stack_bytes: int  # most that initialisation or any run used
    stdout: str
    exit_code: int = 0
    laps: tuple[Lap, ...] = ()  # of the first sample, in order; their sum is its instructions
    profile: Profile | None = None

    def by_node(self) -> dict[int, int]:
        """Instructions of the first sample by node."""
        total: Counter[int] = Counter()
        for lap in self.laps:
            total[lap.node] += lap.instructions
        return dict(total)


def build_firmware(
    target: Target,
    sources: Sequence[Path],
    include_dirs: Sequence[Path],
    out_dir: Path,
    *,
    ram_limit: int | None = None,
    stack_bytes: int | None = None,
    hooks: bool = False,
    main: Path | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Compile and link `sources`, a model and its adapter, into firmware for the target's board.

    On a board the linker proves the limit: stack, arena, `.data` and `.bss` share a region of `ram_limit`
    bytes. On an operating system the sections of the sources' objects are added up. `main` replaces the
    test bench by a program of its own; `sources` may be objects.
    """
    stack = -(-(target.stack_bytes if stack_bytes is None else stack_bytes) // 16) * 16
    folder = data_dir("runtime_c") / "firmware"
    includes = [*include_dirs, folder]
    model_flags = [*flags, *(["-DMMCC_HOOKS=1"] if hooks else [])]
    objects = compile_objects(target, sources, out_dir / "model", include_dirs=includes, flags=model_flags)
    own = [*firmware_sources(target), main or folder / "main.c"]
    own_flags = [f"-DMMCC_STACK_BYTES={stack}"]
    bench = compile_objects(target, own, out_dir / "firmware", include_dirs=includes, flags=own_flags)
    elf = out_dir / "firmware.elf"
    if not target.bare_metal:
        if ram_limit is not None:
            _check_hosted_ram(objects, stack, ram_limit, target)
        loading = ["-static"] if target.qemu else ["-Wl,-z,now"]  # resolving a name late takes stack
        return link(target, [*bench, *objects], elf, flags=loading)
    return _link_board(target, [*bench, *objects], elf, ram_limit, stack)


def _link_board(
    target: Target, objects: Sequence[Path], elf: Path, ram_limit: int | None, stack: int
) -> Path:
    qemu = target.qemu
    if qemu is None or not (qemu.code and qemu.constants and qemu.ram and qemu.io):
        raise CompileError(
            "MM803",
            f"target {target.name} names no emulated board with code, constants, ram and io",
            exit=Exit.USAGE,
            hint="add a [qemu] table, as in targets/cortex-m4.toml",
        )
    limit = qemu.ram.length if ram_limit is None else ram_limit
    if limit > qemu.ram.length:
        raise CompileError(
            "MM803",
            f"the emulated {qemu.machine} has {qemu.ram.length} bytes of RAM, not {limit}",
            exit=Exit.DOES_NOT_FIT,
        )
    script = write_linker_script(
        elf.with_suffix(".ld"),
        qemu.code,
        qemu.constants,
        qemu.ram,
        qemu.io,
        ram_limit=limit,
        stack_bytes=stack,
    )
    try:
        return link(target, objects, elf, flags=["-nostartfiles", "-T", str(script)])
    except RegionOverflow as overflow:
        raise _does_not_fit(overflow, target, limit, stack) from overflow


def _does_not_fit(overflow: RegionOverflow, target: Target, limit: int, stack: int) -> CompileError:
    if overflow.region == "RAM":
        return CompileError(
            "MM803",
            f"the linked program needs {limit + overflow.excess} bytes of RAM, "
            f"{overflow.excess} more than the limit of {limit}; {stack} of them are stack",
            exit=Exit.DOES_NOT_FIT,
        )
    what = {"CODE": "instructions", "CONSTANTS": "constants"}.get(overflow.region, overflow.region)
    return CompileError(
        "MM803",
        f"{what} do not fit the emulated board of {target.name}: {overflow.excess} bytes too many",
        exit=Exit.DOES_NOT_FIT,
        hint="a target with more memory, or your own target file",
    )


def _check_hosted_ram(objects: Sequence[Path], stack: int, limit: int, target: Target) -> None:
    needed = stack + sum(_writable_bytes(o) for o in objects)
    if needed > limit:
        excess = RegionOverflow("RAM", needed - limit)
        raise _does_not_fit(excess, target, limit, stack)


def _writable_bytes(path: Path) -> int:
    """Bytes of an object's variables."""
    writable, in_memory = 1, 2  # SHF_WRITE, SHF_ALLOC
    with path.open("rb") as stream:
        headers = [cast(Any, section).header for section in ELFFile(stream).iter_sections()]
    return sum(int(h["sh_size"]) for h in headers if h["sh_flags"] & writable and h["sh_flags"] & in_memory)


def linked_ram(elf: Path) -> int:
    """Bytes of RAM a firmware for a board takes: stack, arena, `.data`, `.bss` and what alignment costs."""
    return _symbols(elf, ("__ram_used",))["__ram_used"]


def run_firmware(
    elf: Path,
    target: Target,
    inputs: bytes,
    sample_bytes: int,
    workdir: Path,
    *,
    profile: bool = False,
    watch_memory: bool = False,
    timeout: float = 120.0,
) -> FirmwareRun:
    """Run firmware made of the test bench and a model on samples laid end to end.

    Instructions are exact and repeat exactly. `watch_memory` also checks each access to the board's RAM
    against the limit it was linked for (slower; needless where the core has a memory protection unit).
    """
    if sample_bytes and len(inputs) % sample_bytes:
        raise ValueError(f"{len(inputs)} bytes of input are no whole number of samples of {sample_bytes}")
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("outputs.bin", "steps.bin", "mmcount.log", "mmcount.prof"):
        (workdir / name).unlink(missing_ok=True)
    (workdir / "inputs.bin").write_bytes(inputs)
    stdout = run_program(elf, target, workdir, profile=profile, watch_memory=watch_memory, timeout=timeout)
    outputs = (workdir / "outputs.bin").read_bytes()
    stack = re.search(r"^stack (\d+)$", stdout, re.MULTILINE)
    assert stack is not None, f"the test bench did not end as it should: {stdout!r}"
    log = workdir / "mmcount.log"
    if not log.is_file():
        return FirmwareRun(outputs, (), int(stack[1]), stdout)
    marks = _read_log(log)
    nodes = (workdir / "steps.bin").read_bytes() if (workdir / "steps.bin").is_file() else b""
    counted = _count(marks, struct.unpack(f"<{len(nodes) // 2}H", nodes))
    found = _read_profile(elf, target, workdir / "mmcount.prof") if profile else None
    return FirmwareRun(outputs, counted[0], int(stack[1]), stdout, laps=counted[1], profile=found)


def run_program(
    elf: Path,
    target: Target,
    workdir: Path,
    *,
    profile: bool = False,
    watch_memory: bool = False,
    timeout: float = 120.0,
) -> str:
    """Run any firmware in `workdir` and return what it printed; a fault or a timeout is an error."""
    command = _command(elf, target, workdir, profile, watch_memory)
    try:
        done = subprocess.run(
            command,
            cwd=workdir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(
            "MM805",
            f"{elf.name} on {target.name} did not end within {timeout:g} s",
            exit=Exit.INTERNAL,
            hint="--limit 1 where there are many samples, or --on host",
        ) from error
    stdout = done.stdout.decode(errors="replace")
    _raise_if_failed(elf, target, stdout, done.returncode)
    _raise_if_strayed(elf, target, workdir / "mmcount.log")
    return stdout


def _command(elf: Path, target: Target, workdir: Path, profile: bool, watch: bool) -> list[str]:
    elf = elf.resolve()
    qemu = target.qemu
    if qemu is None:
        return [str(elf)]
    program = str(find_tool(qemu.program, target))
    arguments = [str(_plugin()), f"out={workdir.resolve() / 'mmcount.log'}"]
    if profile:
        arguments.append(f"prof={workdir.resolve() / 'mmcount.prof'}")
    if watch and qemu.ram:
        limit = _symbols(elf, ("__ram_lo", "__ram_hi"))
        end = qemu.ram.origin + qemu.ram.length
        window = {"glo": qemu.ram.origin, "ghi": end, "rlo": limit["__ram_lo"], "rhi": limit["__ram_hi"]}
        arguments += ["mem=on", *(f"{name}={address:x}" for name, address in window.items())]
    plugin = ["-plugin", ",".join(arguments)]
    if not qemu.machine:
        return [program, "-cpu", qemu.cpu, *qemu.options, *plugin, str(elf)]
    core = ["-cpu", qemu.cpu] if qemu.cpu else []
    quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
    board = ["-M", qemu.machine, *core, *qemu.options, *quiet]
    return [program, *board, "-semihosting-config", "enable=on,target=native", "-kernel", str(elf), *plugin]


def _raise_if_failed(elf: Path, target: Target, stdout: str, code: int) -> None:
    if code == 0:
        return
    lines = [printable(line, 300) for line in stdout.splitlines() if line.strip()]
    said = [x for x in lines if x.startswith(("FAULT", "STACK OVERFLOW", "STATUS", "FAILED"))] or lines[-5:]
    where = _place(elf, target, stdout)
    what = "overflows its stack" if code == _STACK_EXIT else f"ended with {code}"
    raise CompileError(
        "MM805", f"{elf.name} on {target.name} {what}: {'; '.join(said)}{where}", exit=Exit.INTERNAL
    )


def _place(elf: Path, target: Target, stdout: str) -> str:
    """The function that faulted."""
    found = re.search(r"^FAULT pc 0x([0-9a-f]+)", stdout, re.MULTILINE)
    if found is None:
        return ""
    pc = int(found[1], 16)
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    for symbol in symbols:
        entry = cast(Any, symbol).entry
        start = int(entry["st_value"]) & ~1 if target.firmware == "cortex_m" else int(entry["st_value"])
        if start <= pc < start + int(entry["st_size"]):
            return f" (in {symbol.name})"
    return ""


def _raise_if_strayed(elf: Path, target: Target, log: Path) -> None:
    for line in log.read_text().splitlines() if log.is_file() else ():
        if line.startswith("OUT-OF-RAM"):
            what = f"{elf.name} on {target.name} leaves its RAM: {line.removeprefix('OUT-OF-RAM ')}"
            raise CompileError("MM805", what, exit=Exit.INTERNAL)


def _plugin() -> Path:
    """The counting plugin, compiled once for each version of its source."""
    source = data_dir("runtime_c") / "firmware" / "mmcount.c"
    key = hashlib.sha256(source.read_bytes() + " ".join(_PLUGIN_FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmcc"
    made = cache / f"mmcount-{key}.so"
    if not made.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f"{made.name}.{os.getpid()}"
        compiler = find_tool("cc", load_target("host"))
        done = subprocess.run(
            [compiler, *_PLUGIN_FLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True
        )
        if done.returncode:
            raise CompileError("MM805", f"the QEMU plugin: {done.stderr}", exit=Exit.INTERNAL)
        fresh.replace(made)  # in one step: others may be building it too
    return made


def _read_log(log: Path) -> list[tuple[int, int]]:
    """(marker, instructions executed before it), in order."""
    lines = re.finditer(r"^mark (\d+) pc \S+ insns (\d+)", log.read_text(), re.MULTILINE)
    return [(int(line[1]), int(line[2])) for line in lines]


def _count(marks: Sequence[tuple[int, int]], nodes: Sequence[int]) -> tuple[tuple[int, ...], tuple[Lap, ...]]:
    """Instructions of each sample and the laps of the first, what the hook itself costs taken off."""
    cost = _hook_cost(marks)
    begins = [i for i, (kind, _) in enumerate(marks) if kind == _BEGIN]
    ends = [i for i, (kind, _) in enumerate(marks) if kind == _END]
    totals: list[int] = []
    for begin, end in zip(begins, ends, strict=True):
        calls = end - begin - 1
        totals.append(marks[end][1] - marks[begin][1] - _MARKER - _CALL - calls * cost)
    if not nodes:
        return tuple(totals), ()
    at = [count for _, count in marks[begins[0] : ends[0] + 1]]
    spans = [b - a - cost for a, b in pairwise(at)]
    spans[0] += cost - _MARKER - _CALL  # no call of the hook has ended yet
    assert len(spans) == len(nodes) + 1, "the log of laps and the markers disagree"
    laps = tuple(Lap(node, span) for node, span in zip((OUTSIDE, *nodes), spans, strict=True))
    return tuple(totals), laps


def _hook_cost(marks: Sequence[tuple[int, int]]) -> int:
    """Instructions from one marker of the hook to the next with nothing between two calls of it."""
    at = next(i for i, (kind, _) in enumerate(marks) if kind == _CALIBRATE)
    (first, one), (second, two) = marks[at + 1 : at + 3]
    assert first == second == _LAP, "the calibration has no laps"
    return two - one


def _read_profile(elf: Path, target: Target, path: Path) -> Profile:
    """Join how often each block ran with what is in it."""
    listing = run_tool([find_tool(target.objdump, target), "-d", "--no-show-raw-insn", elf], target)
    code: list[tuple[int, str, str]] = []
    function = ""
    for line in listing.splitlines():
        if heading := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            function = heading[1]
        elif found := re.match(r"\s*([0-9a-f]+):\t(\S+)", line):
            code.append((int(found[1], 16), function, re.sub(r"\.[nw]$", "", found[2])))
    place = {address: i for i, (address, _, _) in enumerate(code)}
    functions: Counter[str] = Counter()
    mnemonics: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        start, count, _, times = line.split()
        first = place.get(int(start, 16))
        executed = code[first : first + int(count)] if first is not None else []
        for _, name, mnemonic in executed:
            functions[name] += int(times)
            mnemonics[mnemonic] += int(times)
    return Profile(dict(functions.most_common()), dict(mnemonics.most_common()))


def _symbols(elf: Path, names: Sequence[str]) -> dict[str, int]:
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{elf.name} has no symbols"
        found = [cast(Any, symbol) for symbol in table.iter_symbols() if symbol.name in names]
    return {symbol.name: int(symbol.entry["st_value"]) for symbol in found}


__all__ = [
    "OUTSIDE",
    "FirmwareRun",
    "Lap",
    "Profile",
    "build_firmware",
    "linked_ram",
    "run_firmware",
    "run_program",
]
