# SPDX-License-Identifier: Apache-2.0
"""What `mmcc verify` does with its options, and the JSON it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.driver.options import Progress
from mmcc.errors import CompileError, Exit
from mmcc.package.record import Package, load_package
from mmcc.verification.compare import (
    accuracy,
    compare,
    find_model,
    oracle_outputs,
    per_node,
    run_host,
    run_qemu,
)
from mmcc.verification.data_files import load_data
from mmcc.verification.samples import Sample, labels_of, made_up, samples_of
from mmcc.verification.streams import as_far, whole_inputs, whole_outputs


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


def verify_package(folder: Path, options: VerifyOptions, progress: Progress) -> dict[str, Any]:
    """Run the package on samples and compare; the result has the keys that users rely on."""
    package = load_package(folder)
    samples, labels = _samples(package, options)
    given = _given(package, options, len(samples))
    if options.save_outputs and not options.save_outputs.absolute().parent.is_dir():
        message = f"{options.save_outputs}: there is no such folder"
        raise CompileError("MM006", message, exit=Exit.USAGE, hint="--save-outputs in a folder that exists")
    progress(f"running {len(samples)} samples on {options.on}")
    if options.on == "qemu":
        outputs, _ = run_qemu(folder, package, samples)
    else:
        outputs = run_host(folder, package, samples, sanitize=options.sanitize)
    if given is None:
        progress("running ONNX Runtime")
        given = oracle_outputs(package, samples, find_model(package, options.model))
    difference = compare(package, outputs, given)
    rows: list[dict[str, Any]] = []
    if options.per_node or (not difference.ok and _has_model(package, options)):
        rows = per_node(folder, package, samples, find_model(package, options.model), progress)
    ok = _agrees(folder, package, options, samples, outputs, given) if rows else difference.ok
    if options.save_outputs:
        stacked: dict[str, Any] = {
            f"output_{k}": np.stack([s[k] for s in outputs]) for k in range(len(package.outputs))
        }
        np.savez_compressed(options.save_outputs, **stacked)
    found: dict[str, Any] = {
        "ok": bool(ok and all(row["ok"] for row in rows)),
        "drift": not difference.ok,
        "on": options.on,
        "samples": len(samples),
        "made_up": options.data is None,
        "max_abs": float(difference.max_abs),
        "max_lsb": difference.max_lsb,
        "mean_lsb": difference.mean_lsb,
        "rmse": _rmse(outputs, given),
        "cosine": _cosine(outputs, given),
        "mismatch_rate": difference.mismatch_rate,
        "top1_agreement": difference.top1_agreement,
        "per_node": rows,
    }
    if labels is not None:
        found["accuracy"] = accuracy(outputs, labels)
    return found


def _flat(samples: list[Sample]) -> NDArray[np.float64]:
    """A row a sample, all its outputs behind each other."""
    rows = [np.concatenate([array.astype(np.float64).ravel() for array in sample]) for sample in samples]
    return np.stack(rows)


def _rmse(outputs: list[Sample], given: list[Sample]) -> float:
    """Root of the mean square of all differences."""
    return float(np.sqrt(np.mean((_flat(outputs) - _flat(given)) ** 2)))


def _cosine(outputs: list[Sample], given: list[Sample]) -> float:
    """The least cosine of the angle between what a sample gave and what it should; 1 where both are 0."""
    a, b = _flat(outputs), _flat(given)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    along = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return min(
        float(along[k]) if lengths[k] > 0 else float(np.array_equal(a[k], b[k])) for k in range(len(a))
    )


def _has_model(package: Package, options: VerifyOptions) -> bool:
    """Whether nodes can be compared one by one, where outputs drifted apart."""
    try:
        find_model(package, options.model)
    except CompileError:
        return False
    return True


def _agrees(
    folder: Path,
    package: Package,
    options: VerifyOptions,
    samples: list[Sample],
    outputs: list[Sample],
    given: list[Sample],
) -> bool:
    """What node by node does not see: another machine's outputs, and outputs that the user expects.

    Where every node is right, outputs may still drift: a node that rounds one output the other way, as it
    may, changes what all others are fed with.
    """
    if options.on == "qemu" and not compare(package, outputs, run_host(folder, package, samples)).same:
        return False
    if options.expected is None:
        return True
    oracle = oracle_outputs(package, samples, find_model(package, options.model))
    return compare(package, oracle, given).ok


def _samples(package: Package, options: VerifyOptions) -> tuple[list[Sample], NDArray[Any] | None]:
    """What to run, and the labels if there are any."""
    if options.data is None:
        if options.expected:
            message = f"--expected {options.expected} without --data: outputs of which inputs?"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint="--data with the inputs")
        return made_up(whole_inputs(package), options.samples), None
    ports = whole_inputs(package)
    arrays = load_data(options.data, ports)
    samples = samples_of(ports, arrays, "input", options.data)
    labels = labels_of(arrays, len(samples), options.data)
    return samples[: options.limit], None if labels is None else labels[: options.limit]


def _given(package: Package, options: VerifyOptions, count: int) -> list[Sample] | None:
    """The outputs that the user expects; None if ONNX Runtime is to compute them."""
    if not options.expected:
        return None
    ports = whole_outputs(package)
    given = samples_of(ports, load_data(options.expected, ports, "output"), "output", options.expected)
    given = [as_far(package, sample) for sample in given[: options.limit]]
    if len(given) != count:
        message = f"{options.expected} holds {len(given)} samples, {options.data} {count}"
        raise CompileError("MM007", message, exit=Exit.USAGE, hint=f"--limit {min(len(given), count)}")
    return given
