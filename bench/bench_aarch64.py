# SPDX-License-Identifier: Apache-2.0
"""Instructions of whole networks on AArch64 beside LiteRT (XNNPACK) and ncnn, by one counter in QEMU.

    scripts/aarch64_python.sh FOLDER    # Python for AArch64, and the wheels of both
    python bench/bench_aarch64.py FOLDER [--models mobilenetv2_100_224,resnet50_224] [--forms float,int8]
        [--cpu cortex-a76] [--json FILE]

All are given the same layers and make one inference, the second, on one thread. In int8, mmcc runs models
that ONNX Runtime has quantized. The others run the float network's layers with made-up scales
(peers_litert.py, peers_ncnn.py), since how many instructions they take does not depend on values.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.reduce import Reduce
from mmcc.package.record import load_package
from mmcc.passes import optimize
from mmcc.resources import data_dir
from mmcc.toolchain.counting import counting_plugin, read_log
from mmcc.verification.bench import bench_qemu
from networks import MODELS, model_file, quantized
from peers_litert import write_litert
from peers_ncnn import write_ncnn

BEGIN, END = 5, 6  # markers, as in port.h
MARKS = "".join(
    f'void {name}(void) {{ __asm__ volatile("hint #0x{0x60 + mark:x}" ::: "memory"); }}\n'
    for name, mark in (("begin", BEGIN), ("end", END))
)


@dataclass(frozen=True, slots=True)
class Row:
    """Instructions of one inference; ncnn's with float16 arithmetic where that is another form."""

    name: str
    form: str
    macs: int
    mmcc: int
    litert: int
    ncnn: int
    ncnn_float16: int | None

    def __str__(self) -> str:
        counts = f"{self.mmcc:>15,}{self.litert:>15,}{self.ncnn:>15,}"
        halves = f"{self.ncnn_float16:>15,}" if self.ncnn_float16 else f"{'':>15}"
        of_best, each = self.mmcc / min(self.litert, self.ncnn), self.mmcc / self.macs
        return f"{self.name:<22}{self.form:<7}{counts}{halves}{of_best:>9.3f}{each:>8.3f}"


HEADS = ("mmcc", "LiteRT", "ncnn", "ncnn float16")
HEADER = f"{'network':<22}{'':<7}{''.join(f'{head:>15}' for head in HEADS)}{'of best':>9}{'/MAC':>8}"


@dataclass(frozen=True, slots=True)
class Emulated:
    """The Python for AArch64, and the core that it runs on."""

    folder: Path
    cpu: str
    scratch: Path

    def count(self, kind: str, model: Path) -> int:
        """Instructions of the second inference of another runtime."""
        marks, log = self._marks(), self.scratch / "mmcount.log"
        command = ["qemu-aarch64", "-cpu", self.cpu, "-L", str(self.folder / "root")]
        command += ["-E", f"PYTHONPATH={self.folder / 'site'}"]
        command += ["-plugin", f"{counting_plugin()},out={log}"]
        command += [
            str(self.folder / "root/usr/bin/python3.11"),
            str(Path(__file__).with_name("peers_run.py")),
        ]
        done = subprocess.run(
            [*command, kind, str(model), str(marks)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{kind} ended with {done.returncode}: {done.stderr[-2000:]}")
        at = dict(read_log(log))
        return at[END] - at[BEGIN]

    def _marks(self) -> Path:
        made = self.scratch / "marks.so"
        if not made.is_file():
            source = made.with_suffix(".c")
            source.write_text(MARKS)
            compiler = "aarch64-linux-gnu-gcc"
            subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
        return made


def check_layers(graph: Graph) -> None:
    """End where a layer is not what `peers_litert.py` and `peers_ncnn.py` write for its kind."""
    for node in graph.nodes:
        match node.op:
            case Binary(function):
                known = function == "add"
            case Unary(function, parameters):
                known = (function, parameters) == ("clamp", (0.0, inf))
            case Reduce(function):
                known = function == "mean"
            case Conv(groups=groups):
                known = groups in (1, graph.tensors[node.outputs[0]].shape[-1])
            case _:
                known = True
        if not known:
            raise SystemExit(f"{node.op} has no form for others here")


def ours(path: Path, folder: Path, cpu: str) -> tuple[int, int]:
    """Instructions and multiply-accumulates of mmcc's C."""
    target = folder.with_suffix(".toml")
    text = (data_dir("targets") / "aarch64.toml").read_text()
    target.write_text(re.sub(r'^cpu = ".*"$', f'cpu = "{cpu}"', text, flags=re.MULTILINE))
    result = compile_model(path, folder, CompileOptions(target=str(target), self_check=False, time_limit=5.0))
    counted = bench_qemu(result.folder, load_package(result.folder))
    return counted["instructions"], result.report["model"]["macs"]


def measure(name: str, forms: list[str], emulated: Emulated) -> list[Row]:
    """The network in each of the forms."""
    path, scratch, site = model_file(f"gen_{name}"), emulated.scratch, emulated.folder / "site"
    graph = optimize(import_model(path))
    check_layers(graph)
    rows: list[Row] = []
    for form in forms:
        int8 = form == "int8"
        instructions, macs = ours(
            quantized(name, "quantized", scratch, 1) if int8 else path,
            scratch / f"{name}_{form}",
            emulated.cpu,
        )
        litert, ncnn = scratch / f"{name}_{form}.tflite", scratch / f"{name}_{form}_ncnn"
        write_litert(graph, litert, site, int8=int8)
        write_ncnn(graph, ncnn, int8=int8)
        halves = None if int8 else emulated.count("ncnn-float16", ncnn)
        others = emulated.count("litert", litert), emulated.count("ncnn", ncnn)
        rows.append(Row(name, form, macs, instructions, *others, halves))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what scripts/aarch64_python.sh made")
    parser.add_argument("--models", default="mobilenetv2_100_224,resnet50_224", help="names with commas")
    parser.add_argument("--forms", default="float,int8", help="with commas")
    parser.add_argument("--cpu", default="cortex-a76", help="as QEMU calls it")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not (folder / "site").is_dir() or not MODELS.is_dir():
        raise SystemExit(
            f"no Python for AArch64 in {folder} (scripts/aarch64_python.sh), or no models at {MODELS}"
        )
    print(HEADER)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mmcc-bench-") as scratch:
        for name in arguments.models.split(","):
            rows += measure(
                name,
                arguments.forms.split(","),
                Emulated(folder, arguments.cpu, Path(os.path.realpath(scratch))),
            )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
