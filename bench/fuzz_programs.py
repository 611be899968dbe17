# SPDX-License-Identifier: Apache-2.0
"""Compiles a model under many plans, builds all of them into one program with sanitizers, and runs each.

The plans share nothing but the program and kernels that are the same: symbols of packages are apart by their
prefixes, and the test bench's, what is static, and macros of the same name by macros.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from signal import SIGILL

import numpy as np
from fuzz_shared import Parts, Shared, parts_of
from mmcc.driver.compile import CompileResult, compile_module
from mmcc.driver.load import Loaded, load_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError, Exit
from mmcc.ops.repeat import Repeat
from mmcc.package.host import host_adapter, package_sources
from mmcc.package.record import Package, load_package
from mmcc.resources import data_dir
from mmcc.verification.samples import Sample, from_c, to_c

STACK = 1024  # vouched for: what the C needs of it is measured elsewhere
UNLIMITED = 2**30
EFFORT = 0.3  # of the planner
# Compiling is most of a graph's time, and -O1 takes 7 times as long. Checks of addresses are calls, a quarter
# less; sizes of objects are not known at -O0, and what is beyond them the other sanitizer sees. Undefined
# behaviour traps, which takes 40 % less than to say where it was: only what traps is built to tell that.
TELLING = (
    *("gcc", "-O0", "-fsanitize=address,undefined", "-fno-sanitize=object-size", "-fno-sanitize-recover=all"),
    *("--param", "asan-instrumentation-with-call-threshold=0"),
)
SANITIZED = (*TELLING, "-fsanitize-undefined-trap-on-error")
# Here a package is one unit of C, so layers' constants are known where channels are left over; gcc 12 at -O3
# warns of iterations that such a loop never has.
QUIET = "-Wno-aggressive-loop-optimizations"
OPTIMIZED = (("gcc", "-O2"), ("gcc", "-O3", QUIET), ("clang", "-O2"), ("gcc", "-Os"))
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
PREFIXED = re.compile(r"[ap]\d\d(?:_|$)|[AP]\d\d(?:_|$)")  # names that begin as a trial's does
ATTRIBUTES = re.compile(r"__attribute__\(\(.*?\)\)\)?|MMCC_ALIGNED\(\d+\)")
STATIC = re.compile(r"^static\b(?:\s+struct \{[^}]*\}|[^=;({\[]*?)\s*\b(\w+)\s*(?=[=;(\[])", re.MULTILINE)
DEFINED = re.compile(r"^\s*#\s*define\s+(\w+)", re.MULTILINE)
NAMES = ("inputs", "outputs", "input_bytes", "output_bytes", "init", "input", "output", "run", "weights_read")


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to compile a model, as options and as words of the command line."""

    name: str
    options: CompileOptions
    words: str
    may_fail: frozenset[int] = field(default_factory=frozenset[int])  # exit codes that are no finding


@dataclass(frozen=True, slots=True)
class Built:
    """A trial's package."""

    trial: Trial
    result: CompileResult
    package: Package


class Trapped(Exception):
    """A program ended where its behaviour is undefined."""


class Refused(Exception):
    """A trial that the compiler refuses, as it may."""


def base(name: str, **options: object) -> CompileOptions:
    return CompileOptions(name=name, stack=STACK, time_limit=EFFORT, self_check=False, **options)  # pyright: ignore


def first_trials() -> list[Trial]:
    """No limit, and the least: what other limits lie between."""
    return [
        Trial("p10", base("p10", ram=UNLIMITED), "--ram 1G"),
        Trial("p11", base("p11", least_ram=True), "--ram min"),
    ]


def other_trials(most: int, least: int, rng: np.random.Generator) -> Iterator[Trial]:
    """Limits between, and below what groups without strips need; all ways of input, output and weights."""
    no_fit = frozenset({int(Exit.DOES_NOT_FIT), int(Exit.NO_PLAN)})
    names = (f"p{k}" for k in range(12, 99))  # of equal length: lines break alike

    def trial(words: str, may_fail: frozenset[int] = frozenset(), **options: object) -> Trial:
        name = next(names)
        return Trial(name, base(name, **options), words, may_fail)

    def chance() -> bool:
        return bool(rng.random() < 0.5)

    for part in (0.0, *np.sort(rng.random(2))) if most > least else ():
        n = int(least + part * (most - least))
        yield trial(f"--ram {n}", ram=n)
    if chance():
        n = int(least * rng.uniform(0.8, 0.99))
        yield trial(f"--ram {n} --recompute 4", no_fit, ram=n, recompute=4.0)
    yield trial("--io external", io="external")
    n = int(least * rng.uniform(0.5, 1.0))
    yield trial(f"--io external --ram {n}", no_fit, io="external", ram=n)
    if chance():
        yield trial("--io rows", io="rows")
    else:
        yield trial("--io rows --ram min", io="rows", least_ram=True)
    if chance():
        yield trial("--io rows-again --ram min", io="rows-again", least_ram=True)
    else:
        n = int(least * rng.uniform(0.5, 0.95))
        yield trial(f"--io rows-again --ram {n}", no_fit, io="rows-again", ram=n)
    if chance():
        yield trial("--weights staged", weights="staged")
    else:
        n = int(least * rng.uniform(0.9, 1.5))
        yield trial(f"--weights staged --ram {n}", no_fit, weights="staged", ram=n)
    for words, may_fail, options in _copied_or_in_chunks(least, rng):
        yield trial(words, may_fail, **options)


def _copied_or_in_chunks(
    least: int, rng: np.random.Generator
) -> Iterator[tuple[str, frozenset[int], dict[str, object]]]:
    """Words, exit codes that are no finding, and options, of weights in RAM and of threads."""
    none = frozenset[int]()
    n = int(least * rng.uniform(1.0, 1.5))
    if rng.random() < 0.5:
        yield "--weights-in-ram --io rows", none, {"weights_in_ram": True, "io": "rows"}
    else:
        no_fit = frozenset({int(Exit.DOES_NOT_FIT), int(Exit.NO_PLAN)})
        yield f"--weights-in-ram --ram {n}", no_fit, {"weights_in_ram": True, "ram": n}
    threads = int(rng.integers(2, 9))
    ways: tuple[tuple[str, dict[str, object]], ...] = (
        ("--weights-in-ram", {"weights_in_ram": True}),
        ("--io external", {"io": "external"}),
        ("--weights staged", {"weights": "staged"}),
    )
    words, options = ways[int(rng.integers(len(ways)))]
    yield f"--threads {threads} {words}", none, {"threads": threads, **options}


class Model:
    """A model's file, and the graphs that the front end makes of it: one for all plans that begin with the
    same, so that the planner knows again what groups of it need."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[tuple[str, bool], Loaded] = {}

    def compile(self, folder: Path, options: CompileOptions) -> CompileResult:
        """`compile_model`, with a graph that may have been loaded before."""
        key = options.io if options.io in ("rows", "rows-again") else "", options.weights == "staged"
        loaded = self._loaded.get(key) or load_model(self.path, options)
        if not any(isinstance(node.op, Repeat) for node in loaded.graph.nodes):  # bodies have plans
            self._loaded[key] = loaded
        return compile_module(loaded.module, self.path, folder, options, streaming=loaded.streaming)


def compile_trial(model: Model, folder: Path, trial: Trial) -> Built:
    """The package of a trial; Refused if that is the user's to change, any other error as it comes."""
    try:
        result = model.compile(folder / trial.name, trial.options)
    except CompileError as error:
        if int(error.exit) in trial.may_fail:
            raise Refused from error
        raise
    return Built(trial, result, load_package(folder / trial.name))


# ---- the program

_PREAMBLE = """#define _POSIX_C_SOURCE 200112L /* as the test bench has it */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mmcc_runtime.h"
#include "adapter.h"
#undef MMCC_CODE_ATTRIBUTE
"""
_PROGRAM = """
#define PLAN(p) \\
    extern const uint32_t p##_a_inputs, p##_a_outputs, p##_a_input_bytes[], p##_a_output_bytes[]; \\
    int32_t p##_a_init(void); \\
    void *p##_a_input(uint32_t k); \\
    const void *p##_a_output(uint32_t k); \\
    int32_t p##_a_run(void); \\
    static int p##_all(const char *in, long samples, FILE *out) \\
    { \\
        int32_t status = p##_a_init(); \\
        for (long s = 0; status == 0 && s < samples; ++s) { \\
            for (uint32_t k = 0; k < p##_a_inputs; ++k) { \\
                memcpy(p##_a_input(k), in, p##_a_input_bytes[k]); \\
                in += p##_a_input_bytes[k]; \\
            } \\
            status = p##_a_run(); \\
            for (uint32_t k = 0; k < p##_a_outputs; ++k) { \\
                (void)fwrite(p##_a_output(k), 1, p##_a_output_bytes[k], out); \\
            } \\
        } \\
        return (int)status; \\
    }
@PLANS@
int main(int argc, char **argv)
{
    static char in[1 << 22];
    FILE *from = fopen(argv[2], "rb"), *to = fopen(argv[3], "wb");
    if (argc != 5 || from == NULL || to == NULL || fread(in, 1, sizeof in, from) == sizeof in) {
        return 90;
    }
    int status = 91;
    @RUNS@
    return fclose(to) == 0 ? status : 92;
}
"""


def different(builts: Sequence[Built]) -> list[Built]:
    """One of each kind: many limits lead to the same C."""
    kinds: dict[bytes, Built] = {}
    for built in builts:
        name = built.trial.name
        texts = [path.read_text() for path in package_sources(built.result.folder)]
        texts.append((built.result.folder / f"{name}_internal.h").read_text())
        kinds.setdefault(sha256(_unnamed("".join(texts), name).encode()).digest(), built)
    return list(kinds.values())


def _unnamed(text: str, name: str) -> str:
    return re.sub(rf"\b({name}|{name.upper()})(?![0-9A-Za-z])", "p", text)


def _unit(built: Built, shared: Shared, adapter: Path) -> str:
    """A package's part of the program, without what it has in common with those before."""
    name, folder = built.trial.name, built.result.folder
    kernels, guard = folder / f"{name}_kernels.c", f"{name.upper()}_INTERNAL_H"
    own = (folder / f"{name}_internal.h").read_text().split(f"#define {guard}\n", 1)[1]
    own = own[: own.rindex("#endif")]
    names, header, left = shared.left(Parts(name, parts_of(own), parts_of(kernels.read_text())))
    lines = [f"#define mmcc_adapter_{n} {name}_a_{n}" for n in NAMES]
    lines += [f"#define {word} {other}" for word, other in sorted(names.items())]
    shown = adapter.with_suffix(".h")  # a file of its own: clang warns of functions here that nobody calls
    shown.write_text("\n".join(header))
    lines += [f'#include "{name}.h"', f"#define {guard}", f'#include "{shown}"']
    sources = [path for path in package_sources(folder) if path != kernels]
    files = {path: path.read_text() for path in (*sources, adapter)}
    for paths in (sources, [adapter]):  # what the adapter calls its own may be members of kernels' types
        found = {*STATIC.findall(ATTRIBUTES.sub("", "".join(files[path] for path in paths)))}
        lines += [f"#define {word} {name}_s_{word}" for word in sorted(found) if not PREFIXED.match(word)]
        lines += [f'#include "{path}"' for path in paths]
        lines += left if paths is sources else []
    defined = {*DEFINED.findall("".join((*header, *files.values()))), *DEFINED.findall("\n".join(lines))}
    lines += [f"#undef {word}" for word in sorted(defined) if not PREFIXED.match(word)]
    return "\n".join(lines) + "\n"


def build(builts: Sequence[Built], program: Path, flags: Sequence[str]) -> Path:
    """One program of all packages; `flags` begin with the compiler. CompileError: what it did not like.

    It is one unit of C: to begin with a unit takes as long as a small package.
    """
    units: list[str] = []
    shared = Shared()
    for built in builts:
        name = built.trial.name
        adapter = program.with_name(f"{program.name}_{name}.inc")
        adapter.write_text(host_adapter(built.result.folder, built.package))
        units.append(_unit(built, shared, adapter))
    names = [built.trial.name for built in builts]
    runs = "\n    ".join(
        f'if (!strcmp(argv[1], "{n}")) status = {n}_all(in, atol(argv[4]), to);' for n in names
    )
    main = program.with_suffix(".c")
    text = _PROGRAM.replace("@PLANS@", "\n".join(f"PLAN({n})" for n in names)).replace("@RUNS@", runs)
    main.write_text(_PREAMBLE + "".join(units) + text)
    folders = [data_dir("runtime_c") / "firmware", *(built.result.folder for built in builts)]
    command = [*flags, *WARNINGS, *(f"-I{folder}" for folder in folders), str(main), "-o", str(program)]
    command.append("-lm")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise CompileError("MM802", "\n".join(lines[:4]) or done.stderr[-600:], exit=Exit.INTERNAL)
    return program


def run(program: Path, built: Built, samples: Sequence[Sample], folder: Path) -> list[Sample]:
    """The outputs of all samples; Trapped, or RuntimeError with the sanitizer's words or the status."""
    package = built.package
    inputs, outputs = folder / "in.bin", folder / "out.bin"
    raw = (to_c(package.inputs, package.tensors, sample) for sample in samples)
    inputs.write_bytes(b"".join(array.tobytes() for arrays in raw for array in arrays))
    command = [str(program), built.trial.name, str(inputs), str(outputs), str(len(samples))]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=60, env=environment
    )
    if done.returncode == -SIGILL:
        raise Trapped
    if done.returncode:
        told = [
            line for line in done.stderr.splitlines() if "rror" in line or " #0 " in line or " #1 " in line
        ]
        raise RuntimeError(f"exit {done.returncode}: " + " | ".join(told[:4]))
    data = outputs.read_bytes()
    made: list[Sample] = []
    at = 0
    for _ in samples:
        arrays: Sample = []
        for port in package.outputs:
            tensor = package.tensors[port.tensor]
            arrays.append(np.frombuffer(data[at : at + tensor.bytes], tensor.dtype.numpy))
            at += tensor.bytes
        made.append(from_c(package.outputs, package.tensors, arrays))
    return made
