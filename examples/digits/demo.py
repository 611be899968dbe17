# SPDX-License-Identifier: Apache-2.0
"""What `make demo` runs: the digits model, compiled for a Cortex-M4 under a RAM limit, checked and run.

Everything goes through the command line that a user has: `mmcc compile`, `mmcc verify`, `mmcc bench`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = HERE / "digits_int8.onnx"
DATA = HERE / "test_data.npz"
BUILD = ROOT / "build" / "demo"
TARGET = "cortex-m4"
RAM = "6K"

TOOL_MISSING = 8  # mmcc's exit code when a compiler or QEMU is not installed
SHADES = " .:-=+*#%@"

Outputs = NDArray[np.float32]


class CommandError(Exception):
    """mmcc ended with an exit code other than 0."""

    def __init__(self, command: list[str], exit_code: int, message: str) -> None:
        self.exit_code, self.message = exit_code, message
        super().__init__(f"`{' '.join(command)}` ended with exit code {exit_code}\n{message}")


@dataclass(frozen=True, slots=True)
class Run:
    """One place where the network ran: its outputs for all test digits, and how many are right."""

    place: str
    outputs: Outputs
    correct: int
    total: int

    @property
    def predictions(self) -> NDArray[np.int64]:
        return self.outputs.reshape(self.total, -1).argmax(1)


def mmcc(*arguments: str | Path) -> dict[str, Any]:
    """Run `mmcc ... --json`, show the command as a user would type it, and return what it printed."""
    words = [_shown(argument) for argument in arguments]
    print(f"\n$ mmcc {' '.join(words)}", flush=True)
    # The script that was installed beside this interpreter, whatever PATH says.
    command = [str(Path(sys.executable).with_name("mmcc")), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise CommandError(["mmcc", *words], done.returncode, (done.stderr or done.stdout).strip())
    return json.loads(done.stdout)


def _shown(argument: str | Path) -> str:
    """Paths as seen from the folder the user is in."""
    return os.path.relpath(argument) if isinstance(argument, Path) else argument


def run_onnxruntime(images: Outputs, labels: NDArray[np.int64]) -> Run:
    """The oracle: onnxruntime without graph optimizations, so that every node means what the file says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    outputs = np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])
    correct = int((outputs.argmax(1) == labels).sum())
    return Run("ONNX Runtime (the oracle)", outputs, correct, len(labels))


def compile_model() -> dict[str, Any]:
    """Plan and write the C; say what the planner proved."""
    report = mmcc("compile", MODEL, "--target", TARGET, "--ram", RAM, "-o", BUILD)
    ram, plan = report["ram"], report["plan"]
    proof = "proved optimal" if plan["proved_optimal"] else "best found"
    print(f"  plan: {len(plan['groups'])} groups, {proof} in {plan['seconds']:.1f} s")
    parts = " + ".join(f"{part} {ram[part]:,}" for part in ("arena", "context", "static", "stack"))
    print(f"  RAM:  {ram['total']:,} of {ram['limit']:,} bytes = {parts}")
    return report


def verify(place: str, on: str, expected: Path) -> Run:
    """Build the C, run all test digits through it, compare with the oracle; keep what the C answered."""
    saved = BUILD / f"outputs_{on}.npz"
    options = ("--on", on, "--data", DATA, "--expected", expected, "--save-outputs", saved)
    result = mmcc("verify", BUILD, *options)
    accuracy = result["accuracy"]
    print(
        f"  top-1 as the oracle's in {result['top1_agreement']:.2%} of the digits;"
        f" largest difference of an output {result['max_abs']:.3g}"
    )
    with np.load(saved) as outputs:
        return Run(place, outputs["output_0"], accuracy["correct"], accuracy["total"])


def run_in_qemu(expected: Path) -> tuple[Run | None, dict[str, Any], str]:
    """The run in QEMU and its instruction counts; or None and the reason, when a tool is not installed."""
    try:
        return verify("C on Cortex-M4 (QEMU)", "qemu", expected), mmcc("bench", BUILD, "--on", "qemu"), ""
    except CommandError as error:
        if error.exit_code != TOOL_MISSING:
            raise
        print("  skipped: a tool is missing")
        return None, {}, error.message


def show_digits(images: Outputs, labels: NDArray[np.int64], run: Run) -> None:
    """Three test digits as text; the third is one the network gets wrong, if there is one."""
    right = np.flatnonzero(run.predictions == labels)
    wrong = np.flatnonzero(run.predictions != labels)
    picked = [*right[:2], *(wrong if wrong.size else right[2:])[:1]]
    print(f"\nTest digits, classified by {run.place}:\n")
    for rows in zip(*(_as_text(images[index, 0]) for index in picked), strict=True):
        print("    " + "    ".join(rows))
    verdicts = []
    for index in picked:
        predicted, label = run.predictions[index], labels[index]
        verdicts.append(f"it says {predicted}" + ("" if predicted == label else f", is {label}"))
    print("    " + "    ".join(verdict.ljust(16) for verdict in verdicts))


def _as_text(image: Outputs) -> list[str]:
    """Eight lines of 16 characters; a pixel is two characters wide, which makes it about square."""
    levels = np.rint(image * (len(SHADES) - 1)).astype(int)
    return ["".join(SHADES[level] * 2 for level in row) for row in levels]


def show_table(report: dict[str, Any], bench: dict[str, Any], runs: list[Run]) -> None:
    """Accuracy by place, then what the model costs."""
    ram, flash = report["ram"], report["flash"]
    lines = [
        (run.place, f"{run.correct} of {run.total} right ({run.correct / run.total:.2%})") for run in runs
    ]
    lines.append(("RAM, everything included", f"{ram['total']:,} of {ram['limit']:,} bytes"))
    lines.append(
        ("flash", f"{flash['total']:,} bytes (weights {flash['weights']:,}, code {flash['code']:,})")
    )
    if bench:
        macs = report["model"]["macs"]
        per_mac = f" ({bench['instructions'] / macs:.2f} a multiply-accumulate)" if macs else ""
        lines.append(("instructions a digit", f"{bench['instructions']:,}{per_mac}"))
        lines.append(("stack, measured in QEMU", f"{bench['stack']:,} bytes"))
    print("\n" + "-" * 78)
    for name, value in lines:
        print(f"  {name:<28}{value}")
    print("-" * 78)


def main() -> int:
    """Compile, verify on this machine and in QEMU, show digits and figures."""
    with np.load(DATA) as data:
        images, labels = data["input_0"], data["labels"]
    report = compile_model()
    oracle = run_onnxruntime(images, labels)
    expected = BUILD / "expected.npz"
    np.savez(expected, output_0=oracle.outputs)

    runs = [oracle, verify("C on this machine", "host", expected)]
    in_qemu, bench, skipped = run_in_qemu(expected)
    if in_qemu:
        runs.append(in_qemu)
    show_digits(images, labels, runs[-1])
    show_table(report, bench, runs)
    if skipped:
        print(f"The run in QEMU was skipped:\n{skipped}\n`make setup` says how to install what is missing.")
    else:
        same = "the same bits" if np.array_equal(runs[1].outputs, runs[2].outputs) else "NOT the same bits"
        print(f"This machine and the Cortex-M4 gave {same} for all {len(images)} digits.")
    print(f"The C: {os.path.relpath(BUILD)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(error.exit_code)
