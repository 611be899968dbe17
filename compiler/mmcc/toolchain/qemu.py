# SPDX-License-Identifier: Apache-2.0
"""Run firmware on a target's emulated board, in an engine of WebAssembly, or as a program of this machine."""

from __future__ import annotations

import re
import struct
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmcc.boards import BoardModel
from mmcc.errors import CompileError, Exit, printable
from mmcc.resources import data_dir
from mmcc.target import Qemu, Target
from mmcc.toolchain.build import find_tool
from mmcc.toolchain.counting import (
    Executed,
    Lap,
    Profile,
    count,
    counting_plugin,
    read_blocks,
    read_caches,
    read_laps,
    read_log,
    read_profile,
    read_ranges,
)
from mmcc.toolchain.elf import arenas, function_at, symbols

_STACK_EXIT = 97
RESET = 0xFF  # in `calls`, as in main.c
MOST_CALLS = 1 << 12


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
    accesses: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    # by arena, bytes that the first sample loads and stores; where they were counted
    executed: Executed | None = None  # for a board

    def by_node(self) -> dict[int, int]:
        """Instructions of the first sample by node."""
        total: Counter[int] = Counter()
        for lap in self.laps:
            total[lap.node] += lap.instructions
        return dict(total)


def run_firmware(
    elf: Path,
    target: Target,
    inputs: bytes,
    sample_bytes: int,
    workdir: Path,
    *,
    profile: bool = False,
    watch_memory: bool = False,
    count_accesses: bool = False,
    board: BoardModel | None = None,
    timeout: float = 120.0,
    calls: bytes = b"",
) -> FirmwareRun:
    """Run firmware made of the test bench and a model on samples laid end to end.

    `calls` says for each sample which entry of the model is called; RESET, which takes none, resets states.
    Instructions are exact and repeat exactly. `watch_memory` also checks each access to the board's RAM
    against the limit it was linked for (slower; needless where the core has a memory protection unit).
    `count_accesses` counts what is loaded from and stored to each arena (slower, too). With a board, its
    caches are simulated for what is read from flash (slowest).
    """
    if sample_bytes and len(inputs) % sample_bytes:
        raise ValueError(f"{len(inputs)} bytes of input are no whole number of samples of {sample_bytes}")
    _hand_over(workdir, inputs, calls)
    counted = arenas(elf) if count_accesses else {}
    stdout = run_program(
        elf,
        target,
        workdir,
        profile=profile,
        watch_memory=watch_memory,
        ranges=tuple(counted.values()),
        board=board,
        timeout=timeout,
    )
    outputs = (workdir / "outputs.bin").read_bytes()
    stack = re.search(r"^stack (\d+)$", stdout, re.MULTILINE)
    assert stack is not None, f"the test bench did not end as it should: {stdout!r}"
    log = workdir / "mmcount.log"
    if not log.is_file():
        return FirmwareRun(outputs, (), int(stack[1]), stdout)
    marks = read_log(log)
    nodes = (workdir / "steps.bin").read_bytes() if (workdir / "steps.bin").is_file() else b""
    steps = struct.unpack(f"<{len(nodes) // 2}H", nodes)
    instructions, laps = count(marks, steps)
    found = read_profile(elf, target, workdir / "mmcount.prof") if profile else None
    accesses = read_ranges(log, list(counted))
    return FirmwareRun(
        outputs,
        instructions,
        int(stack[1]),
        stdout,
        laps=laps,
        profile=found,
        accesses=accesses,
        executed=_executed(elf, workdir, steps) if board else None,
    )


def _executed(elf: Path, workdir: Path, steps: tuple[int, ...]) -> Executed:
    """What a board's cycles are modelled from, as the counting plugin wrote it; `steps`: each lap's node."""
    blocks = tuple(read_blocks(workdir / "mmcount.prof"))
    by_lap = read_laps(workdir / "mmcount.laps", steps) if steps else ()
    return Executed(elf, blocks, read_caches(workdir / "mmcount.log"), by_lap)


def _hand_over(workdir: Path, inputs: bytes, calls: bytes) -> None:
    """Files for a run; none that an earlier run wrote is left."""
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("outputs.bin", "steps.bin", "mmcount.log", "mmcount.prof", "mmcount.laps", "calls.bin"):
        (workdir / name).unlink(missing_ok=True)
    (workdir / "inputs.bin").write_bytes(inputs)
    if calls:
        (workdir / "calls.bin").write_bytes(calls)


def run_program(
    elf: Path,
    target: Target,
    workdir: Path,
    *,
    profile: bool = False,
    watch_memory: bool = False,
    ranges: Sequence[tuple[int, int]] = (),
    board: BoardModel | None = None,
    timeout: float = 120.0,
) -> str:
    """Run any firmware in `workdir` and return what it printed; a fault or a timeout is an error."""
    command = _command(elf, target, workdir, profile, watch_memory, ranges, board)
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


def _command(
    elf: Path,
    target: Target,
    workdir: Path,
    profile: bool,
    watch: bool,
    ranges: Sequence[tuple[int, int]],
    board: BoardModel | None,
) -> list[str]:
    elf = elf.resolve()
    qemu = target.qemu
    if target.engine:
        runner = data_dir("runtime_c") / "firmware" / "run_wasi.mjs"
        return [str(find_tool(target.engine, target)), "--no-warnings", str(runner), str(elf)]
    if qemu is None:
        return [str(elf)]
    program = str(find_tool(qemu.program, target))
    arguments = [str(counting_plugin()), f"out={workdir.resolve() / 'mmcount.log'}"]
    if profile or board:
        arguments.append(f"prof={workdir.resolve() / 'mmcount.prof'}")
    if (watch and qemu.ram) or ranges or board:
        arguments.append("mem=on")
    if board:
        arguments += [f"laps={workdir.resolve() / 'mmcount.laps'}", *_caches(board, qemu)]
    arguments += [f"clo={lo:x},chi={hi:x}" for lo, hi in ranges]
    if watch and qemu.ram:
        for name, area in {"ram": qemu.ram, **qemu.memory}.items():
            limit = symbols(elf, (f"__{name}_lo", f"__{name}_hi"))
            if limit:
                window = {"glo": area.origin, "ghi": area.origin + area.length}
                window |= {"rlo": limit[f"__{name}_lo"], "rhi": limit[f"__{name}_hi"]}
                arguments += (f"{key}={address:x}" for key, address in window.items())
    plugin = ["-plugin", ",".join(arguments)]
    if not qemu.machine:
        return [program, "-cpu", qemu.cpu, *qemu.options, *plugin, str(elf)]
    core = ["-cpu", qemu.cpu] if qemu.cpu else []
    quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
    machine = ["-M", qemu.machine, *core, *qemu.options, *quiet]
    return [program, *machine, "-semihosting-config", "enable=on,target=native", "-kernel", str(elf), *plugin]


def _caches(board: BoardModel, qemu: Qemu) -> list[str]:
    """Arguments of the plugin for a board's caches before the windows that stand for its flash."""
    windows = [window for window in (qemu.code, qemu.constants) if window]
    arguments = [f"flo={w.origin:x},fhi={w.origin + w.length:x}" for w in windows]
    caches = [
        f"{name}={c.sets}:{c.ways}:{c.line}" for name, c in (("code", board.code), ("data", board.data))
    ]
    return ["flow=on", *arguments, *caches]


def _raise_if_failed(elf: Path, target: Target, stdout: str, code: int) -> None:
    if code == 0:
        return
    lines = [printable(line, 300) for line in stdout.splitlines() if line.strip()]
    said = [x for x in lines if x.startswith(("FAULT", "STACK OVERFLOW", "STATUS", "FAILED"))] or lines[-5:]
    pc = re.search(r"^FAULT pc 0x([0-9a-f]+)", stdout, re.MULTILINE)
    function = function_at(elf, int(pc[1], 16), thumb=target.firmware == "cortex_m") if pc else ""
    where = f" (in {function})" if function else ""
    what = "overflows its stack" if code == _STACK_EXIT else f"ended with {code}"
    raise CompileError(
        "MM805", f"{elf.name} on {target.name} {what}: {'; '.join(said)}{where}", exit=Exit.INTERNAL
    )


def _raise_if_strayed(elf: Path, target: Target, log: Path) -> None:
    for line in log.read_text().splitlines() if log.is_file() else ():
        if line.startswith("OUT-OF-RAM"):
            what = f"{elf.name} on {target.name} leaves its RAM: {line.removeprefix('OUT-OF-RAM ')}"
            raise CompileError("MM805", what, exit=Exit.INTERNAL)
