# SPDX-License-Identifier: Apache-2.0
"""Speed on this machine beside ONNX Runtime: median processor times on one thread, measured in turns.

    python bench/bench_host.py [--models NAME,NAME] [--rounds 15] [--json FILE]

Both run the same model on the same data in this process, one after the other in short turns, so that what
else the machine does meets both. ONNX Runtime has its default optimizations and one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.verification.samples import to_c

SHARED = Path(os.environ.get("MMCC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
TURN_SECONDS = 0.01  # of one turn: shorter runs are repeated within it
GOALS = {  # times of ONNX Runtime's
    "kws_dscnn_fp32": 1.0,
    "kws_dscnn_int8_qdq": 1.0,
    "ad_autoenc_fp32": 1.0,
    "ad_autoenc_int8_qdq": 1.0,
    "ic_resnet8_fp32": 1.0,
    "ic_resnet8_int8_qdq": 1.0,
    "vww_mbv1_fp32": 1.0,
    "vww_mbv1_int8_qdq": 1.0,
    "gen_mobilenetv2_100_224": 1.0,
    "mbv2_100_224_xt_int8_qdq": 1.0,
    "gen_squeezenet11_224": 1.0,
    "gen_resnet50_224": 1.0,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One model: milliseconds an inference, and the median of the turns' ratios."""

    name: str
    ours: float
    onnx_runtime: float
    ratio: float
    goal: float

    def __str__(self) -> str:
        mark = "" if self.ratio <= self.goal else "  missed"
        times = f"{self.name:24} {self.ours:9.4f} {self.onnx_runtime:12.4f}"
        return f"{times} {self.ratio:8.2f} {self.goal:6.1f}{mark}"


HEADER = f"{'model':24} {'mmcc ms':>9} {'ONNX Runtime':>12} {'ratio':>8} {'goal':>6}"


def model_file(name: str, folder: Path) -> Path:
    """The model beside the project; models without a file there are generated."""
    kept = SHARED / "models" / name / "model.onnx"
    if kept.is_file():
        return kept
    bare = name.removeprefix("gen_")
    script = str(SHARED / "models" / "make_models.py")
    subprocess.run(
        [sys.executable, script, "--out", str(folder), "--inputs", "1", bare], check=True, capture_output=True
    )
    return folder / f"{bare}.onnx"


def made_up(rng: np.random.Generator, port: ort.NodeArg) -> np.ndarray:
    """Normal numbers, or all of int8's."""
    shape = [n if isinstance(n, int) else 1 for n in port.shape]
    if port.type == "tensor(int8)":
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


def onnx_runtime(path: Path) -> tuple[Callable[[], object], dict[str, np.ndarray]]:
    """A function that runs the model once, and the inputs it does that on."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    inputs = {port.name: made_up(rng, port) for port in session.get_inputs()}
    binding = session.io_binding()  # as a program would do it that has its inputs in memory
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for port in session.get_outputs():
        binding.bind_output(port.name)
    return lambda: session.run_with_iobinding(binding), inputs


def compiled(path: Path, folder: Path, inputs: dict[str, np.ndarray]) -> Callable[[], object]:
    """A function that runs the model as C on this machine, once, on these inputs."""
    compile_model(path, folder, CompileOptions(time_limit=5.0))
    package = load_package(folder)
    model = host_model(folder, package)
    model.run(to_c(package.inputs, package.tensors, [inputs[p.onnx_name] for p in package.inputs]))
    return model.run_only


def turn(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of processor time a run."""
    began = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - began) / repeats * 1e3


def measure(name: str, rounds: int) -> Row:
    """Turns of both, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(name, Path(folder))
        theirs, inputs = onnx_runtime(path)
        ours = compiled(path, Path(folder) / "package", inputs)
        repeats = [max(1, round(TURN_SECONDS * 1e3 / max(turn(run, 3), 1e-4))) for run in (ours, theirs)]
        times = [(turn(ours, repeats[0]), turn(theirs, repeats[1])) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in times)
    return Row(name, *(statistics.median(column) for column in zip(*times, strict=True)), ratio, GOALS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(GOALS), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    if not (SHARED / "models").is_dir():
        print(f"the shared models are not at {SHARED / 'models'} (set MMCC_SHARED)")
        return
    print(HEADER)
    rows: list[Row] = []
    for name in arguments.models.split(","):
        rows.append(measure(name, arguments.rounds))
        print(rows[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
