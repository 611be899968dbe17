# SPDX-License-Identifier: Apache-2.0
"""Runs the C kernel of one op on the host in every way a plan may ask for, and compares with its reference.

The ways: all rows at once; any number of rows a call from rings that hold only the rows still needed; columns
in strips that hold only the columns needed; tensors that are strided slots of larger ones; an elementwise
output exactly over its input; any output over each of its inputs, as near as the planner ever puts it, rows
made from the first to the last and the other way. All share one C function; all around and outside of what
may be read is poison, and everything around what may be written is checked to be as it was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from kernel_places import BACKWARD, OVER, RED, end_of, layout_of, over_inputs, strip_of, strips
from mmcc.checker.program import check_program
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import Module
from mmcc.ir.nest import LoopKind, Span
from mmcc.ir.plan import Buffer, BufferKind, Group, MemoryPlan, Place, Plan, Slot
from mmcc.ir.program import Program
from mmcc.ir.regions import SRAM
from mmcc.ir.types import Tensor, geometry
from mmcc.kernels.arm_dsp import winograd
from mmcc.kernels.contract import useful
from mmcc.kernels.scratch import scratch_bytes
from mmcc.kernels.select import kernel_use
from mmcc.kernels.tilings import planning_site
from mmcc.target import Target, load_target
from op_case import OpCase

WARNINGS = (
    *("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow"),
    *("-Wdouble-promotion", "-Wvla", "-Wstrict-prototypes", "-Werror"),
)

POISON = 0xA5
MOST_OPERANDS = 6  # the test bench's firmware knows it too


class Bench:
    """Compiles the kernels of several cases into one library and runs them."""

    def __init__(
        self,
        cases: list[OpCase],
        target: Target | None = None,
        sanitize: bool = True,
        lent: str = "",
        backward: bool = False,
        places: str = "all",
    ) -> None:
        """With `lent`, kernels have memory to work in that only makes them faster: the "least" that does, or
        the "most". With `backward`, all rows are made from the last to the first, one a call. If `places` are
        "near", outputs lie over inputs, and nothing else is tried."""
        self.backward, self.places = backward, places
        self.library = 0  # of those compiled, the one that runs
        self.cases = {case.name: case for case in cases}
        assert len(self.cases) == len(cases), "two cases have one name"
        self.target = target or replace(load_target("host"), kernels=("portable",))
        self.over = {case.name: over_inputs(case, self.target, backward=backward) for case in cases}
        self.layouts: dict[tuple[str, str], dict[str, tuple[int, Slot]]] = {}
        self.scratch: dict[tuple[str, str], Span] = {}  # bytes that a kernel works in
        self.end = RED  # of the largest: each case and way has all of the arena
        nodes: list[Node] = []
        tensors: dict[str, Tensor] = {}
        constants: dict[str, np.ndarray] = {}
        self.index: dict[tuple[str, str], int] = {}
        for case in cases:
            for way in self.ways(case):
                self.index[case.name, way] = len(nodes)
                nodes.append(self._node(case, way, tensors, constants))
                layout = layout_of(case, way, self.over[case.name].get(way))
                self.layouts[case.name, way] = layout
                self.end = max(self.end, end_of(layout))
        self.graph = Graph("bench", tensors, constants, tuple(nodes), (), ())
        self._place_work(lent)
        self._build(sanitize)

    @staticmethod
    def _node(case: OpCase, way: str, tensors: dict[str, Tensor], constants: dict[str, np.ndarray]) -> Node:
        """The case as a node of its own for this way; its tensors and constants are added to all."""
        names = [f"{case.name}/{way}/{k}" for k in range(len(case.tensors))]
        for k, (name, tensor) in enumerate(zip(names, case.tensors, strict=True)):
            tensors[name] = Tensor(name, tensor.shape, tensor.dtype)
            if case.is_constant(k):
                constants[name] = case.inputs[k]
        ((shape, dtype),) = case.op.results(*case.tensors)
        made = case.want.shape, ElementType.of(case.want)
        assert (shape, dtype) == made, (case.name, shape, dtype, case.want.dtype)
        out = f"{case.name}/{way}/y"
        tensors[out] = Tensor(out, *made)
        return Node(case.op, tuple(names), (out,))

    def _place_work(self, lent: str) -> None:
        for key, index in self.index.items():
            size = scratch_bytes(self.graph, self.graph.nodes[index])
            if not size and lent:
                size = self._lent(index, lent)
            if size:
                start = -(-end_of(self.layouts[key]) // 16) * 16
                self.scratch[key] = Span(start, start + size)
                self.end = max(self.end, start + size + RED)

    def _lent(self, index: int, kind: str) -> int:
        """Bytes for a kernel that needs none; the "most" also where it would not pay."""
        site = planning_site(self.graph, index, self.target, lent=True, room=2**31 - 1)
        if kind == "most" and kernel_use(self.graph.nodes[index].op, site).template == winograd.TEMPLATE:
            return winograd.work_bytes(site)
        return min((each.bytes for each in useful(self.graph, index, self.target)), default=0)

    def goes_backward(self, way: str) -> bool:
        """True if rows are made from the last to the first, one a call."""
        return self.backward or way.endswith(BACKWARD)

    def ways(self, case: OpCase) -> tuple[str, ...]:
        """Strips need a third axis that the op walks by one loop. Rows in an order are made once."""
        if self.places == "near":
            return tuple(self.over[case.name])
        if self.backward:
            return "whole", "strided", *self.over[case.name]
        order = case.nest.row_order
        by_rows = case.by_rows and order is not LoopKind.BACKWARD
        by_cols = len(case.want.shape) >= 3 and case.nest.axis_loop(1) is not None and order is None
        same_rank = all(len(case.inputs[k].shape) == len(case.want.shape) for k in case.activations)
        return (
            "whole",
            *(["ring"] if by_rows else []),
            "strided",
            *(["strip"] if by_cols and same_rank else []),
            *(["in_place"] if case.overwritten is not None else []),
            *self.over[case.name],
        )

    def _lowered(self) -> Program:
        """The calls of all cases in all their ways."""
        slots = {name: slot for layout in self.layouts.values() for name, (_, slot) in layout.items()}
        starts = {name: start for layout in self.layouts.values() for name, (start, _) in layout.items()}
        buffers = tuple(Buffer(name, BufferKind.TENSOR, 1, Span(0, 1), (SRAM,)) for name in slots)
        rooms = {"/".join((*key, "work")): span for key, span in self.scratch.items()}
        buffers += tuple(
            Buffer(name, BufferKind.SCRATCH, len(span), Span(0, 1), (SRAM,)) for name, span in rooms.items()
        )
        places = {name: Place(SRAM, start) for name, start in starts.items()}
        groups = tuple(Group((k,), backward=self.goes_backward(way)) for (_, way), k in self.index.items())
        work = {self.index[key]: "/".join((*key, "work")) for key in self.scratch}
        places |= {work[self.index[key]]: Place(SRAM, span.lo) for key, span in self.scratch.items()}
        plan = Plan(groups, frozenset(), buffers, slots, places, scratch=work)
        self.plan = MemoryPlan.of(plan)
        return lower(Module.of(self.graph), self.plan, "bench", self.target)

    def _build(self, sanitize: bool) -> None:
        program = self._lowered()
        faults = check_program(Module.of(self.graph), self.plan, program)
        assert not faults, "\n".join(faults)
        package = emit(Module.of(self.graph), program, EmitOptions("bench"), self.target)
        self.package = package
        runner = ['#include "bench.c"', "typedef struct { int32_t a[8]; } window;"]
        runner.append("#ifndef BENCH_CALL\n#define BENCH_CALL(...) __VA_ARGS__\n#endif")
        runner.append(
            "void bench_kernel(uint8_t *arena, int32_t node, int32_t begin, int32_t end, const int32_t *c);"
        )
        runner.append(
            "void bench_kernel(uint8_t *arena, int32_t node, int32_t begin, int32_t end, const int32_t *c)\n"
            "{\n"
            "    uint8_t *memory[2];\n    memory[BENCH_MEMORY_SRAM] = arena;\n"
            "    memory[BENCH_MEMORY_WEIGHTS] = (uint8_t *)(uintptr_t)&bench_weights;\n"
            "    bench_columns columns = columns_0[0];\n"
        )
        for k, field in enumerate(("begin", "end", "out")):
            runner.append(f"    columns.{field} = (__typeof__(columns.{field}))c[{k}];")
        runner.append(
            "    for (unsigned k = 0; k < sizeof columns.in / sizeof *columns.in; ++k) {\n"
            "        columns.in[k] = (__typeof__(*columns.in))c[3 + k];\n    }"
        )
        runner.append("    switch (node) {")
        kernel_of = {label: kernel.name for kernel in package.kernels for label in kernel.users}
        for node in program.nodes:
            call = f"{kernel_of[node.label]}(memory, &{node.label}, &columns, begin, end)"
            runner.append(f"    case {node.index}: BENCH_CALL({call}); break;")
        runner.append("    default: break;\n    }\n}")
        self.libraries = self._compile(package.files, "\n".join(runner), sanitize)

    def _compile(self, files: dict[str, str], runner: str, sanitize: bool) -> list[Any]:
        """The function that calls a kernel, of each library: as a user builds it without a warning, and with
        undefined behaviour caught, which nothing needs to be fast for."""
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "runner.c").write_text(runner)
        cc = ["cc", "-fPIC", *os.environ.get("MMCC_BENCH_FLAGS", "").split()]
        own = [*cc, *WARNINGS, "-O2", "-c", "bench_kernels.c", "bench_weights.c", "bench.c"]
        subprocess.run(own, check=True, cwd=folder)
        lax = [*cc, "-std=gnu99", "-shared", "-w", "runner.c"]  # includes bench.c
        parts = ["bench_kernels.o", "bench_weights.o", "-lm"]
        subprocess.run([*lax, "-O2", "-o", "bench.so", *parts], check=True, cwd=folder)
        libraries = ["bench.so"]
        if sanitize:
            checks = ["-O0", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
            parts = ["bench_kernels.c", "bench_weights.c", "-lm"]
            subprocess.run([*lax, *checks, "-o", "checked.so", *parts], check=True, cwd=folder)
            libraries.append("checked.so")
        self.ffi = FFI()
        self.ffi.cdef("void bench_kernel(uint8_t *, int32_t, int32_t, int32_t, const int32_t *);")
        return [self.ffi.dlopen(str(folder / name)).bench_kernel for name in libraries]

    # ---- running

    @staticmethod
    def window(cols: Span, ins: list[int], out: int) -> list[int]:
        """Columns of a call as the runner takes them; operands behind those are constants."""
        assert not any(ins[MOST_OPERANDS:])
        ins = ins[:MOST_OPERANDS]
        return [cols.lo, cols.hi, out, *ins, *[0] * (MOST_OPERANDS - len(ins))]

    def call(self, arena: np.ndarray, node: int, rows: Span, cols: Span, ins: list[int], out: int) -> None:
        window = np.array(self.window(cols, ins, out), np.int32)
        self.libraries[self.library](
            self.ffi.cast("uint8_t *", arena.ctypes.data),
            node,
            rows.lo,
            rows.hi,
            self.ffi.cast("int32_t *", window.ctypes.data),
        )

    def check(self, name: str, tolerance: tuple[float, float] = (1e-5, 1e-6)) -> None:
        """Every way must give the reference, floats within a tolerance but all ways the same bits.

        AssertionError tells which did not.
        """
        case = self.cases[name]
        first: np.ndarray | None = None
        for library, way in product(range(len(self.libraries)), self.ways(case)):
            self.library = library
            height = geometry(case.want.shape)[0]
            rows = {"whole": {1, 2, 3, height}, OVER: {1, height}}.get(way.rstrip("0123456789"), {height})
            heights = sorted(rows) if case.by_rows else [height]
            for tile in [1] if way == "ring" or self.goes_backward(way) else heights:
                got = self._run_strips(case) if way == "strip" else self._run_rows(case, way, tile)
                what = f"{name}, {way}, {tile} rows a call"
                self._compare(case, got, what, tolerance)
                first = got if first is None else first
                same = (got == first) | (got != got) & (first != first)
                assert same.all(), f"{what}: other bits than the first way"

    @staticmethod
    def _compare(case: OpCase, got: np.ndarray, what: str, tolerance: tuple[float, float]) -> None:
        if case.want.dtype == np.float32:
            np.testing.assert_allclose(got, case.want, *tolerance, err_msg=what)
        elif ElementType.of(case.want).code is not None:  # numpy cannot compare what is not a number there
            np.testing.assert_array_equal(got.astype(np.float32), case.want.astype(np.float32), err_msg=what)
        else:
            np.testing.assert_array_equal(got, case.want, err_msg=what)

    def _arena(self) -> np.ndarray:
        raw = np.full(self.end + 64, POISON, np.uint8)
        offset = -raw.ctypes.data % 16
        return raw[offset : offset + self.end]

    def _run_rows(self, case: OpCase, way: str, tile: int) -> np.ndarray:
        """`tile` rows a call; a ring gets each row only when it is needed, over the oldest one."""
        arena, node = self._arena(), self.index[case.name, way]
        height, width, _ = geometry(case.want.shape)
        loaded = dict.fromkeys(case.activations, 0)
        calls = [Span(top, min(height, top + tile)) for top in range(0, height, tile)]
        backward = self.goes_backward(way) or case.nest.row_order is LoopKind.BACKWARD
        for rows in reversed(calls) if backward else calls:
            for k in case.activations:
                whole = geometry(case.inputs[k].shape)[0]
                last = max(case.rows(k, r).hi for r in range(rows.lo, rows.hi)) if way == "ring" else whole
                self._fill(arena, case, way, k, range(loaded[k], max(loaded[k], last)), None)
                loaded[k] = max(loaded[k], last)
            before = arena.copy()
            self.call(arena, node, rows, Span(0, width), [], 0)
            self._untouched(before, arena, case, way)
        return self._pixels(arena, case, way, "y").reshape(case.want.shape)

    def _run_strips(self, case: OpCase) -> np.ndarray:
        """One strip of columns after the other, each with only the columns it needs."""
        arena, node = self._arena(), self.index[case.name, "strip"]
        height, width, channels = geometry(case.want.shape)
        result = np.zeros((height, width, channels), case.want.dtype)
        for strip in strips(case):
            ins: list[int] = []
            for k in case.activations:
                cols = strip_of(case, k, strip)
                ins.append(cols.lo)
                self._fill(arena, case, "strip", k, range(geometry(case.inputs[k].shape)[0]), cols)
            before = arena.copy()
            self.call(arena, node, Span(0, height), strip, self._by_operand(case, ins), strip.lo)
            result[:, strip.lo : strip.hi] = self._pixels(arena, case, "strip", "y")[:, : len(strip)]
            self._untouched(before, arena, case, "strip")
        return result.reshape(case.want.shape)

    @staticmethod
    def _by_operand(case: OpCase, ins: list[int]) -> list[int]:
        firsts = [0] * len(case.inputs)
        for k, first in zip(case.activations, ins, strict=True):
            firsts[k] = first
        return firsts

    def _pixels(self, arena: np.ndarray, case: OpCase, way: str, k: int | str) -> np.ndarray:
        """The slot of a tensor as an array [rows held, columns held, channels] over the arena."""
        array = case.want if k == "y" else case.inputs[k]  # type: ignore[call-overload]
        start, slot = self.layouts[case.name, way][f"{case.name}/{way}/{k}"]
        channels = geometry(array.shape)[2]
        shape = (slot.rows, slot.row_stride // slot.col_stride, channels)
        strides = (slot.row_stride, slot.col_stride, array.dtype.itemsize)
        return np.ndarray(shape, array.dtype, arena.data, start + slot.offset, strides)

    def _fill(
        self, arena: np.ndarray, case: OpCase, way: str, k: int, rows: range, cols: Span | None
    ) -> None:
        pixels = self._pixels(arena, case, way, k)
        source = case.inputs[k].reshape(geometry(case.inputs[k].shape))
        if cols is not None:
            start, slot = self.layouts[case.name, way][f"{case.name}/{way}/{k}"]
            arena[start : start + slot.rows * slot.row_stride] = POISON
            source = source[:, cols.lo : cols.hi]
        for row in rows:
            pixels[row % pixels.shape[0], : source.shape[1]] = source[row]

    def _untouched(self, before: np.ndarray, arena: np.ndarray, case: OpCase, way: str) -> None:
        """The kernel wrote nothing but its output's pixels."""
        kept = before.copy()
        self._pixels(kept, case, way, "y")[...] = self._pixels(arena, case, way, "y")
        work = self.scratch.get((case.name, way), Span(0, 0))
        kept[work.lo : work.hi] = arena[work.lo : work.hi]
        wrong = np.flatnonzero(kept != arena)
        assert not len(wrong), f"{case.name}, {way}: wrote outside its output, at arena bytes {wrong[:8]}"


def compile_kernels(bench: Bench, target: Target, compiler: str, level: str, folder: Path) -> None:
    """Compile a bench's kernels by another compiler, or at another level of optimization."""
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    for name, text in bench.package.files.items():
        (folder / name).write_text(text)
    flags = [flag for flag in target.flags if not flag.startswith("-O")]
    if compiler == "clang":
        asked = [target.compiler, "-xc", "-E", "-v", "/dev/null"]
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stderr
        folders = said.partition("<...> search starts here:")[2].partition("End of search list")[0].split()
        newlib = [each for each in folders if (Path(each) / "string.h").is_file()]
        flags += ["--target=arm-none-eabi", *(f"-isystem{each}" for each in newlib)]
    command = [compiler, *WARNINGS, *flags, level, "-c", "bench_kernels.c", "-o", "kernels.o"]
    subprocess.run(command, cwd=folder, check=True)
