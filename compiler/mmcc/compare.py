"""Does the C compute what the model computes? On this machine or in QEMU, end to end or node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.codegen.lower import describe
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph, Node, Port, Tensor, geometry
from mmcc.ops.pool import AveragePoolInt8
from mmcc.ops.reduce import MeanInt8
from mmcc.oracle import Oracle
from mmcc.package import FOLDER, WEIGHTS_LINKED, Package, bench_files
from mmcc.pipeline import (
    CompileOptions,
    Progress,
    host_adapter,
    host_model,
    host_sources,
    load_graph,
    package_sources,
    sha256,
)
from mmcc.qemu import FirmwareRun, build_firmware, run_firmware
from mmcc.samples import Sample, from_c, to_c
from mmcc.target import Target, load_target

Array = NDArray[Any]
FLOAT_RELATIVE = 1e-4  # of the largest output, end to end; per operator it is 1e-5
INT8_RELATIVE = 0.2  # of the largest output, end to end, if the decision is the same
TIE = 1e-6  # of a step
INT8_RATE = 1e-5  # of a node's outputs that may be off by one step


@dataclass(frozen=True, slots=True)
class Difference:
    """How far outputs are from what they should be. `lsb` counts quantization steps; None for floats."""

    max_abs: float
    max_lsb: int | None
    mean_lsb: float
    mismatch_rate: float
    top1_agreement: float
    relative: float  # max_abs over the largest expected magnitude

    @property
    def ok(self) -> bool:
        """End to end: floats within rounding; int8 as near as ONNX Runtime is to itself.

        One step more or less in a pool, where the exact mean lies between two steps, may become several at
        the output; the true test of int8 is node by node.
        """
        if self.max_lsb is None:
            return self.relative <= FLOAT_RELATIVE
        near = self.top1_agreement >= 0.99 and self.relative <= INT8_RELATIVE
        return self.mean_lsb <= 1.0 or near


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """One node, fed with the model's own inputs."""

    index: int
    op: str
    name: str
    outputs: int
    mismatches: int
    ties: int  # of the mismatches: pools whose exact mean lies half-way between two steps
    max_abs: float
    max_lsb: int | None
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
    outputs = [model.run(to_c(package.inputs, package.tensors, sample)) for sample in samples]
    return [from_c(package.outputs, package.tensors, sample) for sample in outputs]


def sanitized_program(folder: Path, package: Package) -> Path:
    """The package and the test bench as a program of this machine, with sanitizers."""
    adapter = bench_files(folder) / "adapter_sanitized.c"
    adapter.write_text(host_adapter(folder, package))
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    host = load_target("host")
    host = replace(host, flags=(*host.flags, *flags))
    twin = host_sources(folder)
    return build_firmware(host, [*package_sources(twin), adapter], [twin], folder / FOLDER / "sanitized")


def firmware_of(folder: Path, package: Package, *, hooks: bool = False) -> Path:
    """Firmware of the package and the test bench, linked within the RAM limit if there is one.

    With hooks, which cost stack and code of their own, it is not held to the limit.
    """
    bench = bench_files(folder)
    linked = [bench / WEIGHTS_LINKED] if package.staged else []
    return build_firmware(
        load_target(package.target),
        [*package_sources(folder), bench / "adapter_firmware.c", *linked],
        [folder],
        folder / FOLDER / ("firmware_hooks" if hooks else "firmware"),
        ram_limit=None if hooks else package.ram or None,
        stack_bytes=package.stack + (256 if hooks else 0),
        hooks=hooks,
        flags=[f"-D{package.name.upper()}_HOOKS=1"] if hooks else [],
    )


def run_qemu(
    folder: Path, package: Package, samples: Sequence[Sample], *, hooks: bool = False, profile: bool = False
) -> tuple[list[Sample], FirmwareRun]:
    """The outputs of all samples as firmware in QEMU, and what the run measured."""
    if load_target(package.target).qemu is None:
        message = f"target {package.target} has no board or program to emulate"
        raise CompileError("MM002", message, exit=Exit.USAGE, hint="--on host, or compile for another target")
    elf = firmware_of(folder, package, hooks=hooks)
    return _run_program(elf, load_target(package.target), package, samples, profile=profile)


def _run_program(
    elf: Path, target: Target, package: Package, samples: Sequence[Sample], *, profile: bool = False
) -> tuple[list[Sample], FirmwareRun]:
    raw = [b"".join(a.tobytes() for a in to_c(package.inputs, package.tensors, s)) for s in samples]
    size = len(raw[0]) if raw else 0
    run = run_firmware(elf, target, b"".join(raw), size, elf.parent / "run", profile=profile, timeout=1800.0)
    outputs: list[Sample] = []
    at = 0
    for _ in samples:
        arrays: Sample = []
        for port in package.outputs:
            tensor = package.tensors[port.tensor]
            arrays.append(np.frombuffer(run.outputs[at : at + tensor.bytes], tensor.dtype.numpy))
            at += tensor.bytes
        outputs.append(from_c(package.outputs, package.tensors, arrays))
    return outputs, run


def oracle_outputs(package: Package, samples: Sequence[Sample], model: Path) -> list[Sample]:
    """What ONNX Runtime computes for all samples."""
    oracle = Oracle(model, [port.onnx_name for port in package.outputs], package.bind)
    names = [port.onnx_name for port in package.inputs]
    return [oracle.run(dict(zip(names, sample, strict=True))) for sample in samples]


def compare(package: Package, got: Sequence[Sample], want: Sequence[Sample]) -> Difference:
    """All outputs of all samples at once."""
    worst, lsb, total_lsb, wrong, count, agree, rows, largest = 0.0, 0, 0.0, 0, 0, 0, 0, 0.0
    integers = False
    for mine, theirs in zip(got, want, strict=True):
        for port, a, b in zip(package.outputs, mine, theirs, strict=True):
            quant = port.quant or package.tensors[port.tensor].quant
            step = quant.scale if quant and port.onnx_dtype.is_float else 1.0
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64).reshape(a.shape))
            gap = np.where(np.isnan(a) & np.isnan(b.reshape(a.shape)), 0, gap) if a.dtype.kind == "f" else gap
            worst, largest = max(worst, gap.max(initial=0)), max(largest, float(np.abs(b).max(initial=0)))
            count += gap.size
            if quant or a.dtype.kind != "f":
                integers = True
                steps = np.rint(gap / step)
                lsb = max(lsb, int(steps.max(initial=0)))
                total_lsb += float(steps.sum())
                wrong += int((steps > 0).sum())
            else:
                wrong += int((gap > FLOAT_RELATIVE * max(largest, 1e-12)).sum())
            agree += int(a.reshape(-1).argmax() == b.reshape(-1).argmax()) if a.size else 1
            rows += 1
    return Difference(
        max_abs=worst,
        max_lsb=lsb if integers else None,
        mean_lsb=total_lsb / max(1, count),
        mismatch_rate=wrong / max(1, count),
        top1_agreement=agree / max(1, rows),
        relative=worst / largest if largest else worst,
    )


def accuracy(outputs: Sequence[Sample], labels: Array) -> dict[str, int]:
    """How many samples have their largest first output at the label; a label below 0 is not known."""
    guesses = [int(sample[0].reshape(-1).argmax()) for sample in outputs]
    known = [(guess, int(label)) for guess, label in zip(guesses, labels, strict=True) if label >= 0]
    return {"correct": sum(guess == label for guess, label in known), "total": len(known)}


# ---- node by node


class _NodeCheck:
    """Feeds each node ONNX Runtime's own inputs just before it runs, and looks at what it wrote."""

    def __init__(self, folder: Path, package: Package, graph: Graph, model: Path) -> None:
        self.package, self.graph = package, graph
        self.model = host_model(folder, package, hooks=True)
        self.names = list(package.memories)
        here = {name for name, view in package.views.items() if view.memory in self.names}
        self.known = {name: port for name, port in graph.origins.items() if name in here}
        self.oracle = Oracle(
            model, list(dict.fromkeys(port.onnx_name for port in self.known.values())), package.bind
        )
        self.truth: dict[str, Array] = {}
        self.totals: dict[int, list[float]] = {}
        self.tied: dict[int, Array] = {}  # by node: which outputs are ties
        self.model.set_hook(self._hook)

    def run(self, sample: Sample) -> None:
        names = [port.onnx_name for port in self.package.inputs]
        values = self.oracle.run(dict(zip(names, sample, strict=True)))
        by_name = dict(zip(dict.fromkeys(p.onnx_name for p in self.known.values()), values, strict=True))
        self.truth = {
            name: true_array(port, self.graph.tensors[name], by_name[port.onnx_name])
            for name, port in self.known.items()
        }
        self.model.run(to_c(self.package.inputs, self.package.tensors, sample))

    def _pixels(self, name: str) -> Array:
        view, tensor = self.package.views[name], self.graph.tensors[name]
        index = self.names.index(view.memory)
        assert isinstance(view.offset, int)
        size = self.package.memories[view.memory] or view.offset + view.rows * view.row_stride
        raw = self.model.memory(index, size)
        _, cols, channels = geometry(tensor.shape)
        item = tensor.dtype.size
        strides = (view.row_stride, view.col_stride * item, item)
        return np.ndarray((view.rows, cols, channels), tensor.dtype.numpy, raw.data, view.offset, strides)

    def _hook(self, index: int, after: bool) -> None:
        node = self.graph.nodes[index]
        if not after:
            for name in self.graph.activations(node):
                if name in self.truth:
                    pixels = self._pixels(name)
                    pixels[...] = self.truth[name].reshape(pixels.shape)
            if isinstance(node.op, AveragePoolInt8 | MeanInt8):
                self.tied[index] = self._ties(node)
        elif node.output in self.truth:
            pixels = self._pixels(node.output)
            truth = self.truth[node.output].reshape(pixels.shape)
            self._judge(index, pixels, truth)
            pixels[...] = truth  # what reads it under another name is to have the model's values, too

    def _ties(self, node: Node) -> Array:
        """Outputs of a pool whose exact value is as near to one step as to the next."""
        graph = self.graph
        inputs = [
            graph.constants[name]
            if name in graph.constants
            else self._pixels(name).reshape(graph.tensors[name].shape)
            for name in node.inputs
        ]
        assert isinstance(node.op, AveragePoolInt8 | MeanInt8)
        exact = node.op.exact(*inputs)
        return np.abs(exact - np.floor(exact) - 0.5) < TIE

    def _judge(self, index: int, got: Array, want: Array) -> None:
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
        if got.dtype.kind == "f":
            gap = np.where(np.isnan(got) & np.isnan(want), 0, gap)
            wrong = gap > 1e-6 + 1e-5 * np.maximum(np.abs(want), np.abs(want).max(initial=0))
        else:
            wrong = gap > 0
        total = self.totals.setdefault(index, [0, 0, 0.0, 0])
        if index in self.tied:
            total[3] += int((wrong & self.tied[index].reshape(wrong.shape)).sum())
        total[0] += got.size
        total[1] += int(wrong.sum())
        total[2] = max(total[2], float(gap.max(initial=0)))

    def result(self) -> list[NodeDifference]:
        rows: list[NodeDifference] = []
        for index, (outputs, wrong, worst, ties) in self.totals.items():
            node = self.graph.nodes[index]
            tensor = self.graph.tensors[node.output]
            integer = not tensor.dtype.is_float
            good = wrong == 0 or (integer and worst <= 1 and wrong - ties <= allowed(outputs))
            step = tensor.quant.scale if tensor.quant else 1.0
            lsb = int(worst) if integer else None
            rows.append(
                NodeDifference(
                    index,
                    type(node.op).__name__,
                    describe(node.where),
                    int(outputs),
                    int(wrong),
                    int(ties),
                    worst * step,
                    lsb,
                    bool(good),
                )
            )
        return sorted(rows, key=lambda row: (row.ok, -row.mismatches / max(1, row.outputs), row.index))


def allowed(outputs: float) -> float:
    """How many of a node's outputs may be off by one step: the rate, plus three deviations of a sample."""
    mean = INT8_RATE * outputs
    return mean + 3 * sqrt(mean) + 1


def true_array(port: Port, tensor: Tensor, value: Array) -> Array:
    """ONNX Runtime's value in the layout and type of a tensor of ours (uint8 is kept as int8)."""
    if value.dtype == np.uint8 and tensor.dtype.numpy == np.int8:
        value = (value.astype(np.int16) - 128).astype(np.int8)
    return port.to_c(value, tensor)


def per_node(
    folder: Path, package: Package, samples: Sequence[Sample], model: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Each node against ONNX Runtime on the model's own inputs to it, worst first."""
    options = CompileOptions(dims=package.dims, bind=package.bind, float_io=package.float_io, io=package.io)
    graph = load_graph(model, options)
    check = _NodeCheck(folder, package, graph, model)
    for number, sample in enumerate(samples):
        progress(f"sample {number + 1} of {len(samples)}")
        check.run(sample)
    return [asdict(row) for row in check.result()]


def find_model(package: Package, given: Path | None) -> Path:
    """The ONNX file a package was made from; CompileError if it is gone or has changed."""
    path = given or Path(package.model)
    if not path.is_file():
        raise CompileError(
            "MM008", f"the model {path} is not there any more", exit=Exit.USAGE, hint="--model PATH"
        )
    if sha256(path) != package.sha256:
        message = f"{path} is not the file that this package was compiled from"
        raise CompileError("MM008", message, exit=Exit.USAGE, hint="compile it again, or give --model PATH")
    return path
