# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of `kernel_bench` on an emulated board: one firmware, every case in every way, exact counts.

Or as a module of WebAssembly, where nothing counts.

The bench's own code decides what is filled in, called and compared. It goes through all cases twice: the
first time it writes down every call with the bytes that changed since the last one; the firmware makes those
calls; the second time each call is answered from what the firmware wrote.
"""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kernel_bench import POISON, Bench
from kernel_places import RED
from mmcc.ir.nest import Span
from mmcc.resources import data_dir
from mmcc.target import Target
from mmcc.toolchain import compile_objects
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_program
from op_case import OpCase
from toolchains import FIRMWARE

MAIN = FIRMWARE / "kernel_bench.c"
BEGIN, END = 5, 6  # markers, as in port.h
STACK = 8192
COUNTED = """#include "port.h"
__attribute__((noinline, aligned(64))) static void bench_begin(void) { MMCC_MARK(MMCC_MARK_BEGIN); }
__attribute__((noinline, aligned(64))) static void bench_end(void) { MMCC_MARK(MMCC_MARK_END); }
#define BENCH_CALL(...) do { bench_begin(); __VA_ARGS__; bench_end(); } while (0)
"""  # QEMU 7.2 loses a marker that an instruction across a page follows: hence functions of their own
ARENA = """#include "port.h"
extern uint8_t bench_arena[];
__attribute__((aligned(16), section(".bss.mmcc_arena"))) uint8_t bench_arena[%d];
"""


@dataclass(frozen=True)
class Count:
    """Instructions of one call of a kernel."""

    case: str
    way: str
    rows: Span
    instructions: int


class QemuBench(Bench):
    """A bench whose calls are made by firmware; `check` works when `run` was called."""

    def __init__(self, cases: list[OpCase], target: Target, **more: object) -> None:
        self.tape = bytearray()
        self.calls: list[tuple[str, str, Span]] = []  # case, way, rows
        self.counts: list[Count] = []
        self.replies: bytes = b""
        self.recording, self.reply = True, 0
        self.known: np.ndarray | None = None  # the region of the last call, where that was of the same arena
        super().__init__(cases, target, sanitize=False, **more)
        self.ways_of = {node: key for key, node in self.index.items()}

    def run(self) -> None:
        """Make all calls on the board. A fault or a hang is an error."""
        for name in self.cases:
            super().check(name)
        self.recording = False
        self._answer(self.target)

    def _answer(self, target: Target) -> None:
        """What the firmware writes on the target's processor, and its counts there."""
        with tempfile.TemporaryDirectory(dir=self.folder.name) as folder:
            work = Path(folder)
            (work / "tape.bin").write_bytes(self.tape)
            run_program(self.elf, target, work, timeout=300)
            self.replies, self.reply = (work / "replies.bin").read_bytes(), 0
            if not target.engine:  # nothing counts there
                self._count((work / "mmcount.log").read_text())

    def _count(self, log: str) -> None:
        self.counts = []
        marks = re.finditer(r"^mark (\d+) pc \S+ insns (\d+)", log, re.MULTILINE)
        at = [(int(mark[1]), int(mark[2])) for mark in marks]
        begins = [count for kind, count in at if kind == BEGIN]
        ends = [count for kind, count in at if kind == END]
        for (case, way, rows), begin, end in zip(self.calls, begins, ends, strict=True):
            self.counts.append(Count(case, way, rows, end - begin - 1))

    def check_all(self, *others: Target) -> None:
        """Run, then compare every case; the same firmware on the processors of other targets, too."""
        self.run()
        self._check_answers()
        for target in others:
            self._answer(target)
            self._check_answers()

    def _check_answers(self) -> None:
        for name in self.cases:
            self.check(name)
        assert self.reply == len(self.replies), "the firmware answered more calls than were asked for"

    def instructions(self, name: str, way: str = "whole") -> int:
        """Instructions of the call that makes the whole output at once."""
        height = self.cases[name].want.shape[0] if len(self.cases[name].want.shape) > 1 else 1
        return next(
            c.instructions for c in self.counts if (c.case, c.way, len(c.rows)) == (name, way, height)
        )

    # ---- what differs from the host

    def _compile(self, files: dict[str, str], runner: str, sanitize: bool) -> list[object]:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "runner.c").write_text(COUNTED + runner)
        (folder / "arena.c").write_text(ARENA % (-(-self.end // 16) * 16))
        include = [folder, data_dir("runtime_c") / "firmware"]
        own = [folder / name for name in ("bench_kernels.c", "bench_weights.c", "bench.c", "arena.c")]
        *objects, network, arena = compile_objects(self.target, own, folder / "own", include_dirs=include)
        runner_c = [folder / "runner.c"]
        objects += compile_objects(self.target, runner_c, folder / "lax", include_dirs=include, flags=["-w"])
        network.unlink()  # runner.c includes its source
        self.elf = build_firmware(
            self.target,
            [*objects, arena],
            [folder],
            folder / "build",
            main=MAIN,
            stack_bytes=max(STACK, self.target.stack_bytes),
        )
        return [self.elf]

    def call(self, arena: np.ndarray, node: int, rows: Span, cols: Span, ins: list[int], out: int) -> None:
        low, high = self._region(node)
        if self.recording:
            self._record(arena[low:high], node, low, rows, self.window(cols, ins, out))
            return
        size = high - low
        arena[low:high] = np.frombuffer(self.replies, np.uint8, size, self.reply)
        self.reply += size

    def _region(self, node: int) -> tuple[int, int]:
        """What the firmware sends back: the slots of one case and way, and the bytes around them."""
        layout = self.layouts[self.ways_of[node]]
        ends = [start + slot.rows * slot.row_stride for start, slot in layout.values()]
        return min(start for start, _ in layout.values()) - RED, max(ends) + RED

    def _record(self, region: np.ndarray, node: int, low: int, rows: Span, window: list[int]) -> None:
        """The call, after the runs of bytes that differ from what the firmware has where inputs are."""
        before = np.full_like(region, POISON) if self.known is None else self.known
        changed = np.flatnonzero(before != region)
        cuts = np.flatnonzero(np.diff(changed) > 16) + 1
        runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(changed, cuts) if len(part)]
        self.tape += struct.pack("<6i", node, low, len(region), int(self.known is None), rows.lo, rows.hi)
        self.tape += struct.pack(f"<{len(window)}i", *window) + struct.pack("<i", len(runs))
        for begin, end in runs:
            self.tape += struct.pack("<2i", begin, end - begin) + region[begin:end].tobytes()
        self.known = region.copy()
        self.calls.append((*self.ways_of[node], rows))

    def _arena(self) -> np.ndarray:
        self.known = None
        return super()._arena()

    def _run_rows(self, case: OpCase, way: str, tile: int) -> np.ndarray:
        return self._blank(super()._run_rows(case, way, tile))

    def _run_strips(self, case: OpCase) -> np.ndarray:
        return self._blank(super()._run_strips(case))

    def _blank(self, got: np.ndarray) -> np.ndarray:
        """While recording there is no result: one that equals that of every other way."""
        return np.zeros_like(got) if self.recording else got

    def _untouched(self, before: np.ndarray, arena: np.ndarray, case: OpCase, way: str) -> None:
        if not self.recording:
            super()._untouched(before, arena, case, way)

    def _compare(self, case: OpCase, got: np.ndarray, what: str, tolerance: tuple[float, float]) -> None:  # type: ignore[override]
        if not self.recording:
            super()._compare(case, got, what, tolerance)
