# SPDX-License-Identifier: Apache-2.0
"""mmCNN's experiment: large networks whose weights stay in a file, in a few megabytes of RAM.

"mmCNN", Computational Intelligence and Neuroscience 2019, article 4328653: a CNN on a GPU "in some extremely
small memory sizes (as low as 5 MB)", which "saves more than 98% memory compared to a traditional CNN
algorithm"; the network is not named. Here VGG-16, VGG-19 and YOLOv2-608 are: float, all layers. With
`--weights staged` the program reads weights through a callback into the arena, just before they are used.

Of each: every byte of RAM that the program holds. Its outputs must be, bit for bit, those of the program that
has all weights in memory and no limit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmcc.driver.compile import CompileResult, compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.verification.samples import to_c
from networks import model_file, progress

MB = 1 << 20
LIMITS = {"gen_vgg16_224": 5 * MB, "gen_vgg19_224": 5 * MB, "gen_yolov2_608": 16 * MB}
CLAIM = 'mmCNN: "as low as 5 MB", "more than 98% memory" saved (network not named; CIN 2019, 4328653)'


@dataclass(frozen=True, slots=True)
class Row:
    """One network within a limit, beside the same without one."""

    name: str
    limit: int
    arena: int  # with the buffers that weights are read into
    context: int
    static: int
    stack: int
    total: int
    unlimited: int  # RAM without a limit, and all weights
    file: int  # bytes of weights
    read: int  # of them by one inference, counted by the callback; more than all if some are read again
    seconds: float  # of one inference, reading included
    unlimited_seconds: float

    def __str__(self) -> str:
        saved = 1 - self.total / self.unlimited
        return (
            f"{self.name:18} {self.limit // MB:>3} MB {self.arena:>10,} {self.context + self.static:>8,} "
            f"{self.stack:>7,} {self.total:>10,} {self.unlimited:>12,} {saved:>7.2%} "
            f"{self.read / self.file:>6.2f} {self.seconds:>8.2f} {self.unlimited_seconds:>8.2f}"
        )


HEADER = (
    f"{'network':18} {'limit':>6} {'arena':>10} {'static':>8} {'stack':>7} {'RAM':>10} "
    f"{'all in RAM':>12} {'saved':>7} {'read':>6} {'s':>8} {'s, all':>8}"
)
LEGEND = (
    "arena: with input, output and the weights that are in it; read: bytes that an inference reads over\n"
    "bytes of all weights; s: seconds of an inference on this machine, reading included, and with all\n"
    "weights in memory and no limit. Both programs' outputs are the same bits."
)


def run() -> Iterator[Row]:
    """The table, a row at a time. A network's builds take a few gigabytes on the disk, until it is done."""
    for name, limit in LIMITS.items():
        progress(f"making {name}")
        with tempfile.TemporaryDirectory(prefix="mmcc-papers-") as folder:
            yield within(name, model_file(name), limit, Path(folder))


def within(name: str, model: Path, limit: int, folder: Path) -> Row:
    """One network, compiled twice and run on the same numbers."""
    progress(f"{name}: all weights in memory")
    whole = compile_model(model, folder / f"{name}-whole", CompileOptions(weights="bin"))
    progress(f"{name}: staged, in {limit} bytes")
    small = compile_model(model, folder / f"{name}-staged", CompileOptions(ram=limit, weights="staged"))
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(port.onnx_shape).astype(np.float32) for port in whole.graph.inputs]
    progress(f"{name}: running")
    expected, unlimited_seconds, _ = _run(whole, inputs)
    found, seconds, read = _run(small, inputs)
    ram, weights = small.report["ram"], small.report["weights"]
    if found != expected:
        raise ValueError(f"{name}: staged weights give other outputs")
    if read != weights["read"]:
        raise ValueError(f"{name}: an inference reads {read} bytes, the report says {weights['read']}")
    return Row(
        name,
        limit,
        ram["arena"],
        ram["context"],
        ram["static"],
        ram["stack"],
        ram["total"],
        whole.report["ram"]["total"] + whole.report["flash"]["weights"],
        weights["file"],
        read,
        seconds,
        unlimited_seconds,
    )


def _run(result: CompileResult, inputs: list[np.ndarray]) -> tuple[list[bytes], float, int]:
    """Outputs, seconds of the second run (the first finds the machine cold), and bytes of weights it read."""
    package = load_package(result.folder)
    model = host_model(result.folder, package)
    arrays = to_c(package.inputs, package.tensors, inputs)
    model.run(arrays)
    staged = package.staged
    before = model.weights_read() if staged else 0
    began = time.perf_counter()
    outputs = model.run(arrays)
    seconds = time.perf_counter() - began
    return [y.tobytes() for y in outputs], seconds, model.weights_read() - before if staged else 0
