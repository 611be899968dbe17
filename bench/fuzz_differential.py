# SPDX-License-Identifier: Apache-2.0
"""Random models under many plans: ONNX Runtime agrees, all plans give the same bits, sanitizers are silent.

    python bench/fuzz_differential.py --graphs 5000 --seed 1 --qemu 100
    python bench/fuzz_differential.py --graphs 5000 --seed 1 --layers 1

Each model is compiled without a limit, with the least RAM, with limits between and below, with inputs and
outputs in the caller's memory, row by row, and with staged weights; all packages are built into one program
with the address and undefined-behaviour sanitizers, for one of the host's instruction sets. Some of them run
as firmware in QEMU, too. Whatever is found is written to build/fuzz/ as a model, made as small as it stays
wrong, with a line that says how to see it. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from fuzz_boards import board_trials, on_board
from fuzz_graphs import float_model
from fuzz_judge import Judge
from fuzz_outcome import Outcome, in_process
from fuzz_programs import (
    OPTIMIZED,
    SANITIZED,
    TELLING,
    Built,
    Model,
    Refused,
    Trapped,
    Trial,
    build,
    compile_trial,
    different,
    first_trials,
    other_trials,
    run,
)
from fuzz_quantize import quantized
from fuzz_shrink import shrink
from mmcc.codegen.render import load_templates
from mmcc.errors import CompileError, Exit
from mmcc.verification.oracle import Oracle
from mmcc.verification.samples import Sample

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "build" / "fuzz"
CPU_SECONDS = 60  # a graph, with all its plans
SAMPLES = 2
LAYERS = 12  # drawn for a model at most; blocks have several nodes each
INT8 = 0.6  # part of the models


def make_model(seed: Sequence[int], most: int = LAYERS, usual: bool = False) -> onnx.ModelProto:
    """The model of a seed: of floats, or in int8; `usual`: of layers of networks for images alone."""
    rng = np.random.default_rng([*seed, 1])
    model = float_model([*seed, 0], most, usual)
    if rng.random() >= INT8:
        return model
    names = [o for node in model.graph.node for o in node.output]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        inputs = {i.name: a for i, a in zip(model.graph.input, made_up(model, 1, rng)[0], strict=True)}
        values = dict(zip(names, Oracle(path, names).run(inputs), strict=True)) | inputs
    return quantized(model, values, [*seed, 2])


def made_up(model: onnx.ModelProto, count: int, rng: np.random.Generator) -> list[Sample]:
    """Standard normal floats, integers over their whole range."""
    made: list[Sample] = []
    for _ in range(count):
        arrays: Sample = []
        for value in model.graph.input:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if dtype.kind == "f":
                arrays.append(rng.standard_normal(shape).astype(dtype))
            else:
                info = np.iinfo(dtype)
                arrays.append(rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True))
        made.append(arrays)
    return made


def instruction_set(rng: np.random.Generator) -> str:
    """An instruction set that this machine can run: kernels differ by it. Mostly SSE2, built fastest."""
    try:
        known = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "-march=native"
    levels = [("sse2", "x86-64"), ("sse4_2", "x86-64-v2"), ("avx2", "x86-64-v3"), ("avx512vl", "x86-64-v4")]
    sets = ["native", *(level for feature, level in levels if f" {feature} " in known)]
    if "x86-64" in sets and rng.random() < 0.8:
        return "-march=x86-64"
    return f"-march={sets[int(rng.integers(len(sets)))]}"


# ---- one model


def check(model: Path, seed: Sequence[int], folder: Path, boards: bool = False) -> Outcome:
    """Compile, run and judge one model."""
    outcome, rng = Outcome(), np.random.default_rng([*seed, 3])
    samples = made_up(onnx.load(model), SAMPLES, rng)
    graphs = Model(model)
    builts = _compiled(graphs, first_trials(), folder, outcome)
    if len(builts) < 2:
        return outcome
    most, least = (built.result.report["ram"]["total"] for built in builts)
    builts += _compiled(graphs, other_trials(most, least, rng), folder, outcome)
    for built in builts:
        if built.trial.options.ram and built.result.report["ram"]["total"] > built.trial.options.ram:
            outcome.add("limit", built.trial, f"{built.result.report['ram']['total']} bytes")
    judge = Judge(model)
    first = _judge(judge, builts, samples, rng, folder, outcome)
    for trial in board_trials(most, least, rng) if boards and first is not None else ():
        try:
            made = on_board(graphs, trial, samples, folder)
            for text in judge.boards(made or [], first[: len(made or [])]):
                outcome.add("board", trial, text)
            outcome.boards += made is not None
        except Exception as error:
            outcome.add("board", trial, f"{type(error).__name__}: {error}")
    return outcome


def _compiled(model: Model, trials: Iterable[Trial], folder: Path, outcome: Outcome) -> list[Built]:
    """The packages of those trials that work; a model that cannot be compiled at all is no finding."""
    builts: list[Built] = []
    for trial in trials:
        try:
            builts.append(compile_trial(model, folder, trial))
        except Refused:
            pass
        except CompileError as error:
            if error.exit == Exit.UNSUPPORTED and trial.words == "--ram 1G":
                outcome.refused = error.code
                break
            outcome.add(f"compile {error.code}", trial, str(error))
        except Exception as error:
            outcome.add(f"crash {type(error).__name__}", trial, traceback.format_exc(limit=-4))
    return builts


def _judge(
    judge: Judge,
    builts: list[Built],
    samples: list[Sample],
    rng: np.random.Generator,
    folder: Path,
    outcome: Outcome,
) -> list[Sample] | None:
    """Run all plans and compare; the outputs of the first."""
    outcome.kind = "float" if judge.real else "int8" if judge.exact else "mixed"
    values = [judge.values(sample) for sample in samples]
    for number, known in enumerate(values):
        for text in judge.nodes(known):
            outcome.add("node", None, f"sample {number}: {text}")
    outcome.plans = len(builts)
    first: list[Sample] | None = None
    for flags, built, made in runs(different(builts), samples, rng, folder, outcome):
        if first is None:
            first = made
            for number, (sample, got) in enumerate(zip(samples, made, strict=False)):
                for text in judge.whole(sample, got, values[number]):
                    outcome.add("output", built.trial, f"{flags}, sample {number}: {text}")
        elif not _same(first[:-1], made[:-1]):
            outcome.add("plans differ", built.trial, f"{flags}: {_difference(first, made)}")
        if not _same(made[:1], made[-1:]):
            outcome.add("state", built.trial, f"{flags}: the first sample's outputs, again, are others")
    return first


def runs(
    builts: list[Built], samples: list[Sample], rng: np.random.Generator, folder: Path, outcome: Outcome
) -> Iterator[tuple[str, Built, list[Sample]]]:
    """Every plan with sanitizers, one once more as compilers optimize it; the first sample comes again."""
    march = instruction_set(rng)
    known = [flags for flags in OPTIMIZED if shutil.which(flags[0])]
    optimized = [*known[int(rng.integers(len(known)))], march]
    one = builts[int(rng.integers(len(builts)))]
    for name, group, flags in (("sanitized", builts, [*SANITIZED, march]), ("optimized", [one], optimized)):
        words = " ".join(flags)
        try:
            program = build(group, folder / name, flags)
        except CompileError as error:
            outcome.add("build", None, f"{words}: {error.message}")
            continue
        for built in group:
            try:
                yield words, built, run(program, built, [*samples, samples[0]], folder)
            except Trapped:
                outcome.add("run", built.trial, f"{words}: {_told(built, march, samples, folder)}")
            except Exception as error:
                outcome.add("run", built.trial, f"{words}: {error}")


def _told(built: Built, march: str, samples: list[Sample], folder: Path) -> str:
    """Where the behaviour of a plan's C that traps is undefined: built once more, it says so."""
    try:
        program = build([built], folder / "telling", [*TELLING, march])
        run(program, built, [*samples, samples[0]], folder)
    except Exception as error:
        return str(error)
    return "an illegal instruction; with messages instead of traps there is none"


def _same(a: Sequence[Sample], b: Sequence[Sample]) -> bool:
    return all(
        x.tobytes() == y.tobytes() for s, t in zip(a, b, strict=True) for x, y in zip(s, t, strict=True)
    )


def _difference(a: Sequence[Sample], b: Sequence[Sample]) -> str:
    parts = [
        f"output {k}: {(x != y).sum()} of {x.size}, by {np.abs(x.astype(float) - y.astype(float)).max():g}"
        for k, (x, y) in enumerate(zip(a[0], b[0], strict=True))
    ]
    return "; ".join(parts)


# ---- each model in a process of its own


@cache
def prepare() -> None:
    """Load what every model needs, so that their processes need not: templates, and modules for plans."""
    load_templates()
    with tempfile.TemporaryDirectory(prefix="mmcc-fuzz-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(float_model((0, 0), 1, usual=True), path)
        for trial in first_trials():
            compile_trial(Model(path), Path(folder), trial)


def check_model(model: onnx.ModelProto, seed: Sequence[int], boards: bool = False) -> Outcome:
    """Check one model in a process of its own; the 60 s are without the boards."""

    def task() -> Outcome:
        with tempfile.TemporaryDirectory(prefix="mmcc-fuzz-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            return check(path, seed, Path(folder), boards)

    prepare()
    return in_process(task, CPU_SECONDS * (4 if boards else 1))


def keep(model: onnx.ModelProto, seed: Sequence[int], outcome: Outcome, boards: bool = False) -> list[Path]:
    """Write a model for each kind of finding, made small."""
    FOUND.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for kind in dict.fromkeys(f.kind for f in outcome.findings):

        def still(smaller: onnx.ModelProto, kind: str = kind) -> bool:
            again = check_model(smaller, seed, boards and kind == "board")
            return any(f.kind == kind for f in again.findings)

        small = shrink(model, still)
        again = check_model(small, seed, boards and kind == "board")
        name = f"{'-'.join(map(str, seed))}-{kind.replace(' ', '_')}"
        onnx.save(small, FOUND / f"{name}.onnx")
        lines = [f"seed {' '.join(map(str, seed))}: {kind}"]
        for f in again.findings if any(f.kind == kind for f in again.findings) else outcome.findings:
            target = "" if f.words.startswith("--target") else "--target host "
            lines.append(f"[{f.kind}] mmcc compile {name}.onnx {target}{f.words}\n    {f.text}")
        (FOUND / f"{name}.txt").write_text("\n".join(lines) + "\n")
        paths.append(FOUND / f"{name}.onnx")
    return paths


# ---- the campaign


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--graphs", type=int, default=5000, help="models (5000)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them; model K has the seed [S, K]")
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    parser.add_argument("--qemu", type=int, default=0, help="models that run on emulated boards, too")
    parser.add_argument(
        "--layers",
        type=int,
        default=LAYERS,
        help=f"layers and blocks drawn for a model, at most ({LAYERS}); large models take minutes to plan",
    )
    parser.add_argument("--usual", action="store_true", help="only layers of networks for images")
    parser.add_argument("--no-shrink", action="store_true", help="keep models as they were found")
    options = parser.parse_args(arguments)
    if options.layers < 1:
        parser.error(f"--layers {options.layers}: a model has 1 or more")
    if shutil.which("gcc") is None:
        print("gcc is not installed", file=sys.stderr)
        return 2
    total: Counter[str] = Counter()
    seconds = 0.0
    for number in range(options.first, options.first + options.graphs):
        seed, boards = (options.seed, number), number - options.first < options.qemu
        model = make_model(seed, options.layers, options.usual)
        outcome = check_model(model, seed, boards)
        seconds += outcome.seconds
        total["plans"] += outcome.plans
        total["runs on boards"] += outcome.boards
        if outcome.kind or outcome.refused or not outcome.findings:  # else a finding says what ended it
            total[f"refused {outcome.refused}" if outcome.refused else outcome.kind or "broken"] += 1
        for kind in dict.fromkeys(f.kind for f in outcome.findings):
            total[f"FOUND {kind}"] += 1
        if outcome.findings:
            first = outcome.findings[0]
            print(f"{seed}: {first.kind} {first.words} {first.text[:300]}", flush=True)
            if not options.no_shrink:
                for path in keep(model, seed, outcome, boards):
                    print(f"  {path.relative_to(ROOT)}", flush=True)
        if sys.stderr.isatty():
            done = number - options.first + 1
            print(f"\r{done} of {options.graphs}, {seconds / done:.1f} s each", end="", file=sys.stderr)
    counts = ", ".join(f"{key} {count}" for key, count in sorted(total.items()) if count)
    print(f"{options.graphs} graphs, {seconds:.0f} s of CPU: {counts}")
    return 1 if any(key.startswith("FOUND") for key in total) else 0


if __name__ == "__main__":
    sys.exit(main())
