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
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_host import SHARED, model_file
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import package_sources
from mmcc.resources import data_dir
from mmcc.target import load_target

MODELS = ("gen_mobilenetv2_100_224", "mbv2_100_224_xt_int8_qdq", "gen_resnet50_224", "gen_squeezenet11_224")
HEADER = f"{'model':26} {'threads':>7} {'ms':>9} {'dealt':>6} {'cut':>5} {'wall':>6} {'one thread':>10}"


def program(path: Path, folder: Path, threads: int) -> Path:
    """The network with bench/dealt.c around it, as a program of this machine."""
    name = f"network{threads}"
    package = folder / f"{name}_c"
    compile_model(path, package, CompileOptions(name=name, threads=threads, self_check=False, time_limit=5.0))
    given = [
        f'-DNETWORK_HEADER="{name}.h"',
        f"-DNETWORK(what)={name.upper()}_##what",
        *(f"-Dnetwork_{what}={name}_{what}" for what in ("context", "init", "run", "parallel_with")),
        f"-DSERIAL={int(threads < 2)}",
    ]
    sources = [str(Path(__file__).with_name("dealt.c")), *map(str, package_sources(package))]
    built = folder / name
    flags = load_target("host").flags
    command = [
        "cc",
        "-std=gnu11",
        *flags,
        *given,
        *(f"-I{package}", f"-I{data_dir('runtime_c')}"),
        *sources,
        "-o",
        str(built),
        "-pthread",
        "-lm",
    ]
    subprocess.run(command, check=True)
    return built


def runs(built: Path, threads: int, rounds: int) -> list[tuple[float, ...]]:
    """What bench/dealt.c prints, by run."""
    done = subprocess.run([built, str(threads), str(rounds)], check=True, stdout=subprocess.PIPE, text=True)
    return [tuple(map(float, line.split())) for line in done.stdout.splitlines()]


def measure(name: str, threads: int, rounds: int) -> str:
    """One network's line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = model_file(name, folder)
        plain, cut = program(path, folder, 1), program(path, folder, threads)
        alone, rows = [], []
        for _ in range(rounds):  # in turns: what else the machine does meets both
            alone += [row[0] for row in runs(plain, 1, 1)]
            rows += runs(cut, threads, 1)
    serial, dealt, share, one, together = zip(*rows, strict=True)
    figures = (
        f"{statistics.median(alone) * 1e3:9.3f} {_ratio(alone, dealt):6.2f} {statistics.median(share):5.2f} "
        f"{_ratio(one, together):6.2f} {_ratio(alone, serial):10.2f}"
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
