# SPDX-License-Identifier: Apache-2.0
"""Instructions of kernels of sequence models on emulated targets, beside CMSIS-NN's.

    python bench/bench_sequences.py [--targets cortex-m4,cortex-m55]

A line each: an LSTM of a step, products of two activations, a layer of 16-bit activations, Softmax and
LayerNormalization, in integers; and an LSTM in float. Instructions are exact, of one call, for each
multiply-accumulate, or element of Softmax and LayerNormalization; in parentheses what CMSIS-NN was measured
to take, and an x where a goal is missed. Each kernel is run in all its ways and compared with its reference.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from mmcc.ops.matmul import Operands
from mmcc.ops.recurrent import CellFunction
from mmcc.ops.softmax import SoftmaxInt8, exp_table
from mmcc.target import load_target
from op_case import OpCase, rng_of
from op_cases_float_layers import dense as float_dense
from op_cases_int8 import matmul, normalized
from op_cases_int8_layers import int8
from op_cases_int16 import dense16
from op_cases_recurrent import layers
from op_cases_recurrent_int8 import cells
from qemu_bench import QemuBench


@dataclass(frozen=True, slots=True)
class Line:
    """Kernels, how many units their instructions are divided by, and figures by target."""

    label: str
    cases: tuple[OpCase, ...]
    units: int
    unit: str = "MAC"
    cmsis: dict[str, float] = field(default_factory=dict[str, float])
    goals: dict[str, float] = field(default_factory=dict[str, float])


def by_target(*figures: float) -> dict[str, float]:
    return dict(zip(("cortex-m4", "cortex-m55"), figures, strict=False))


def lines() -> list[Line]:
    found = [
        Line(
            f"LSTM int8 {inputs} -> {units}",
            (cells(f"lstm_{inputs}_{units}", 1, inputs, "lstm", units),),
            4 * units * (inputs + units),
            "MAC",
            by_target(*cmsis),
            by_target(*goals),
        )
        for inputs, units, cmsis, goals in (
            (28, 20, (4.96, 2.23), (2.4, 1.0)),
            (64, 64, (2.84, 0.94), (1.45, 0.40)),
            (128, 128, (2.29, 0.68), (1.25, 0.28)),
            (257, 128, (2.16, 0.63), ()),
        )
    ]
    scores = matmul("scores", (64, 32), (64, 32), Operands(transposed=True), 0.005)
    short = matmul("short", (64, 16), (64, 16), Operands(transposed=True), 0.005)
    values = matmul("values", (64, 64), (64, 32), Operands(), 0.005)
    for label, case, cmsis in (
        ("queries x keys, int8 64x32x64", scores, (3.62, 1.11)),
        ("queries x keys, int8 64x16x64", short, ()),
        ("scores x values, int8 64x64x32", values, (2.80, 0.86)),
    ):
        found.append(Line(label, (case,), case.nest.macs, "MAC", by_target(*cmsis), by_target(1.6, 0.45)))
    dense = dense16("dense16", (256,), 128)
    of_dense = by_target(2.59, 0.98), by_target(1.4)
    found.append(Line("dense, 16x8 256 -> 128", (dense,), 256 * 128, "MAC", *of_dense))
    table = exp_table(0.1).astype("int32")
    softmax = OpCase(
        "softmax", SoftmaxInt8(1 << 24, -128), (int8(rng_of("softmax"), 64, 64), table), (False, True)
    )
    of_softmax = by_target(517, 549), by_target(25)
    found.append(Line("Softmax int8, rows of 64", (softmax,), 64 * 64, "element", *of_softmax))
    norm = normalized("norm", (64, 64))
    found.append(Line("LayerNorm int8, rows of 64", (norm,), 64 * 64, "element", {}, by_target(15)))
    functions = tuple(CellFunction(name) for name in ("sigmoid", "tanh", "tanh"))
    steps = 8
    lstm = (
        layers("lstm_float", steps, "lstm", 64, functions, ("h", "c")),
        float_dense("gates_float", (steps, 64), 256),
    )
    products = steps * 4 * 64 * (64 + 64)
    of_lstm = by_target(5.46), by_target(2.7)
    found.append(Line(f"LSTM float 64 -> 64, {steps} steps", lstm, products, "MAC", *of_lstm))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", default="cortex-m4,cortex-m55", help="names with commas")
    names = parser.parse_args().targets.split(",")
    table = lines()
    cases = [case for line in table for case in line.cases]
    benches = {name: QemuBench(cases, load_target(name)) for name in names}
    for bench in benches.values():
        bench.check_all()
    print(f"{'instructions a unit (CMSIS-NN)':<44}" + "".join(f"{name:>20}" for name in names))
    for line in table:
        cells_of = []
        for name, bench in benches.items():
            each = sum(bench.instructions(case.name) for case in line.cases) / line.units
            missed = " x" if each > line.goals.get(name, each) else "  "
            beside = f" ({line.cmsis[name]:g})" if name in line.cmsis else ""
            cells_of.append(f"{each:.3g}{beside}{missed}")
        print(f"{line.label:<34}{line.unit:<10}" + "".join(f"{text:>20}" for text in cells_of))


if __name__ == "__main__":
    main()
