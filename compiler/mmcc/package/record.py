# SPDX-License-Identifier: Apache-2.0
"""What `verify` and `bench` must know of a compiled package: kept in its folder .mmcc, apart from the C."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.ir.element_type import ElementType
from mmcc.ir.ports import Port
from mmcc.ir.streaming import StreamedOutput, Streaming
from mmcc.ir.types import Quant, Shape, Tensor
from mmcc.passes.copy_rows import Read
from mmcc.passes.tiling import Tiling
from mmcc.scratch import ScratchFolder

SCHEMA = 10
FOLDER = ".mmcc"
# what verify and bench compile besides the package: in one file, since build systems collect *.c everywhere
BENCH = "bench.zip"
WEIGHTS_LINKED = "weights.S"  # in it: links staged weights into firmware for an emulated board


@dataclass(frozen=True, slots=True)
class EntryPorts:
    """One function of the package, and what goes in and comes out."""

    name: str
    tensors: Mapping[str, Tensor]  # of inputs and outputs
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    first: int  # number of its first node in C
    bodies: int  # and of the first node of its loops' bodies


@dataclass(frozen=True, slots=True)
class Source:
    """The ONNX file that an entry was made from."""

    entry: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class KeptState:
    """An input of the model that an output is kept for from run to run, and what it begins with."""

    port: Port  # of the input
    output: str  # its name in the model
    initial: Any  # nested lists of numbers, or a number that all elements are

    @property
    def first(self) -> NDArray[Any]:
        """What it begins with, as the model has it."""
        first = np.asarray(self.initial, self.port.model_dtype)
        same = not isinstance(self.initial, list)
        return np.full(self.port.onnx_shape, first) if same else first.reshape(self.port.onnx_shape)


@dataclass(frozen=True, slots=True)
class Package:
    """A compiled model on disk, or several: then it is looked at as the package of one of them (`of`)."""

    name: str
    target: str
    sources: tuple[Source, ...]  # a file each of linked models; else that of the first entry
    ram: int  # limit; 0: none
    stack: int  # proved bound
    dims: Mapping[str, int]
    bind: Mapping[str, Any]  # inputs of the model that are constants: lists of numbers
    states: tuple[KeptState, ...]
    keeps: bool  # something lives from call to call: the package has a reset
    calls_back: bool  # it calls functions of the caller's, for rows, weights, moves or pages: not in `stack`
    float_io: bool
    fp16_math: bool  # sums may be float16
    io: str
    stream: Streaming | None  # of a package that runs hop by hop
    entries: tuple[EntryPorts, ...]
    staged: bool  # weights are read from their file while the model runs
    other_rows: bool  # columns of images are rows: see passes/other_rows
    apart: str  # layers are in parts, "once", or what feeds them is computed "again": see passes/read_apart
    tiling: Tiling  # what is made in tiles and in slices of channels: see passes/tiling
    row_copies: tuple[Read, ...]  # who reads copies, row by row: see passes/copy_rows
    handoffs: Mapping[str, Sequence[str]]  # sources of the functions that compute nodes
    files: tuple[str, ...]  # that were generated
    entry: int = 0  # the one that is looked at, by number

    def of(self, entry: int) -> Package:
        """The package looked at as that of another of its entries."""
        return replace(self, entry=entry)

    def looked_at(self, name: str = "") -> dict[str, Package]:
        """The package as that of each of its models, or of the one of an entry, by the entry's name.

        CompileError MM003 for a name that no model has.
        """
        numbers = {entry.name: k for k, entry in enumerate(self.entries[: len(self.sources)])}
        if name and name not in numbers:
            message = f'{self.name} has no model "{printable(name)}"'
            hint = f"{did_you_mean(name, numbers)}one of: {', '.join(numbers)}"
            raise CompileError("MM003", message, exit=Exit.USAGE, hint=hint)
        return {entry: self.of(k) for entry, k in numbers.items() if name in ("", entry)}

    @property
    def _own(self) -> Source:
        return self.sources[min(self.entry, len(self.sources) - 1)]

    @property
    def model(self) -> str:
        """Path of the ONNX file of the entry that is looked at."""
        return self._own.path

    @property
    def sha256(self) -> str:
        """Of that file."""
        return self._own.sha256

    @property
    def identity(self) -> str:
        """What the C calls the SHA-256 of its model, or of all."""
        return together([source.sha256 for source in self.sources])

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Of inputs and outputs of the entry that is looked at."""
        return self.entries[self.entry].tensors

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Of the entry that is looked at."""
        return self.entries[self.entry].inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Of the entry that is looked at."""
        return self.entries[self.entry].outputs

    def save(self, folder: Path) -> None:
        """Write the record below `folder`, hidden from version control."""
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / FOLDER / ".gitignore").write_text("*\n")
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "target": self.target,
            "sources": [asdict(source) for source in self.sources],
            "ram": self.ram,
            "stack": self.stack,
            "dims": dict(self.dims),
            "bind": {name: np.asarray(value).tolist() for name, value in self.bind.items()},
            "states": [_state_out(state) for state in self.states],
            "keeps": self.keeps,
            "calls_back": self.calls_back,
            "float_io": self.float_io,
            "fp16_math": self.fp16_math,
            "io": self.io,
            "stream": None if self.stream is None else asdict(self.stream),
            "entries": [_entry_out(entry) for entry in self.entries],
            "staged": self.staged,
            "other_rows": self.other_rows,
            "apart": self.apart,
            "tiling": asdict(self.tiling),
            "row_copies": self.row_copies,
            "handoffs": {name: list(sources) for name, sources in self.handoffs.items()},
            "files": list(self.files),
        }
        (folder / FOLDER / "package.json").write_text(json.dumps(record, indent=1) + "\n")


def load_package(folder: Path) -> Package:
    """Read the record of a compiled package; CompileError if `folder` is none."""
    path = folder / FOLDER / "package.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        message = f"{folder} is no folder that mmcc compile wrote: it has no {FOLDER}/package.json"
        hint = f"mmcc compile MODEL -o {folder}"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint=hint) from error
    except OSError as error:
        message = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        hint = "reading it as the user that ran mmcc compile, or compiling into a folder of yours"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint=hint) from error
    except ValueError as error:
        message = f"{path} is damaged: {error}"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint="compile the model again") from error
    if raw.get("schema") != SCHEMA:
        message = f"{folder} was written by another version of mmcc"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint="compile the model again")
    raw.pop("schema")
    try:
        return _package_in(raw)
    except (TypeError, KeyError, ValueError) as error:
        message = f"{path} is damaged or was written by another version of mmcc"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint="compile the model again") from error


def _package_in(raw: dict[str, Any]) -> Package:
    entries = tuple(_entry_in(entry) for entry in raw.pop("entries"))
    states = tuple(
        KeptState(_port_in(state["port"]), str(state["output"]), state["initial"])
        for state in raw.pop("states")
    )
    sources = tuple(Source(**each) for each in raw.pop("sources"))
    files, stream, tiling = tuple(raw.pop("files")), raw.pop("stream"), raw.pop("tiling")
    if stream is not None:
        outputs = tuple(StreamedOutput(**each) for each in stream.pop("outputs"))
        stream = Streaming(**stream, outputs=outputs)
    tiling = Tiling(tiling["slices"], tuple(tiling["results"]))
    copies = tuple((name, reader) for name, reader in raw.pop("row_copies"))
    return Package(
        **raw,
        sources=sources,
        files=files,
        entries=entries,
        states=states,
        stream=stream,
        tiling=tiling,
        row_copies=copies,
    )


def save_bench(folder: Path, sources: Path) -> None:
    """Keep the files below `sources` for the test bench of the package in `folder`."""
    with zipfile.ZipFile(folder / FOLDER / BENCH, "w") as archive:
        for path in sorted(p for p in sources.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(sources)))  # without a date
            archive.writestr(entry, path.read_bytes())


_unpacked: dict[tuple[Path, int], ScratchFolder] = {}


def bench_files(folder: Path) -> Path:
    """A folder with what `save_bench` kept, while this process runs; CompileError if it is damaged."""
    path = (folder / FOLDER / BENCH).resolve()
    try:
        key = path, path.stat().st_mtime_ns
        if key not in _unpacked:
            scratch = ScratchFolder("mmcc-")
            with zipfile.ZipFile(path) as archive:
                archive.extractall(scratch.name)
            _unpacked[key] = scratch
    except (FileNotFoundError, zipfile.BadZipFile) as error:
        message = f"{path} is damaged or was written by another version of mmcc"
        raise CompileError("MM004", message, exit=Exit.USAGE, hint="compile the model again") from error
    return Path(_unpacked[key].name)


def generated_files(folder: Path) -> frozenset[str] | None:
    """Names of the files that mmcc wrote into `folder`; None if its record does not say."""
    try:
        return frozenset(json.loads((folder / FOLDER / "package.json").read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_package(folder: Path) -> bool:
    """True if mmcc wrote this folder, so that it may be replaced."""
    return (folder / FOLDER / "package.json").is_file()


def _quant_out(quant: Quant | None) -> list[float] | None:
    return None if quant is None else [quant.scale, quant.zero_point]


def _quant_in(raw: Sequence[float] | None) -> Quant | None:
    return None if raw is None else Quant(float(raw[0]), int(raw[1]))


def _tensor_out(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": tensor.dtype.name, "quant": _quant_out(tensor.quant)}


def _tensor_in(name: str, raw: Mapping[str, Any]) -> Tensor:
    return Tensor(name, tuple(raw["shape"]), ElementType.named(raw["dtype"]), _quant_in(raw["quant"]))


def _entry_out(entry: EntryPorts) -> dict[str, Any]:
    return {
        "name": entry.name,
        "tensors": {name: _tensor_out(tensor) for name, tensor in entry.tensors.items()},
        "inputs": [_port_out(port) for port in entry.inputs],
        "outputs": [_port_out(port) for port in entry.outputs],
        "first": entry.first,
        "bodies": entry.bodies,
    }


def _entry_in(raw: Mapping[str, Any]) -> EntryPorts:
    tensors = {name: _tensor_in(name, value) for name, value in raw["tensors"].items()}
    inputs, outputs = (tuple(_port_in(port) for port in raw[kind]) for kind in ("inputs", "outputs"))
    return EntryPorts(str(raw["name"]), tensors, inputs, outputs, int(raw["first"]), int(raw["bodies"]))


def _state_out(state: KeptState) -> dict[str, Any]:
    return {"port": _port_out(state.port), "output": state.output, "initial": state.initial}


def _port_out(port: Port) -> dict[str, Any]:
    return {
        "tensor": port.tensor,
        "onnx_name": port.onnx_name,
        "onnx_shape": list(port.onnx_shape),
        "onnx_dtype": port.onnx_dtype.name,
        "axes": list(port.axes),
        "quant": _quant_out(port.quant),
        "double": port.double,
        "called": port.called,
        "argument": port.argument,
    }


def _port_in(raw: Mapping[str, Any]) -> Port:
    shape: Shape = tuple(raw["onnx_shape"])
    axes = tuple(raw["axes"])
    dtype = ElementType.named(raw["onnx_dtype"])
    return Port(
        raw["tensor"],
        raw["onnx_name"],
        shape,
        dtype,
        axes,
        _quant_in(raw["quant"]),
        raw["double"],
        called=raw["called"],
        argument=raw["argument"],
    )


def together(digests: Sequence[str]) -> str:
    """One digest for several: a single one itself, else the SHA-256 of their text, one behind the other."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
