# SPDX-License-Identifier: Apache-2.0
"""A package on a board at a serial line: its outputs, its cycles, and what its kernels write."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, printable
from mmcc.ir.graph import Graph
from mmcc.ir.streaming import Streaming
from mmcc.package.record import Package
from mmcc.selfcheck.trace import HEAD, Trace, parse_run
from mmcc.verification.samples import Sample, from_c, to_c
from mmcc.verification.serial_line import MOST, PROTOCOL, SerialLine
from mmcc.verification.streams import flush_of, hops, joined

HELLO = struct.Struct("<BBBIi")  # protocol, inputs, outputs, nodes, status of init; the name is behind it


@dataclass(frozen=True, slots=True)
class BoardRun:
    """One run: its outputs in C's layout, the cycles it took (None: no counter there), by node too."""

    outputs: list[NDArray[Any]]
    cycles: int | None
    by_node: dict[int, int]


class Board:
    """A board that runs the serial loop with this package. Raises what SerialLine does."""

    def __init__(self, package: Package, port: str, baud: int) -> None:
        self.package, self._line = package, SerialLine(port, baud)
        try:
            self.nodes = self._hello()
        except BaseException:
            self._line.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, where)

    def _hello(self) -> int:
        found = self._line.ask("H")
        if len(found) < HELLO.size:
            what = (
                "what answers is not mmcc's serial loop; a line that sends back what it gets looks like that"
            )
            hint = "the port of the board itself, without an echo"
            raise CompileError("MM808", what, exit=Exit.TOOL_MISSING, hint=hint)
        protocol, inputs, outputs, nodes, status = HELLO.unpack_from(found)
        named = found[HELLO.size :].decode("ascii", "replace")
        ours = f"{self.package.name} {self.package.identity}"
        ports = [port for entry in self.package.entries for port in (*entry.inputs, *entry.outputs)]
        if protocol != PROTOCOL or named != ours or inputs + outputs != len(ports) or not self._sizes_match():
            what = f'the board runs "{printable(named, 100)}", and the package is "{printable(ours, 100)}"'
            hint = "building the firmware with this package, and --flash-with"
            raise CompileError("MM808", what, exit=Exit.USAGE, hint=hint)
        if status != 0:
            raise _returned("init", status)
        return nodes

    def _sizes_match(self) -> bool:
        for output, kind in enumerate(("inputs", "outputs")):
            own = [
                entry.tensors[port.tensor].bytes
                for entry in self.package.entries
                for port in getattr(entry, kind)
            ]
            for k, size in enumerate(own):
                if struct.unpack("<I", self._line.ask("B", bytes([output, k]), size=4))[0] != size:
                    return False
        return True

    def reset(self) -> None:
        """States are what they are before the first run."""
        (status,) = struct.unpack("<i", self._line.ask("Z", size=4))
        if status != 0:
            raise _returned("reset", status)

    def run(self, inputs: Sample, package: Package | None = None) -> BoardRun:
        """One run of the entry that is looked at, or of that of another look; arrays are as C has them."""
        package = package or self.package
        self._give(inputs, package)
        answer, _ = self._line.run(package.entry)
        status, cycles, _ = struct.unpack("<iII", answer)
        if status != 0:
            raise _returned("run", status)
        spent = self._cycles()
        by_node = dict(enumerate(spent)) if any(spent) else {}
        return BoardRun(self._outputs(package), cycles or None, by_node)

    def traced(self, inputs: Sample, graph: Graph) -> Trace:
        """One run of which each kernel's call has been recorded on the board."""
        self._give(inputs, self.package)
        answer, raw = self._line.run(self.package.entry, traced=True)
        status, _, sent = struct.unpack("<iII", answer)
        if sent != len(raw) or (status == 0 and sent == 0 and graph.nodes):
            what = f"{len(raw):,} bytes of {sent:,} came over the line of what the kernels wrote"
            name = self.package.name
            hint = f"a lower --baud, or serial/{name}_traced.c and {name}_records.c in the firmware"
            raise CompileError("MM808", what, exit=Exit.TOOL_MISSING, hint=hint)
        outputs = [array.tobytes() for array in self._outputs(self.package)] if status == 0 else []
        end = np.array([(-1, status, 0, 0, 0, 0)], HEAD).tobytes()
        whole = np.frombuffer(b"".join((raw, end, *outputs)), np.uint8)
        entry = self.package.entries[self.package.entry]
        return parse_run(whole, 0, 0, graph, entry.first, entry.bodies)[0]

    def _give(self, inputs: Sample, package: Package) -> None:
        before = sum(len(entry.inputs) for entry in package.entries[: package.entry])
        for k, array in enumerate(inputs, before):
            data = np.ascontiguousarray(array).tobytes()
            for at in range(0, len(data), MOST):
                part = data[at : at + MOST]
                answer = self._line.ask("W", struct.pack("<BI", k, at) + part, size=4)
                assert answer == bytes(4), f"the board does not take input {k} at {at}"

    def _outputs(self, package: Package) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = []
        before = sum(len(entry.outputs) for entry in package.entries[: package.entry])
        for k, port in enumerate(package.outputs, before):
            tensor, data = package.tensors[port.tensor], b""
            while len(data) < tensor.bytes:
                size = min(MOST, tensor.bytes - len(data))
                part = self._line.ask("O", struct.pack("<BIB", k, len(data), size), size=size)
                assert len(part) == size, f"the board does not give output {k} at {len(data)}"
                data += part
            found.append(np.frombuffer(data, tensor.dtype.numpy))
        return found

    def _cycles(self) -> Sequence[int]:
        found: list[int] = []
        while len(found) < self.nodes:
            part = self._line.ask("N", struct.pack("<I", len(found)))
            found += struct.unpack(f"<{len(part) // 4}I", part)
        return found


def run_board(board: Board, samples: Sequence[Sample]) -> tuple[list[Sample], list[BoardRun]]:
    """The outputs of all samples on a board, from initial states on, and what each call gave."""
    package, stream = board.package, board.package.stream
    runs: list[BoardRun] = []
    outputs: list[Sample] = []
    if package.keeps:
        board.reset()
    for number, sample in enumerate(samples):
        if stream is not None and number and package.keeps:
            board.reset()
        fed = [sample] if stream is None else hops(package, stream, sample)
        made = [board.run(to_c(package.inputs, package.tensors, each)) for each in fed]
        found = [from_c(package.outputs, package.tensors, run.outputs) for run in made]
        outputs.append(found[0] if stream is None else joined(stream, found, _flushed(board, stream)))
        runs += made
    return outputs, runs


def _flushed(board: Board, stream: Streaming) -> Sample:
    """The rows at the end of the sequence that the board had."""
    end = flush_of(board.package, stream)
    return [] if end is None else from_c(end.outputs, end.tensors, board.run([], end).outputs)


def traces_on(board: Board, runs: Sequence[Sample], graph: Graph) -> Iterator[Trace]:
    """Traces of runs in C's layout, one after the other, from initial states on."""
    if board.package.keeps:
        board.reset()
    for inputs in runs:
        yield board.traced(inputs, graph)


def _returned(what: str, status: int) -> CompileError:
    message = f"the model's {what} on the board returned status {status}"
    return CompileError("MM808", message, exit=Exit.INTERNAL)
