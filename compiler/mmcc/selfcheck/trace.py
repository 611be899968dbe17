# SPDX-License-Identifier: Apache-2.0
"""Run a package's C on this machine in a process of its own, and get all that its kernels wrote.

Rings and overlaps do not matter: what a call wrote is recorded as the call returns, so that tensors which
are never whole in memory are seen whole. Only the file with the layers is compiled for it, and that with the
kernels where it has the bodies of loops, with each call of a kernel followed by one that records; their text
is the package's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.emit import Package as Generated
from mmcc.codegen.emit import inner_memories
from mmcc.codegen.places import view_of
from mmcc.codegen.render import render
from mmcc.ir.graph import Graph, taken_by
from mmcc.ir.module import LOOP, Entry, Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import EntryCode, Program
from mmcc.ir.types import geometry
from mmcc.ops.paging import PageOut
from mmcc.ops.repeat import Repeat, by_number, node_at
from mmcc.ops.stream import WriteRows
from mmcc.resources import data_dir
from mmcc.target import Target
from mmcc.toolchain import compile_objects, link

Array = NDArray[Any]
HEAD = np.dtype([(name, "<i4") for name in ("node", "result", "row", "row_end", "col", "col_end")])
SECONDS = 1800.0  # of one run
TRACE = ("trace.c", "trace.h")
NodePath = tuple[int, ...]  # `node_at`
MOST_RUNS = 2**16  # of nodes of a loop's body, all steps together, of which what they write is recorded
MOST_BYTES = 2**26  # of what they write
LOOPS = "/* One step of "  # in the file of kernels, where it has the body of a loop


@dataclass(frozen=True, slots=True)
class Written:
    """What the C wrote of one tensor, as [rows, columns, channels], and which pixels it made.

    `twice`: pixels that were made more than once, and came out different.
    """

    pixels: Array
    made: NDArray[np.bool_]
    twice: NDArray[np.bool_]


class Time(NamedTuple):
    """One of the times that a node is run: a step of its loop, in one of the steps of a loop around that."""

    number: int
    of: int

    def step(self, number: int, steps: int) -> Time:
        """One of the steps of a loop that is run now."""
        return Time(self.number * steps + number, self.of * steps)


ONCE = Time(0, 1)


@dataclass(frozen=True)
class Trace:
    """One run: by node (`node_at`) and result, where in `raw` its records are; the outputs if it ended as it
    should."""

    raw: NDArray[np.uint8]
    records: dict[tuple[NodePath, int], list[tuple[int, tuple[int, int, int, int]]]]
    last: NodePath | None  # the node that was recorded last
    status: int | None  # that `run` returned; None: the program did not come to that
    returned: int  # by the program; below 0: the signal that ended it
    outputs: list[NDArray[np.uint8]] = field(default_factory=list[NDArray[np.uint8]])

    def of(self, graph: Graph, path: NodePath, result: int, time: Time = ONCE) -> Written:
        """What was written of a node's result that is in `records`, at one of the times that it is run."""
        inner, node = node_at(graph, path)
        tensor = inner.tensors[node.outputs[result]]
        rows, cols, channels = geometry(tensor.shape)
        item = tensor.dtype.size
        pixels = np.zeros((rows, cols, channels * item), np.uint8)
        made, twice = np.zeros((rows, cols), np.bool_), np.zeros((rows, cols), np.bool_)
        records = self.records[path, result]
        each = len(records) // time.of
        for at, (row, row_end, col, col_end) in records[time.number * each : (time.number + 1) * each]:
            shape = row_end - row, col_end - col, channels * item
            found = self.raw[at : at + shape[0] * shape[1] * shape[2]].reshape(shape)
            window = slice(row, row_end), slice(col, col_end)
            twice[window] |= made[window] & (pixels[window] != found).any(2)
            pixels[window] = found
            made[window] = True
        return Written(pixels.view(tensor.dtype.numpy), made, twice)


def write_trace(
    bench: Path, module: Module, plan: MemoryPlan, program: Program, generated: Generated
) -> None:
    """The files that recording takes, for the test bench; `program` is the C of this machine."""
    values = generated.values | trace_values(module, plan, program, generated) | {"serial": False}
    for name in TRACE:
        (bench / name).write_text(render(f"{name}.j2", **values))


def trace_values(module: Module, plan: MemoryPlan, program: Program, generated: Generated) -> dict[str, Any]:
    """What the templates of recording need besides those of the C: where all results are, and the kernels."""
    memories = [*generated.values["memories"], *inner_memories(program)]
    views = [
        view
        for entry, code in zip(module.entries, program.entries, strict=True)
        for view in _views(entry, plan.entries[entry.name], code, memories)
    ]
    return {"views": views, "kernels": generated.kernels}


def _views(
    entry: Entry, plan: Plan, code: EntryCode, memories: list[str], times: int = 1
) -> Iterator[tuple[int, ...]]:
    """Where the results of an entry's nodes are, for the program that records; all are run so many times."""
    graph = entry.graph
    groups = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    for node in code.nodes:
        made = graph.nodes[node.index]
        if isinstance(made.op, Repeat) and node.body is not None and recorded(made.op, times):
            assert made.op.plan is not None
            inner = Entry(LOOP, made.op.body)
            yield from _views(inner, made.op.plan, node.body, memories, times * made.op.steps)
        if isinstance(made.op, WriteRows | PageOut):
            continue  # goes to a callback: the output of the model, or what comes back, is looked at instead
        steps = 0
        if node.index in plan.groups[groups[node.index]].accumulating:
            steps = geometry(graph.tensors[taken_by(graph, made)].shape)[0]
        elif len(made.outputs) > 1:
            steps = geometry(graph.tensors[made.outputs[0]].shape)[0]
        calls = node.blocks.count if node.blocks is not None else len(node.uses)  # for all channels
        for result, name in enumerate(made.outputs):
            if not graph.consumers[name] and name not in graph.kept:
                continue  # nobody reads it, so its rows may be gone as soon as they are made
            view = view_of(graph, plan, name, groups[node.index], entry.name)
            tensor = graph.tensors[name]
            assert isinstance(view.offset, int)
            rows, cols, channels = geometry(tensor.shape)
            item = tensor.dtype.size
            place = memories.index(view.memory), view.offset, view.row_stride, view.col_stride * item
            shape = view.rows, channels * item, rows, cols
            yield code.first + node.index, result, *place, *shape, steps, calls


def recorded(op: Repeat, times: int) -> bool:
    """Whether what the body of a loop writes is recorded, where the loop is run so many times."""
    return op.nodes * op.steps * times <= MOST_RUNS and (
        sum(tensor.bytes for tensor in op.body.tensors.values()) * op.steps * times <= MOST_BYTES
    )


def traced_program(
    sources: Sequence[Path], layers: Path, adapter: Path, bench: Path, host: Target, work: Path
) -> Path:
    """The program that records. `sources` are all files (or objects) of the package but `layers`; of its file
    of kernels the text is beside that.

    Raises CompileError: a tool is missing (MM801), or the C does not build (MM802).
    """
    quick = replace(host, flags=tuple("-O1" if flag.startswith("-O") else flag for flag in host.flags))
    include = [layers.parent, bench, data_dir("runtime_c") / "firmware"]
    quiet = ["-w"]  # warnings are errors where the package itself is compiled; they depend on optimization
    with_trace = [*quiet, "-include", str(bench / TRACE[1])]
    kernels = layers.with_name(f"{layers.stem}_kernels.c")
    traced = [layers]
    if LOOPS in kernels.read_text():
        traced.append(kernels)
        sources = [path for path in sources if path.stem != kernels.stem]
    objects = [
        *compile_objects(quick, traced, work, include_dirs=include, flags=with_trace),
        *compile_objects(
            quick, [*sources, bench / TRACE[0], adapter], work, include_dirs=include, flags=quiet
        ),
    ]
    return link(quick, objects, work / "traced")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of entry number `entry`, whose graph is `graph` and whose nodes C counts from `first` on, and
    those of its loops' bodies from `bodies`.

    `inputs` are in C's layout.
    """

    graph: Graph
    inputs: Sequence[Array]
    entry: int
    first: int
    bodies: int


def run_traced(program: Path, runs: Sequence[Run]) -> list[Trace]:
    """Runs from initial states on, each of which finds what the one before left; as far as they came."""
    given, record = program.with_suffix(".in"), program.with_suffix(".out")
    given.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for run in runs for array in run.inputs))
    calls = [(entry, len(list(same))) for entry, same in groupby(run.entry for run in runs)]
    command = [program, given, record, *(str(number) for call in calls for number in call)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
        returned = done.returncode
    except subprocess.TimeoutExpired:
        returned = -1
    raw = np.fromfile(record, np.uint8) if record.is_file() else np.zeros(0, np.uint8)
    record.unlink(missing_ok=True)
    found: list[Trace] = []
    at = 0
    for run in runs:
        trace, at = parse_run(raw, at, returned, run.graph, run.first, run.bodies)
        found.append(trace)
        if trace.status != 0:
            break
    return found


def parse_run(
    raw: NDArray[np.uint8], at: int, returned: int, graph: Graph, first: int, bodies: int
) -> tuple[Trace, int]:
    """The run whose records begin at byte `at`, and where the next one's do; nodes count from `first` on, and
    those of bodies from `bodies`."""
    records: dict[tuple[NodePath, int], list[tuple[int, tuple[int, int, int, int]]]] = {}
    paths, pixel = by_number(graph, first, bodies), dict[tuple[NodePath, int], int]()
    last = None
    while at + HEAD.itemsize <= len(raw):
        node, result, row, row_end, col, col_end = raw[at : at + HEAD.itemsize].view("<i4").tolist()
        at += HEAD.itemsize
        if node < 0:
            outputs: list[NDArray[np.uint8]] = []
            for size in (graph.tensors[port.tensor].bytes for port in graph.outputs):
                outputs.append(raw[at : at + size])
                at += size
            return Trace(raw, records, last, result, returned, outputs if result == 0 else []), at
        key = paths[node], result
        if key not in pixel:
            inner, made = node_at(graph, key[0])
            tensor = inner.tensors[made.outputs[result]]
            pixel[key] = tensor.dtype.bytes(geometry(tensor.shape)[2])
        size = (row_end - row) * (col_end - col) * pixel[key]
        if at + size > len(raw):
            break
        records.setdefault(key, []).append((at, (row, row_end, col, col_end)))
        at, last = at + size, key[0]
    return Trace(raw, records, last, None, returned), len(raw)
