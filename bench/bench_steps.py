# SPDX-License-Identifier: Apache-2.0
"""Training steps in less memory, really run on this machine: bytes, work, time, and bits.

    python bench/bench_steps.py MODEL [--recompute 1.002,1.065,1.175] [--slow-memory 256M] [--slow-cycles 4]
        [--optimizer sgd] [--accumulate 2]

MODEL is a file, or a name of the model set. The first step is planned without a limit. Each of the others has
as little arena as its options allow (--ram min): with each share of --recompute, then with slow memory;
without any of these options, nothing made again or paged. Each is compiled, in a process of its own, and
makes two steps from the same parameters on the same sample; the losses, and the outputs of the model behind
them, must have the bits of the first. Times are CPU seconds of the second step.

Callbacks of the test bench copy when they are waited for, so nothing goes on beside the computation, and they
look at each byte several times to see whether an end of the copy was touched. Where a step takes
milliseconds, that is most of its time. The self-check is left out: of a large network the references take
long, and the bits are compared here.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmcc.driver.options import CompileOptions
from mmcc.driver.train import compile_training
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.sizes import parse_size
from mmcc.training.options import TrainOptions
from networks import model_file, progress

RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Way:
    """How a step is compiled: with as little arena as possible, or without a limit; and the work allowed."""

    name: str
    train: TrainOptions
    least: bool = True
    recompute: float = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step that ran: bytes of arena and what no plan of its choices is below (no gap is shown where that is
    less than half), multiply-accumulates in multiples of those of the step that keeps all, CPU seconds, bytes
    copied as the report has them and as callbacks counted them, the predicted time of waiting in that of the
    step, and a digest of losses and outputs."""

    name: str
    arena: int
    bound: int
    work: float
    seconds: float
    reported: int
    copied: int
    waiting: float
    digest: str
    finite: bool

    def beside(self, first: Step) -> str:
        """A line of the table."""
        copies = f"{self.copied:,}{'' if self.copied == self.reported else f' ({self.reported:,} reported)'}"
        gap = f"{self.arena / self.bound - 1:.1%}" if 2 * self.bound > self.arena else "-"
        bits = "same" if self.digest == first.digest else "OTHER"
        return (
            f"{self.name:18} {self.arena:>13,} {gap:>7} {self.work - 1:>+7.2%} "
            f"{self.seconds:>8.2f} {self.seconds / first.seconds - 1:>+7.1%} {copies:>13} "
            f"{self.waiting:>8.2%}  {bits if self.finite else 'not finite'}"
        )


HEADER = (
    f"{'':18} {'arena':>13} {'gap':>7} {'work':>7} {'CPU s':>8} {'time':>7} {'copied':>13} "
    f"{'waiting':>8}  bits"
)


def ways(train: TrainOptions, shares: Sequence[float], slow: int) -> Iterator[Way]:
    """The step without a limit, and those in less memory."""
    yield Way("no limit", train, least=False)
    if not shares and not slow:
        yield Way("all kept", train)
    for share in shares:
        yield Way(f"work +{share - 1:.1%}", train, recompute=share)
    if slow:
        yield Way("paged", replace(train, slow_memory=slow))


def measure(model: Path, way: Way) -> Step:
    """Compile a step and run it twice."""
    with tempfile.TemporaryDirectory(prefix="mmcc-bench-") as scratch:
        recompute = 0.0 if way.train.slow_memory else way.recompute  # 0: what waiting may take has a default
        options = CompileOptions(
            name="net", least_ram=way.least, recompute=recompute, weights="bin", self_check=False
        )
        result = compile_training(model, Path(scratch) / "net", way.train, options)
        entry = result.report["entries"][0]
        saved, plan = entry["saved"], entry["plan"]
        again = saved["macs_again"] if saved else 0
        package = load_package(result.folder)
        host, rng = host_model(result.folder, package), np.random.default_rng(1)
        given: list[list[np.ndarray]] = []
        for at in package.entries:
            shapes = [at.tensors[port.tensor] for port in at.inputs]
            given.append([np.zeros(t.shape, t.dtype.numpy) for t in shapes])
        given[1][0] = given[0][0] = rng.random(given[0][0].shape, np.float32)
        for at, arrays in zip(package.entries, given, strict=True):
            for port, array in zip(at.inputs, arrays, strict=True):
                if port.onnx_name == "rate":
                    array[...] = RATE
        found: list[np.ndarray] = []
        seconds = 0.0
        for _ in range(2):
            begun = time.process_time()
            found += host.run(given[1], 1)
            seconds = time.process_time() - begun
            if len(given) > 2:
                host.run(given[2], 2)
        copied = host.bytes_paged() // 2 if saved and saved["paged"] else 0
        found += host.run(given[0])
        return Step(
            way.name,
            plan["arena"],
            saved["bound"] if saved else plan["bound"],
            1 + again / plan["macs"],
            seconds,
            saved["bytes_moved"] if saved and saved["paged"] else 0,
            copied,
            saved["stalls_predicted"] / saved["predicted"] if saved and saved["paged"] else 0.0,
            hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest(),
            all(bool(np.isfinite(array).all()) for array in found),
        )


def run(model: Path, compared: Iterable[Way]) -> Iterator[Step]:
    """The steps, each in a process that ends with it: a large network's parameters are there once."""
    for way in compared:
        progress(f"{model.name}: {way.name}")
        alone = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=alone) as pool:
            yield pool.submit(measure, model, way).result()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a file, or a name of the model set")
    parser.add_argument("--recompute", default="", help="work, in multiples of the step's; with commas")
    parser.add_argument("--slow-memory", default="", help="bytes; without, nothing is paged")
    parser.add_argument("--slow-cycles", type=float, default=4.0)
    parser.add_argument("--optimizer", choices=["sgd", "momentum", "adam"], default="sgd")
    parser.add_argument("--accumulate", type=int, default=1)
    asked = parser.parse_args(arguments)
    shares = [float(share) for share in asked.recompute.split(",") if share]
    slow = parse_size(asked.slow_memory, "--slow-memory") if asked.slow_memory else 0
    train = TrainOptions(
        optimizer=asked.optimizer, accumulate=asked.accumulate, slow_cycles=asked.slow_cycles
    )
    model = Path(asked.model) if Path(asked.model).is_file() else model_file(asked.model)
    print(HEADER, flush=True)
    first: Step | None = None
    sound = True
    for step in run(model, ways(train, shares, slow)):
        first = first or step
        progress("")
        print(step.beside(first), flush=True)
        sound = sound and step.finite and step.digest == first.digest and step.copied == step.reported
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
