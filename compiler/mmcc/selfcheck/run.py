# SPDX-License-Identifier: Apache-2.0
"""Every compile runs what it made, before it is written: the C for this machine against the references."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.selftest import made_inputs
from mmcc.errors import CompileError, Exit
from mmcc.ir.element_type import Kind
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module
from mmcc.ops.loss import CrossEntropy
from mmcc.ops.quantize import Quantize
from mmcc.ops.repeat import node_at, numbers_of
from mmcc.scratch import ScratchFolder
from mmcc.selfcheck.judge import Fault, judge
from mmcc.selfcheck.trace import Run, Trace, run_traced, traced_program
from mmcc.target import Target

Array = NDArray[Any]
RUNS = 2  # of an entry with states: the second finds what the first left
NOT_ASKED = "skipped with --no-self-check"


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What the report says of it. `reason` is why it was not done."""

    done: bool
    reason: str = ""
    nodes: int = 0  # whose outputs were seen and compared
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As in report.json."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class WrongRun:
    """A run that gave something else than it should."""

    entry: Entry
    fault: Fault
    inputs: list[Array]


def self_check(
    module: Module,
    sources: Sequence[Path],
    layers: Path,
    adapter: Path,
    bench: Path,
    host: Target,
    work: Path,
) -> tuple[SelfCheck, WrongRun | None]:
    """Build and run the C of a package for this machine; the first run that is wrong.

    Entries are run in their order, each from the states that the one before it left, twice where it has some:
    so what applies sums of gradients finds some.

    `sources` are files or objects of the package besides `layers`, its file with the order of the layers.
    Without a compiler for this machine nothing is checked, and the result says so.
    """
    begun = time.perf_counter()
    try:
        program = traced_program(sources, layers, adapter, bench, host, work)
    except CompileError as error:
        if error.exit is not Exit.TOOL_MISSING:
            raise
        return SelfCheck(False, f"not done: {error.message}"), None
    runs = _runs(module)
    traces = run_traced(program, runs)
    seen = {(run.entry, *key) for run, trace in zip(runs, traces, strict=False) for key in trace.records}
    wrong = _first_wrong(module, runs, traces)
    return SelfCheck(True, nodes=len(seen), seconds=time.perf_counter() - begun), wrong


def _runs(module: Module) -> list[Run]:
    """All entries one after the other."""
    runs: list[Run] = []
    numbers = numbers_of([entry.graph for entry in module.entries])
    for number, entry in enumerate(module.entries):
        run = Run(entry.graph, inputs_of(entry.graph), number, *numbers[number])
        runs += [run] * (RUNS if entry.graph.states else 1)
    return runs


def _first_wrong(module: Module, runs: Sequence[Run], traces: Sequence[Trace]) -> WrongRun | None:
    """The first fault of runs of which each finds the states that those before it left."""
    states = {state.begin: state.initial for state in module.states}
    for run, trace in zip(runs, traces, strict=False):
        graph = run.graph
        named = {port.tensor: array for port, array in zip(graph.inputs, run.inputs, strict=True)}
        judged = judge(graph, trace, states | named)
        if judged.faults:
            return WrongRun(module.entries[run.entry], judged.faults[0], list(run.inputs))
        states |= judged.states
    return None


def inputs_of(graph: Graph) -> list[Array]:
    """Made-up inputs: 8-bit integers over their whole range, floats between -1 and 1.

    A float that the model quantizes goes over the whole range of what it becomes. A label is a class: one
    that is none has no gradient, and all that is computed backward would be 0.
    """
    inputs = made_inputs([graph.tensors[port.tensor] for port in graph.inputs])
    for k, port in enumerate(graph.inputs):
        for node in graph.consumers[port.tensor]:
            if isinstance(node.op, Quantize):
                middle = 127.5 if node.op.dtype.kind is Kind.UNSIGNED else -0.5
                inputs[k] = ((inputs[k] * 130 + middle - node.op.zero_point) * node.op.scale).astype(
                    np.float32
                )
                break
            if isinstance(node.op, CrossEntropy) and port.tensor == node.inputs[1]:
                inputs[k] %= graph.tensors[node.inputs[0]].shape[-1]
                break
    return inputs


def failure(wrong: WrongRun, made: Path, model: Path, out: Path, options: str) -> CompileError:
    """The error for a package that computes something else than it should, with all that is needed to see it.

    That lies beside `out`, which is not written.
    """
    graph, fault = wrong.entry.graph, wrong.fault
    sentence = fault.sentence(graph)
    with ScratchFolder("mmcc-") as scratch:
        folder = Path(scratch) / "difference"
        shutil.copytree(made, folder / "package")
        (folder / "difference.txt").write_text(f"{sentence}\n\n{options}\n")
        arrays: dict[str, Any] = {f"input_{k}": array for k, array in enumerate(wrong.inputs)}
        np.savez_compressed(folder / "inputs.npz", **arrays)
        if model.is_file():
            shutil.copy(model, folder / "model.onnx")
        archive = Path(shutil.make_archive(str(Path(scratch) / "archive"), "zip", folder))
        target = out.absolute().with_name(f"{out.name}-difference.zip")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(archive, target)
    where = node_at(graph, fault.path)[1].where if fault.index >= 0 else ()
    return CompileError(
        "MM807",
        f"the generated C does not compute what it should, so no package is written: {sentence}",
        exit=Exit.INTERNAL,
        at=where,
        hint=f"send us {target}: a bug in mmcc. --no-self-check writes the package nevertheless",
    )
