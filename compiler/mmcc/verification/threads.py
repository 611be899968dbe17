# SPDX-License-Identifier: Apache-2.0
"""How much faster several threads make a package on this machine: processor time dealt, and the wall clock.

runtime_c/firmware/deal_chunks.c says how it is measured. The program has the package's own chunks and this
machine's kernels.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mmcc.errors import CompileError, Exit
from mmcc.package.host import host_adapter, host_sources, package_sources
from mmcc.package.record import FOLDER, Package, bench_files
from mmcc.resources import data_dir
from mmcc.target import load_target
from mmcc.toolchain.build import compile_objects, link

MAIN = "deal_chunks.c"
RUNS = 15
TIMEOUT = 1800.0  # seconds


@dataclass(frozen=True, slots=True)
class Dealt:
    """One run, in seconds: of one thread, and of the busiest of several, were each chunk given to the thread
    that is free first, by processor time; of one and of several by the wall clock. `cut` is the part of the
    time that is spent in chunks."""

    serial: float
    dealt: float
    cut: float
    wall_alone: float
    wall: float


def bench_threads(folder: Path, package: Package, threads: int) -> dict[str, float]:
    """Medians of some runs: milliseconds of one thread, and how many times as fast several are.

    `dealt` hardly knows what else the machine does, and no cache or memory that threads share; `wall` does,
    and means something on a machine that does nothing else. CompileError MM003 if nothing is in chunks.
    """
    runs = deal(dealing_program(folder, package), threads, RUNS)
    return {
        "threads": threads,
        "milliseconds": median(run.serial for run in runs) * 1e3,
        "dealt": median(run.serial / run.dealt for run in runs),
        "cut": median(run.cut for run in runs),
        "wall": median(run.wall_alone / run.wall for run in runs),
        "runs": len(runs),
    }


def dealing_program(folder: Path, package: Package, *, serial: bool = False) -> Path:
    """The package with deal_chunks.c around it; `serial` if it is to be timed for one thread only."""
    adapter = bench_files(folder) / "adapter_dealing.c"
    adapter.write_text(host_adapter(folder, package))
    if not serial and "mmcc_adapter_parallel_with" not in adapter.read_text():
        raise CompileError(
            "MM003",
            "no kernel of this package is in chunks that threads could make",
            exit=Exit.USAGE,
            hint="mmcc compile --threads N; small kernels are not cut",
        )
    target, twin = load_target("host"), host_sources(folder)
    main = data_dir("runtime_c") / "firmware" / MAIN
    out = folder / FOLDER / "dealing"
    objects = compile_objects(
        target,
        [*package_sources(twin), adapter, main],
        out,
        include_dirs=[twin, main.parent, data_dir("runtime_c")],  # of packages without chunks, too
        flags=[f"-DMMCC_SERIAL={int(serial)}"],
    )
    return link(target, objects, out / "dealing.elf", flags=["-pthread"])


def deal(program: Path, threads: int, runs: int) -> Sequence[Dealt]:
    """What the program measured in some runs."""
    command = [program, str(threads), str(runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        message = f"{program.name} ended with {done.returncode}"
        raise CompileError("MM803", message, exit=Exit.INTERNAL)
    return [Dealt(*map(float, line.split())) for line in done.stdout.splitlines()]
