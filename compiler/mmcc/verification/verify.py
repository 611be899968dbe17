# SPDX-License-Identifier: Apache-2.0
"""What `mmcc verify` does with its options, and the JSON it gives back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.driver.options import Progress
from mmcc.errors import CompileError, Exit
from mmcc.frontend.indices import index_extents
from mmcc.output_file import check_file, whole_file
from mmcc.package.record import Package, load_package
from mmcc.verification.board import Board, run_board
from mmcc.verification.compare import (
    loaded_as_planned,
    oracle_outputs,
    per_node,
    rounds_floats,
    run_host,
    run_qemu,
    run_wasm,
)
from mmcc.verification.data_files import load_data
from mmcc.verification.difference import Difference, accuracy, compare, cosine, rmse
from mmcc.verification.flushed import flushed_difference
from mmcc.verification.oracle import find_model
from mmcc.verification.samples import Sample, labels_of, made_up, picked_inside, samples_of
from mmcc.verification.streams import as_far, whole_inputs, whole_outputs

NODE_BY_NODE = 3  # samples of which nodes are compared where outputs are not equal; all with --per-node


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """As on the command line."""

    on: str = "host"  # or "qemu", "wasm", or "serial:PORT"
    baud: int = 115200
    data: Path | None = None
    expected: Path | None = None
    per_node: bool = False
    model: Path | None = None
    samples: int = 2
    limit: int | None = None
    save_outputs: Path | None = None
    sanitize: bool = False
    entry: str = ""  # of linked models, the one


def verify_package(folder: Path, options: VerifyOptions, progress: Progress) -> dict[str, Any]:
    """Run the package on samples and compare; the result has the keys that users rely on.

    Of linked models all are run, one after the other: what is found of each is in "models", by its name.
    """
    models = load_package(folder).looked_at(options.entry)
    if len(models) == 1:
        (package,) = models.values()
        return _verify_one(folder, package, options, progress)
    given = {"--data": options.data, "--expected": options.expected, "--model": options.model}
    given["--save-outputs"] = options.save_outputs
    for option, path in given.items():
        if path is not None:
            message = f"{option} is of one model, and this package has {len(models)}: {', '.join(models)}"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint=f"add --entry {next(iter(models))}")
    found = {name: _verify_one(folder, package, options, progress) for name, package in models.items()}
    return {"ok": all(each["ok"] for each in found.values()), "on": options.on, "models": found}


def _verify_one(folder: Path, package: Package, options: VerifyOptions, progress: Progress) -> dict[str, Any]:
    """What is found of one model."""
    samples, labels = _samples(package, options)
    given = _given(package, options, len(samples))
    if options.save_outputs:
        check_file(options.save_outputs, "--save-outputs")
    progress(f"running {len(samples)} samples on {options.on}")
    with contextlib.ExitStack() as opened:
        board = None
        if port := serial_port(options.on):
            board = opened.enter_context(Board(package, port, options.baud))
        return _verified(folder, package, options, samples, labels, given, board, progress)


def serial_port(on: str) -> str:
    """The port of `serial:PORT`; "" for another place."""
    return on.removeprefix("serial:") if on.startswith("serial:") else ""


def _outputs(
    folder: Path, package: Package, options: VerifyOptions, samples: list[Sample], board: Board | None
) -> list[Sample]:
    if board is not None:
        return run_board(board, samples)[0]
    if options.on == "qemu":
        return run_qemu(folder, package, samples)[0]
    if options.on == "wasm":
        return run_wasm(folder, package, samples)[0]
    return run_host(folder, package, samples, sanitize=options.sanitize)


def _verified(
    folder: Path,
    package: Package,
    options: VerifyOptions,
    samples: list[Sample],
    labels: NDArray[Any] | None,
    given: list[Sample] | None,
    board: Board | None,
    progress: Progress,
) -> dict[str, Any]:
    outputs = _outputs(folder, package, options, samples, board)
    if given is None:
        progress("running ONNX Runtime")
        given = oracle_outputs(package, samples, find_model(package, options.model))
    judged = _judge(folder, package, options, samples, outputs, given, board, progress)
    if options.save_outputs:
        _save(options.save_outputs, outputs)
    found: dict[str, Any] = {
        **judged,
        "on": options.on,
        "samples": len(samples),
        "made_up": options.data is None,
        "rmse": rmse(outputs, given),
        "cosine": cosine(outputs, given),
    }
    if labels is not None:
        found["accuracy"] = accuracy(outputs, labels)
    return found


def _save(path: Path, outputs: list[Sample]) -> None:
    """Write all outputs, one array each."""
    stacked: dict[str, Any] = {
        f"output_{k}": np.stack(arrays) for k, arrays in enumerate(zip(*outputs, strict=True))
    }
    with whole_file(path, "--save-outputs") as made, made.open("wb") as stream:
        np.savez_compressed(stream, **stacked)


def _judge(
    folder: Path,
    package: Package,
    options: VerifyOptions,
    samples: list[Sample],
    outputs: list[Sample],
    given: list[Sample],
    board: Board | None,
    progress: Progress,
) -> dict[str, Any]:
    """Whether outputs are right: against those given, those of this machine, and node by node."""
    difference = compare(package, outputs, given)
    rows: list[dict[str, Any]] = []
    here = Difference(()) if options.on == "host" else _to_here(folder, package, samples, outputs)
    # integers that are not equal may still be right, and a step off may still be a fault: nodes tell which
    every = options.per_node or not difference.ok
    unsure = here is not None and not (here.same and difference.same)
    if options.per_node or (unsure and _has_model(package, options)):
        some = samples if every or here is None else _looked_at(package, samples, difference, here)
        rows = per_node(folder, package, some, find_model(package, options.model), progress, board)
    ok = _expected(package, options, samples, given) if rows and every else difference.ok
    if rows and package.stream is not None and package.stream.flushes:
        ok = ok and _flushes_right(package, options, samples, outputs)
    ok = ok and (here is None or here.same or (here.ok and _may_differ(package, options)))
    return {
        # samples that differ most have more roundings than others: of these the C alone is judged
        "ok": bool(ok and all(row["ok"] if every else not row["fault"] for row in rows)),
        "drift": not difference.ok,
        "as_here": None if here is None else here.same,
        "unexplained": unsure and not rows,
        "first_divergence": _first_divergence(rows),
        "max_abs": float(difference.max_abs),
        "max_lsb": difference.max_lsb,
        "mean_lsb": difference.mean_lsb,
        "mismatch_rate": difference.mismatch_rate,
        "top1_agreement": difference.top1_agreement,
        "per_node": rows,
        # of the user's that compute nodes, if results are others than with mmcc's own kernels
        "functions": [] if here is None or here.same else sorted(package.handoffs),
    }


def _has_model(package: Package, options: VerifyOptions) -> bool:
    """Whether nodes can be compared one by one, where outputs drifted apart."""
    try:
        find_model(package, options.model)
    except CompileError:
        return False
    return True


def _looked_at(
    package: Package, samples: list[Sample], difference: Difference, here: Difference
) -> list[Sample]:
    """The samples of which nodes tell why outputs differ; the first, where a call follows on another."""
    if package.keeps:
        return samples[:NODE_BY_NODE]
    worst = (difference if difference.outputs and not difference.same else here).worst(NODE_BY_NODE)
    return [samples[k] for k in worst]


def _expected(package: Package, options: VerifyOptions, samples: list[Sample], given: list[Sample]) -> bool:
    """What node by node does not see: outputs that the user expects.

    Where every node is right, outputs may still drift: a node that rounds one output the other way, as it
    may, changes what all others are fed with.
    """
    if options.expected is None:
        return True
    oracle = oracle_outputs(package, samples, find_model(package, options.model))
    return compare(package, oracle, given).ok


def _flushes_right(
    package: Package, options: VerifyOptions, samples: list[Sample], outputs: list[Sample]
) -> bool:
    """Rows of a flush, whose nodes are not traced: right nodes of hops excuse no difference of theirs."""
    loaded = loaded_as_planned(package, find_model(package, options.model))
    difference = flushed_difference(package, loaded, samples, outputs)
    return difference.same or (difference.ok and _may_differ(package, options))


def _to_here(
    folder: Path, package: Package, samples: list[Sample], outputs: list[Sample]
) -> Difference | None:
    """Of another machine's outputs to those of the same plan's C here; None without a compiler for that."""
    try:
        return compare(package, outputs, run_host(folder, package, samples))
    except CompileError as error:
        if error.exit is not Exit.TOOL_MISSING:
            raise
        return None


def _may_differ(package: Package, options: VerifyOptions) -> bool:
    """Whether integers on another machine may be others than here: where functions of the user's compute
    nodes, and where floats, of which machines have other last bits, are rounded to integers. Floats are where
    sums are float16 there, and float32 here."""
    if package.handoffs or package.fp16_math:
        return True
    return _has_model(package, options) and rounds_floats(package, find_model(package, options.model))


def _first_divergence(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first node, in the order in which they run, of which the C wrote something else than it should; of
    a loop and its body the one in the body."""
    faults = [row for row in rows if row["fault"]]
    return min(faults, key=lambda row: (row["index"], not row["within"], row["within"]), default=None)


def _samples(package: Package, options: VerifyOptions) -> tuple[list[Sample], NDArray[Any] | None]:
    """What to run, and the labels if there are any."""
    ports = whole_inputs(package)
    if options.data is None:
        if options.expected:
            message = f"--expected {options.expected} without --data: outputs of which inputs?"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint="--data with the inputs")
        samples = made_up(ports, options.samples)
        if not any(port.onnx_dtype.is_integer for port in ports):
            return samples, None
        shapes = {port.onnx_name: port.onnx_shape for port in ports}
        extents = index_extents(find_model(package, options.model), shapes)
        return picked_inside(ports, extents, samples), None
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
