"""What `mmcc verify` does with its options, and the JSON it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmcc.compare import accuracy, compare, find_model, oracle_outputs, per_node, run_host, run_qemu
from mmcc.package import Package, load_package
from mmcc.samples import Sample, load_npz, made_up, samples_of


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """As on the command line."""

    on: str = "host"
    data: Path | None = None
    expected: Path | None = None
    per_node: bool = False
    model: Path | None = None
    samples: int = 2
    limit: int | None = None
    save_outputs: Path | None = None
    sanitize: bool = False


def verify_package(folder: Path, options: VerifyOptions, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the package on samples and compare; the result has the keys that users rely on."""
    package = load_package(folder)
    arrays = load_npz(options.data) if options.data else {}
    samples = (
        samples_of(package.inputs, arrays, "input", options.data)[: options.limit]
        if options.data
        else made_up(package.inputs, options.samples)
    )
    progress(f"running {len(samples)} samples on {options.on}")
    if options.on == "qemu":
        outputs, _ = run_qemu(folder, package, samples)
    else:
        outputs = run_host(folder, package, samples, sanitize=options.sanitize)
    wanted = _expected(package, options, samples, progress)
    difference = compare(package, outputs, wanted)
    rows: list[dict[str, Any]] = []
    if options.per_node:
        rows = per_node(folder, package, samples, find_model(package, options.model), progress)
    if options.save_outputs:
        stacked: dict[str, Any] = {
            f"output_{k}": np.stack([s[k] for s in outputs]) for k in range(len(package.outputs))
        }
        np.savez_compressed(options.save_outputs, **stacked)
    found: dict[str, Any] = {
        "ok": bool(difference.ok and all(row["ok"] for row in rows)),
        "on": options.on,
        "samples": len(samples),
        "made_up": options.data is None,
        "max_abs": float(difference.max_abs),
        "max_lsb": difference.max_lsb,
        "mean_lsb": difference.mean_lsb,
        "mismatch_rate": difference.mismatch_rate,
        "top1_agreement": difference.top1_agreement,
        "per_node": rows,
    }
    if "labels" in arrays:
        found["accuracy"] = accuracy(outputs, arrays["labels"][: len(outputs)])
    return found


def _expected(
    package: Package, options: VerifyOptions, samples: Sequence[Sample], progress: Callable[[str], None]
) -> list[Sample]:
    if options.expected:
        arrays = load_npz(options.expected)
        return samples_of(package.outputs, arrays, "output", options.expected)[: options.limit]
    progress("running ONNX Runtime")
    return oracle_outputs(package, samples, find_model(package, options.model))
