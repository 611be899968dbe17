# SPDX-License-Identifier: Apache-2.0
"""Hops of a stream beside the whole model, in one C program: are all bits the same?

    python bench/bench_hops.py MODEL INPUT:AXIS [--hops 1000000] [--rows 1,4] [--seed 0]

The program of this machine has the whole model and a stream of it for each number of rows a hop. It makes
random sequences, integers over their whole range and floats between -1 and 1, some of them of one value; runs
the whole model on each, and then one of the streams from a reset on, for as many hops as it likes up to the
whole sequence, where a flush follows. Every element is compared. Exits with 1 if one differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.element_type import ElementType
from mmcc.ir.ports import Port
from mmcc.package.record import Package, load_package
from mmcc.target import load_target
from mmcc.toolchain import compile_objects, link
from mmcc.verification.streams import flush_of, hops

Array = np.ndarray[Any, Any]
MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
@INCLUDES@
static uint64_t state = @SEED@;
static uint32_t drawn(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}
static void make_float(float *x, int n)
{
    const uint32_t kind = drawn() % 8;
    const float same = (float)(int32_t)drawn() / 2147483648.0f;
    for (int k = 0; k < n; ++k) x[k] = kind == 0 ? same : (float)(int32_t)drawn() / 2147483648.0f;
}
static void make_bytes(void *to, int n)
{
    const uint32_t kind = drawn() % 8;
    const uint8_t same = (uint8_t)drawn();
    for (int k = 0; k < n; ++k) ((uint8_t *)to)[k] = kind == 0 ? same : (uint8_t)drawn();
}
@TABLES@
static unsigned long long hops_made, compared, wrong, sequences, flushes;
/* Elements of a result, by the table of where the whole model has them; -1: of no row of it. */
static void compare(const void *got, const void *want, const int32_t *at, int n, int size)
{
    for (int k = 0; k < n; ++k) {
        if (at[k] < 0) continue;
        ++compared;
        wrong += memcmp((const char *)got + k * size, (const char *)want + at[k] * size, (size_t)size) != 0;
    }
}
static void take(void *to, const void *from, const int32_t *at, int n, int size)
{
    for (int k = 0; k < n; ++k) {
        memcpy((char *)to + k * size, (const char *)from + at[k] * size, (size_t)size);
    }
}
@STREAMS@
int main(void)
{
    if (whole_init(&whole, whole_arena, sizeof whole_arena@STATES@) != 0) return 2;
@INITS@
    while (hops_made < @HOPS@ull) {
@MAKE@
        if (whole_run(&whole) != 0) return 3;
        ++sequences;
        switch (drawn() % @COUNT@u) {
@CASES@
        }
    }
    printf("%llu hops in %llu sequences, %llu of them to their end; ", hops_made, sequences, flushes);
    printf("%llu elements compared, %llu differ\n", compared, wrong);
    return wrong != 0;
}
"""


@dataclass(frozen=True, slots=True)
class Port32:
    """A port whose elements are numbers of elements, and the C that has it."""

    port: Port
    size: int
    c: str

    def to_c(self, package: Package, array: Array) -> Array:
        return self.port.to_c(
            array, replace(package.tensors[self.port.tensor], dtype=ElementType.I32, quant=None)
        )

    def from_c(self, package: Package, array: Array) -> Array:
        tensor = replace(package.tensors[self.port.tensor], dtype=ElementType.I32, quant=None)
        return self.port.from_c(array, tensor)


def ports_of(package: Package, kind: str, prefix: str) -> list[Port32]:
    """`prefix` is that of the functions which give the arrays."""
    found: list[Port32] = []
    for k, port in enumerate(getattr(package, f"{kind}s")):
        plain = replace(port, quant=None, double=False, onnx_dtype=ElementType.I32)
        size = package.tensors[port.tensor].dtype.size
        found.append(Port32(plain, size, f"{prefix}{kind}_{k}"))
    return found


def numbers(port: Port32, package: Package) -> Array:
    """In the model's shape, where C has each element."""
    shape = package.tensors[port.port.tensor].shape
    return port.from_c(package, np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape))


def table(name: str, arrays: list[Array]) -> str:
    text = ", ".join(str(v) for array in arrays for v in array.reshape(-1).tolist())
    return f"static const int32_t {name}[] = {{{text}}};\n"


class Program:
    """The text of the program, made of the whole model's package and those of streams."""

    def __init__(self, whole: Package) -> None:
        self.whole = whole
        self.inputs, self.outputs = (ports_of(whole, kind, "whole_") for kind in ("input", "output"))
        self.tables = self.streams = self.inits = self.cases = ""
        self.count = 0

    def add(self, package: Package) -> None:
        """One more stream."""
        stream, name = package.stream, package.name
        assert stream is not None
        mine = ports_of(package, "input", f"{name}_step_"), ports_of(package, "output", f"{name}_step_")
        given = hops(package, stream, [numbers(port, self.whole) for port in self.inputs])
        count = len(given)
        lines = [f"static void run_{name}(void)\n{{", f"    const int most = {count};"]
        lines.append("    const int end = drawn() % 2 ? most : 1 + (int)(drawn() % (uint32_t)most);")
        lines.append(
            f"    if ({name}_reset(&{name}) != 0) exit(4);\n    for (int hop = 0; hop < end; ++hop) {{"
        )
        for k, port in enumerate(mine[0]):
            arrays = [port.to_c(package, hop[k]) for hop in given]
            self.tables += table(f"{name}_in_{k}", arrays)
            n = arrays[0].size
            source = f"whole_input_{k}_made"
            lines.append(
                f"        take({port.c}(&{name}), {source}, {name}_in_{k} + hop * {n}, {n}, {port.size});"
            )
        lines.append(f"        if ({name}_step(&{name}) != 0) exit(5);\n        ++hops_made;")
        end = flush_of(package, stream)
        tails = ports_of(end, "output", f"{name}_flush_") if end is not None else []
        made, last = self._rows(package, end, mine[1], tails)
        for k, port in enumerate(mine[1]):
            self.tables += table(f"{name}_out_{k}", made[k])
            n = made[k][0].size
            at = f"{name}_out_{k} + hop * {n}, {n}, {port.size}"
            lines.append(f"        compare({port.c}(&{name}), whole_output_{k}(&whole), {at});")
        lines.append("    }\n    if (end < most) return;\n    ++flushes;")
        if end is not None:
            lines.append(f"    if ({name}_flush(&{name}) != 0) exit(6);")
        for port, (k, array) in zip(tails, last, strict=True):
            self.tables += table(f"{name}_tail_{k}", [array])
            at = f"{name}_tail_{k}, {array.size}, {port.size}"
            lines.append(f"    compare({port.c}(&{name}), whole_output_{k}(&whole), {at});")
        self.streams += "\n".join([*lines, "}\n"])
        memory = f"{name}_arena, sizeof {name}_arena{self._states(package)}"
        self.inits += f"    if ({name}_init(&{name}, {memory}) != 0) return 2;\n"
        self.cases += f"        case {self.count}: run_{name}(); break;\n"
        self.count += 1

    def _rows(
        self, package: Package, end: Package | None, outputs: list[Port32], tails: list[Port32]
    ) -> tuple[list[list[Array]], list[tuple[int, Array]]]:
        """Of each output the places of the whole's elements hop by hop, and at the end; -1 before row 0."""
        stream = package.stream
        assert stream is not None
        count = stream.rows // stream.hop
        made: list[list[Array]] = []
        last: list[tuple[int, Array]] = []
        ends = iter(tails)
        for k, (output, port) in enumerate(zip(stream.outputs, outputs, strict=True)):
            places = numbers(self.outputs[k], self.whole)
            shape = port.port.onnx_shape
            if not output.hop:  # of the newest window: only the last hop's is that of the whole
                nothing = np.full(shape, -1, np.int32)
                made.append([port.to_c(package, nothing)] * (count - 1) + [port.to_c(package, places)])
                continue
            before = np.full((*shape[: output.axis], output.lag, *shape[output.axis + 1 :]), -1, np.int32)
            every = np.concatenate([before, places], output.axis)
            parts = np.split(every, range(output.hop, every.shape[output.axis], output.hop), output.axis)
            made.append([port.to_c(package, part) for part in parts[:count]])
            if output.tail:
                assert end is not None
                rest = every.take(range(count * output.hop, count * output.hop + output.tail), output.axis)
                last.append((k, next(ends).to_c(end, rest)))
        return made, last

    def _states(self, package: Package) -> str:
        return f", {package.name}_states, sizeof {package.name}_states" if package.keeps else ""

    def text(self, packages: list[Package], count: int, seed: int) -> str:
        """With all streams that were added."""
        every = [self.whole, *packages]
        includes = "".join(f'#include "{p.name}.h"\n' for p in every)
        tables = self.tables
        for package in every:
            name, upper = package.name, package.name.upper()
            tables += f"static {name}_context {name};\nstatic {upper}_ARENA({name}_arena);\n"
            if package.keeps:
                tables += f"static {upper}_STATES({name}_states);\n"
        make = ""
        for k, port in enumerate(self.inputs):
            tensor = self.whole.tensors[port.port.tensor]
            n = int(np.prod(tensor.shape))
            ctype = "float" if tensor.dtype.is_float else f"int{8 * port.size}_t"
            tables += f"static {ctype} whole_input_{k}_made[{n}];\n"
            how = "make_float" if tensor.dtype.is_float else "make_bytes"
            size = n if tensor.dtype.is_float else n * port.size
            make += f"        {how}(whole_input_{k}_made, {size});\n"
            make += f"        memcpy({port.c}(&whole), whole_input_{k}_made, sizeof whole_input_{k}_made);\n"
        found = MAIN.replace("@INCLUDES@", includes).replace(
            "@SEED@", f"{seed * 2654435761 + 88172645463325252}ull"
        )
        for key, value in {
            "TABLES": tables,
            "STREAMS": self.streams,
            "INITS": self.inits,
            "MAKE": make,
            "CASES": self.cases,
            "COUNT": str(self.count),
            "HOPS": str(count),
            "STATES": self._states(self.whole),
        }.items():
            found = found.replace(f"@{key}@", value)
        return found


def run(model: Path, stream: str, rows: list[int], count: int, seed: int, folder: Path) -> int:
    """Compile, build and run; the program's exit code."""
    compile_model(model, folder / "whole", CompileOptions(name="whole", self_check=False))
    program = Program(load_package(folder / "whole"))
    packages: list[Package] = []
    for k in rows:
        name = f"hop{k}"
        compile_model(
            model, folder / name, CompileOptions(name=name, stream=f"{stream}:{k}", self_check=False)
        )
        packages.append(load_package(folder / name))
        program.add(packages[-1])
    (folder / "main.c").write_text(program.text(packages, count, seed))
    names = ["whole", *(package.name for package in packages)]
    sources = [p for name in names for p in sorted((folder / name).glob("*.c")) if "selftest" not in p.name]
    host = load_target("host")
    include = [folder / name for name in names]
    objects = compile_objects(host, [folder / "main.c", *sources], folder, include_dirs=include, flags=["-w"])
    command = [link(host, objects, folder / "hops")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    said = done.stdout.strip() or f"the program ended with {done.returncode}"
    print(f"{model.parent.name}, {', '.join(map(str, rows))} rows a hop: {said}")
    return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("stream", help="INPUT:AXIS")
    parser.add_argument("--hops", type=int, default=1_000_000)
    parser.add_argument("--rows", default="1,4", help="rows a hop, with commas: a stream each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = [int(text) for text in given.rows.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(given.model, given.stream, rows, given.hops, given.seed, Path(folder)))


if __name__ == "__main__":
    main()
