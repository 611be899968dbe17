# SPDX-License-Identifier: Apache-2.0
"""Does the C compute what the model computes? On this machine or in QEMU, end to end or node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.boards import BoardModel
from mmcc.codegen.lower import describe
from mmcc.driver.load import Loaded, load_model
from mmcc.driver.options import CompileOptions, Progress
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph, Node
from mmcc.ir.streaming import Streaming
from mmcc.ops.repeat import node_at, with_bodies
from mmcc.package.host import host_adapter, host_model, host_sources, package_sources
from mmcc.package.record import Package, bench_files
from mmcc.passes.copy_rows import copy_rows
from mmcc.passes.other_rows import other_rows
from mmcc.passes.read_apart import read_apart
from mmcc.passes.separate_states import separate_states
from mmcc.passes.tiling import AS_IT_IS
from mmcc.scratch import ScratchFolder
from mmcc.selfcheck.judge import Fault, judge
from mmcc.selfcheck.trace import Run, Trace, run_traced, traced_program
from mmcc.target import Target, load_target
from mmcc.toolchain.host import HostModel
from mmcc.toolchain.qemu import MOST_CALLS, RESET, FirmwareRun, run_firmware
from mmcc.verification.agreement import Agreement
from mmcc.verification.board import Board, traces_on
from mmcc.verification.kept import Kept
from mmcc.verification.linked import firmware_of, sanitized_program
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import Sample, from_c, to_c
from mmcc.verification.streams import as_far, flush_of, hops, hops_of, joined
from mmcc.verification.tally import Tally

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """One node; `index` -1 stands for a run that did not end.

    A node of a loop's body has the loop's `index`, and in `within` its number in the body, behind those of
    loops between. Its counts are of all steps.
    """

    index: int
    within: tuple[int, ...]
    op: str
    name: str
    outputs: int
    mismatches: int
    ties: int  # of the mismatches: the exact value lies half-way between two steps
    max_abs: float
    max_lsb: int | None
    fault: str  # of the C against its reference; "" if they are the same
    note: str  # of a loop: why the nodes of its body are not looked at one by one
    ok: bool


def run_host(
    folder: Path, package: Package, samples: Sequence[Sample], *, sanitize: bool = False
) -> list[Sample]:
    """The outputs of all samples on this machine, in ONNX's shapes and types.

    With `sanitize` a program of its own runs them: sanitizers cannot be loaded into a running interpreter.
    """
    if sanitize:
        elf = sanitized_program(folder, package)
        return _run_program(elf, load_target("host"), package, samples)[0]
    model = host_model(folder, package)
    if package.stream is not None:
        return [_streamed(model, package, package.stream, sample) for sample in samples]
    fed = (to_c(package.inputs, package.tensors, sample) for sample in samples)
    outputs = [model.run(arrays, package.entry) for arrays in fed]
    return [from_c(package.outputs, package.tensors, sample) for sample in outputs]


def _streamed(model: HostModel, package: Package, stream: Streaming, sample: Sample) -> Sample:
    """What a sequence gives, fed hop by hop from a reset on."""
    if package.keeps:
        model.reset()
    fed = (to_c(package.inputs, package.tensors, hop) for hop in hops(package, stream, sample))
    made = [from_c(package.outputs, package.tensors, model.run(inputs)) for inputs in fed]
    return joined(stream, made, _flushed(model, package, stream))


def _flushed(model: HostModel, package: Package, stream: Streaming) -> Sample:
    """The rows at the end of the sequence that the model had."""
    end = flush_of(package, stream)
    return [] if end is None else from_c(end.outputs, end.tensors, model.run([], end.entry))


def run_qemu(
    folder: Path,
    package: Package,
    samples: Sequence[Sample],
    *,
    hooks: bool = False,
    profile: bool = False,
    board: BoardModel | None = None,
) -> tuple[list[Sample], FirmwareRun]:
    """The outputs of all samples as firmware in QEMU, and what the run measured; cycles need a board."""
    target = load_target(package.target)
    if target.qemu is None:
        message = f"target {package.target} has no board or program to emulate"
        hint = "--on wasm" if target.engine else "--on host, or compile for another target"
        raise CompileError("MM002", message, exit=Exit.USAGE, hint=hint)
    _calls(package, len(samples))
    elf = firmware_of(folder, package, hooks=hooks)
    return _run_program(elf, target, package, samples, profile=profile, board=board)


def engine_target(package: Package) -> Target:
    """The target of a package for WebAssembly; CompileError for another."""
    target = load_target(package.target)
    if not target.engine:
        message = f"target {package.target} makes no modules of WebAssembly"
        raise CompileError("MM002", message, exit=Exit.USAGE, hint="--on host, or compile with -t wasm32")
    return target


def run_wasm(folder: Path, package: Package, samples: Sequence[Sample]) -> tuple[list[Sample], FirmwareRun]:
    """The outputs of all samples as a module of WebAssembly in the target's engine, and the stack it used."""
    target = engine_target(package)
    _calls(package, len(samples))
    return _run_program(firmware_of(folder, package), target, package, samples)


def _run_program(
    elf: Path,
    target: Target,
    package: Package,
    samples: Sequence[Sample],
    *,
    profile: bool = False,
    board: BoardModel | None = None,
) -> tuple[list[Sample], FirmwareRun]:
    stream = package.stream
    fed = samples if stream is None else [hop for sample in samples for hop in hops(package, stream, sample)]
    raw = [b"".join(a.tobytes() for a in to_c(package.inputs, package.tensors, s)) for s in fed]
    size = len(raw[0]) if raw else 0
    run = run_firmware(
        elf,
        target,
        b"".join(raw),
        size,
        elf.parent / "run",
        profile=profile,
        count_accesses=profile,
        board=board,
        timeout=1800.0,
        calls=_calls(package, len(samples)),
    )
    raw_outputs = BytesIO(run.outputs)
    if stream is None:
        return [_taken(raw_outputs, package) for _ in fed], run
    end = flush_of(package, stream)
    outputs: list[Sample] = []
    for _ in samples:
        made = [_taken(raw_outputs, package) for _ in range(hops_of(stream))]
        outputs.append(joined(stream, made, [] if end is None else _taken(raw_outputs, end)))
    return outputs, run


def _taken(raw: BytesIO, package: Package) -> Sample:
    """The outputs of one call, which follow in what a program wrote."""
    tensors = [package.tensors[port.tensor] for port in package.outputs]
    arrays = [np.frombuffer(raw.read(tensor.bytes), tensor.dtype.numpy) for tensor in tensors]
    return from_c(package.outputs, package.tensors, arrays)


def _calls(package: Package, samples: int) -> bytes:
    """What the test bench calls: of a stream the hops and the flush of each sample, a reset between two.

    Nothing where it sees that by the length of the inputs, which a model that only has states has none of.
    """
    if package.stream is None and not package.entry and package.inputs:
        return b""
    if package.stream is None:
        calls = bytes([package.entry]) * samples
    else:
        end = flush_of(package, package.stream)
        calls = bytes(hops_of(package.stream)) + (b"" if end is None else bytes([end.entry]))
        calls = bytes([RESET]).join([calls] * samples)
    if len(calls) > MOST_CALLS:
        message = f"{samples} samples are {len(calls):,} calls; the test bench takes {MOST_CALLS:,}"
        hint = "fewer --samples, or --limit of those in --data, or --on host"
        raise CompileError("MM003", message, exit=Exit.USAGE, hint=hint)
    return calls


def oracle_outputs(package: Package, samples: Sequence[Sample], model: Path) -> list[Sample]:
    """What ONNX Runtime computes for all samples, one after the other where the package keeps states."""
    kept = Kept(package.states)
    outputs = [port.onnx_name for port in package.outputs]
    oracle = Oracle(model, [*outputs, *kept.outputs], package.bind)
    names = [port.onnx_name for port in package.inputs]
    found: list[Sample] = []
    for sample in samples:
        values = oracle.run(kept.values | dict(zip(names, sample, strict=True)))
        kept.become(values[len(outputs) :])
        found.append(values[: len(outputs)])
    return [as_far(package, whole) for whole in found]


# ---- node by node


def per_node(
    folder: Path,
    package: Package,
    samples: Sequence[Sample],
    model: Path,
    progress: Progress,
    board: Board | None = None,
) -> list[dict[str, Any]]:
    """Each node, worst first: our reference against ONNX Runtime, and the C, here or on a board, against it.

    The first is fed with ONNX Runtime's values, the second with the C's own. So neither errors nor
    differences add up, within a group either.
    """
    loaded = loaded_as_planned(package, model)
    graph = separate_states(loaded.graph, outputs_outside=package.io == "external")
    if package.apart:
        graph = read_apart(graph, package.apart) or graph
    apart, graph = graph, package.tiling.of(graph)
    if package.other_rows:
        graph = other_rows(graph) or graph
    graph = copy_rows(graph, package.row_copies)
    whole = graph if package.stream is None else loaded.whole
    if package.tiling != AS_IT_IS:  # a tie inside a tile is one only beside what ONNX Runtime has there
        whole = apart
    agreement = Agreement(whole, model, package.bind, package.states, loaded.graph)
    faults: dict[tuple[int, ...], Fault] = {}
    entry = package.entries[package.entry]
    with ScratchFolder("mmcc-") as scratch:
        program = _traced(folder, package, Path(scratch)) if board is None else None
        for number, sample in enumerate(samples):
            progress("comparing node by node", number, len(samples))
            agreement.run(sample)
        for sequence in _sequences(package, samples, together=bool(graph.states)):
            if program is not None:
                runs = [Run(graph, inputs, package.entry, entry.first, entry.bodies) for inputs in sequence]
                traces: Iterable[Trace] = run_traced(program, runs)
            else:
                assert board is not None
                traces = traces_on(board, sequence, graph)
            _judge_runs(graph, traces, sequence, faults)
    if whole is graph:
        rows = [*_rows(graph, agreement, faults, entry.first)]
    else:  # of a hop, and in tiles and slices, other nodes are numbered
        rows = [*_rows(whole, agreement, {}), *_rows(graph, None, faults)]
    rows.sort(
        key=lambda row: (row.ok, row.index < 0, -row.mismatches / max(1, row.outputs), row.index, row.within)
    )
    return [asdict(row) for row in rows]


def _sequences(package: Package, samples: Sequence[Sample], *, together: bool) -> list[list[Sample]]:
    """What one program runs from initial states on: all samples, if states live through them, or each."""
    if package.stream is not None:
        runs = [hops(package, package.stream, sample) for sample in samples]
    else:
        runs = [list(samples)] if together else [[sample] for sample in samples]
    return [[to_c(package.inputs, package.tensors, each) for each in run] for run in runs]


def _judge_runs(
    graph: Graph, traces: Iterable[Trace], runs: Sequence[Sample], faults: dict[tuple[int, ...], Fault]
) -> None:
    """Add the first fault of each node to `faults`."""
    states = {state.begin: state.initial for state in graph.states}
    for inputs, trace in zip(runs, traces, strict=False):
        named = {port.tensor: array for port, array in zip(graph.inputs, inputs, strict=True)}
        judged = judge(graph, trace, states | named, all_faults=True)
        for fault in judged.faults:
            faults.setdefault(fault.path, fault)
        if trace.status != 0:
            return
        states = judged.states


def loaded_as_planned(package: Package, model: Path) -> Loaded:
    """What the package was planned from."""
    stream = package.stream
    options = CompileOptions(
        dims=package.dims,
        bind=package.bind,
        states={state.port.onnx_name: state.output for state in package.states},
        initial={state.port.onnx_name: state.first for state in package.states},
        float_io=package.float_io,
        fp16_math=package.fp16_math,
        io=package.io,
        stream="" if stream is None else f"{stream.input}:{stream.axis}:{stream.hop}",
        window=0 if stream is None else stream.window,
    )
    return load_model(model, options, unroll=package.staged or bool(package.handoffs))


def rounds_floats(package: Package, model: Path) -> bool:
    """Whether some node makes integers of floats that another node has computed."""
    whole = loaded_as_planned(package, model).graph
    return any(
        _rounds_floats(graph, node, inside=graph is not whole)
        for graph in with_bodies(whole)
        for node in graph.nodes
    )


def _rounds_floats(graph: Graph, node: Node, *, inside: bool) -> bool:
    """The same of one node. What a loop's body is given, a step before it may have computed."""
    read = [name for name in graph.activations(node) if graph.tensors[name].dtype.is_float]
    made = [name for name in read if inside or name in graph.producer]
    return bool(made) and not all(graph.tensors[name].dtype.is_float for name in node.outputs)


def _traced(folder: Path, package: Package, work: Path) -> Path:
    """The program of this machine that records what each node writes."""
    layers = host_sources(folder) / f"{package.name}.c"
    sources = [path for path in package_sources(layers.parent) if path.name != layers.name]
    adapter = work / "adapter_host.c"
    adapter.write_text(host_adapter(folder, package))
    return traced_program(sources, layers, adapter, bench_files(folder), load_target("host"), work)


def _rows(
    graph: Graph, agreement: Agreement | None, faults: Mapping[tuple[int, ...], Fault], first: int = 0
) -> Iterator[NodeDifference]:
    """What is said of the nodes that were compared; C counts nodes from `first` on."""
    tallies = agreement.tallies if agreement else {}
    notes = agreement.whole_loops if agreement else {}
    for path in sorted({*tallies, *notes, *faults}):
        yield _row(graph, path, tallies.get(path), faults.get(path), notes.get(path, ""), first)


def _row(
    graph: Graph, path: tuple[int, ...], tally: Tally | None, fault: Fault | None, note: str, first: int
) -> NodeDifference:
    """What is said of a node, which has the last number of `path` in the body of the loops before."""
    what = fault.sentence(graph) if fault else ""
    index, *within = path
    if index < 0:
        return NodeDifference(index, (), "", "", 0, 0, 0, 0.0, None, what, "", False)
    graph, node = node_at(graph, path)
    tally = tally or Tally()
    tensor = graph.tensors[node.outputs[0]]
    integer = not tensor.dtype.is_float
    step = tensor.quant.scale if tensor.quant else 1.0
    worst = max(tally.max_abs, fault.worst if fault else 0.0)
    return NodeDifference(
        first + index,
        tuple(within),
        type(node.op).__name__,
        describe(node.where),
        max(tally.outputs, fault.count if fault else 0),
        tally.mismatches + (fault.wrong if fault else 0),
        tally.ties,
        worst * step,
        int(min(worst, 2**31)) if integer else None,
        what,
        note,
        tally.ok(integer) and fault is None,
    )
