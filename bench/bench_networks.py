# SPDX-License-Identifier: Apache-2.0
"""Whole int8 networks in QEMU: instructions, RAM and flash beside what other runtimes need.

    python bench/bench_networks.py [--targets cortex-m4] [--ram min] [--models DIR] [--json FILE] [NAME ...]

Instructions are exact and of one inference. TFLM is TensorFlow Lite Micro with CMSIS-NN, measured on the same
emulated boards. RAM is arena, context, static data and worst-case stack; code is flash without weights.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.sizes import parse_size
from mmcc.verification.bench import bench_qemu

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MMCC_SHARED") or ROOT.parent / "shared")
TFLM = {  # instructions of TensorFlow Lite Micro with CMSIS-NN
    ("kws_dscnn_int8_qdq", "cortex-m4"): 7_697_710,
    ("ic_resnet8_int8_qdq", "cortex-m4"): 29_863_914,
    ("vww_mbv1_int8_qdq", "cortex-m4"): 24_101_517,
    ("ad_autoenc_int8_qdq", "cortex-m4"): 582_891,
    ("mcunet_vww_int8_qdq", "cortex-m4"): 47_930_000,
    ("kws_dscnn_int8_qdq", "cortex-m55"): 1_814_166,
    ("ic_resnet8_int8_qdq", "cortex-m55"): 4_912_623,
    ("vww_mbv1_int8_qdq", "cortex-m55"): 6_558_368,
    ("ad_autoenc_int8_qdq", "cortex-m55"): 285_494,
    ("mcunet_vww_int8_qdq", "cortex-m55"): 11_690_000,
}
TINY_ENGINE = {("mcunet_vww_int8_qdq", "cortex-m4"): 34_750_000}
NAMES = tuple(dict.fromkeys(name for name, _ in TFLM))
LIMIT, GOAL = 0.60, 0.50  # of TFLM's instructions


@dataclass(frozen=True, slots=True)
class Row:
    """One network on one target."""

    name: str
    target: str
    instructions: int
    macs: int
    tflm: int | None
    tiny_engine: int | None
    ram: int
    arena: int
    stack: int  # worst case, proved
    weights: int
    parameters: int
    code: int  # and tables: flash without weights

    @property
    def ratio(self) -> float | None:
        """Instructions in multiples of TFLM's."""
        return self.instructions / self.tflm if self.tflm else None

    def __str__(self) -> str:
        mark = (
            "" if self.ratio is None else " x" if self.ratio > LIMIT else "  " if self.ratio <= GOAL else " -"
        )
        ratio = f"{self.ratio:.3f}{mark}" if self.ratio is not None else ""
        each = self.instructions / max(self.macs, 1)
        return (
            f"{self.name:<36}{self.target:<13}{self.instructions:>12,}{each:>7.2f} {ratio:<9}"
            f"{self.ram:>9,}{self.arena:>9,}{self.stack:>7,}{self.weights:>10,}{self.code:>8,}"
        )


def model_of(name: str, folder: Path) -> Path:
    """The ONNX file of a network."""
    path = folder / name / "model.onnx"
    if not path.is_file():
        raise SystemExit(f"there is no {path}; --models or MMCC_SHARED says where models are")
    return path


def measure(name: str, target: str, models: Path, options: CompileOptions) -> Row:
    """Compile, run once in QEMU."""
    with tempfile.TemporaryDirectory() as folder:
        result = compile_model(model_of(name, models), Path(folder) / "package", options)
        counted = bench_qemu(result.folder, load_package(result.folder))
    ram, flash, model = result.report["ram"], result.report["flash"], result.report["model"]
    return Row(
        name,
        target,
        counted["instructions"],
        model["macs"],
        TFLM.get((name, target)),
        TINY_ENGINE.get((name, target)),
        ram["total"],
        ram["arena"],
        ram["stack"],
        flash["weights"],
        model["params"],
        flash["code"],
    )


def rows(names: list[str], targets: list[str], models: Path, ram: str) -> Iterator[Row]:
    """Every network on every target."""
    for target in targets:
        for name in names:
            yield measure(name, target, models, options_of(target, ram))


def options_of(target: str, ram: str) -> CompileOptions:
    """As the command line would make them."""
    least = ram == "min"
    return CompileOptions(
        target=target, ram=parse_size(ram, "--ram") if ram and not least else 0, least_ram=least
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", default="cortex-m4", help="names with commas")
    parser.add_argument("--ram", default="", help="RAM allowed, as 64K, or min; no limit without")
    parser.add_argument("--models", type=Path, default=SHARED / "models", help="folder of the networks")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("names", nargs="*", help="folders below --models")
    arguments = parser.parse_args()
    names, targets = arguments.names or list(NAMES), arguments.targets.split(",")
    heads = ("RAM", "arena", "stack", "weights", "code")
    widths = (9, 9, 7, 10, 8)
    print(f"{'network':<36}{'target':<13}{'instructions':>12}{'/MAC':>7} {'of TFLM':<9}", end="")
    print("".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    table: list[Row] = []
    for row in rows(names, targets, arguments.models, arguments.ram):
        print(row, flush=True)
        table.append(row)
    print(f"x: above {LIMIT:.2f} times TFLM's instructions; -: above {GOAL:.2f}")
    if arguments.json:
        figures = [asdict(row) | {"ratio": row.ratio} for row in table]
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
