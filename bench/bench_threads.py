# SPDX-License-Identifier: Apache-2.0
"""How much faster several threads make a network on this machine: by processor time dealt, and by wall time.

    python bench/bench_threads.py [--threads 2] [--models NAME,NAME] [--rounds 7]

`dealt` compares one thread's processor time with that of the busiest of N threads, were each chunk given to
the thread that is free first; what else the machine does hardly shows in it. It knows no cache or memory that
threads share. `wall` is measured with N threads, and means something on a machine that does nothing else.
`cut` is the part of the time that is spent in chunks. `one thread` compares the network compiled for one
thread with that in chunks, made by one thread: below 1, chunks cost something by themselves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_host import SHARED, model_file
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.verification.threads import Dealt, deal, dealing_program

MODELS = ("gen_mobilenetv2_100_224", "mbv2_100_224_xt_int8_qdq", "gen_resnet50_224", "gen_squeezenet11_224")
HEADER = f"{'model':26} {'threads':>7} {'ms':>9} {'dealt':>6} {'cut':>5} {'wall':>6} {'one thread':>10}"


def program(path: Path, folder: Path, threads: int) -> Path:
    """The network in a program that deals its chunks; for one thread, one that is only timed."""
    package = folder / f"network{threads}_c"
    compile_model(path, package, CompileOptions(threads=threads, self_check=False, time_limit=5.0))
    return dealing_program(package, load_package(package), serial=threads < 2)


def measure(name: str, threads: int, rounds: int) -> str:
    """One network's line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = model_file(name, folder)
        plain, cut = program(path, folder, 1), program(path, folder, threads)
        alone, rows = list[float](), list[Dealt]()
        for _ in range(rounds):  # in turns: what else the machine does meets both
            alone += [run.serial for run in deal(plain, 1, 1)]
            rows += deal(cut, threads, 1)
    figures = (
        f"{statistics.median(alone) * 1e3:9.3f} {_ratio(alone, [r.dealt for r in rows]):6.2f} "
        f"{statistics.median(r.cut for r in rows):5.2f} "
        f"{_ratio([r.wall_alone for r in rows], [r.wall for r in rows]):6.2f} "
        f"{_ratio(alone, [r.serial for r in rows]):10.2f}"
    )
    return f"{name:26} {threads:7} {figures}"


def _ratio(times: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default=",".join(MODELS), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if not (SHARED / "models").is_dir():
        print(f"the shared models are not at {SHARED / 'models'} (set MMCC_SHARED)")
        return
    print(HEADER)
    for name in arguments.models.split(","):
        print(measure(name, arguments.threads, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
