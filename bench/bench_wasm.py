# SPDX-License-Identifier: Apache-2.0
"""Time in Node beside the same model as AVX2 code on this machine, in turns.

    python bench/bench_wasm.py [--models NAME,NAME] [--rounds 5] [--json FILE]

Both are one program (runtime_c/firmware/time_runs.c), which takes processor time. Other work on the machine
only adds to it, so of each the least lower quartile over all rounds is compared. The goal is 3 times AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import package_sources
from mmcc.package.record import bench_files
from mmcc.resources import data_dir
from mmcc.target import Target, load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.verification.bench import times_of

SHARED = Path(os.environ.get("MMCC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
MODELS = "vww_mbv1_int8_qdq,ic_resnet8_int8_qdq,kws_dscnn_int8_qdq,vww_mbv1_fp32"
GOAL = 3.0  # times AVX2
STACK = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """One model: milliseconds an inference, and how they relate."""

    name: str
    avx2: float
    wasm: float

    @property
    def ratio(self) -> float:
        return self.wasm / self.avx2

    def __str__(self) -> str:
        mark = "" if self.ratio <= GOAL else "  missed"
        return f"{self.name:24} {self.avx2:9.4f} {self.wasm:9.4f} {self.ratio:7.2f} {GOAL:5.1f}{mark}"


HEADER = f"{'model':24} {'AVX2 ms':>9} {'Node ms':>9} {'ratio':>7} {'goal':>5}"


def program(model: Path, target: Target, name: str, folder: Path) -> Path:
    """The model in a program that takes its time."""
    package = folder / "package"
    compile_model(model, package, CompileOptions(target=name, name="net", stack=STACK, time_limit=5.0))
    sources = [*package_sources(package), bench_files(package) / "adapter_firmware.c"]
    main = data_dir("runtime_c") / "firmware" / "time_runs.c"
    return build_firmware(target, sources, [package], folder / "built", main=main, stack_bytes=STACK)


def measure(name: str, rounds: int, folder: Path) -> Row:
    """Both programs in turns."""
    host, wasm = load_target("host"), load_target("wasm32")
    avx2 = replace(host, flags=("-march=x86-64-v3", *(f for f in host.flags if not f.startswith("-march"))))
    model = SHARED / "models" / name / "model.onnx"
    targets = {"avx2": (avx2, "host"), "wasm": (wasm, "wasm32")}
    programs = {key: program(model, of, target, folder / key) for key, (of, target) in targets.items()}
    least = dict.fromkeys(targets, float("inf"))
    for _ in range(rounds):
        for key, (target, _) in targets.items():
            least[key] = min(least[key], times_of(programs[key], target)["low"])
    return Row(name, least["avx2"], least["wasm"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows: list[Row] = []
    print(HEADER)
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory(prefix="mmcc-") as folder:
            rows.append(measure(name, options.rounds, Path(folder)))
        print(rows[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1))
    return int(any(row.ratio > GOAL for row in rows))


if __name__ == "__main__":
    sys.exit(main())
