# SPDX-License-Identifier: Apache-2.0
"""Random models in all forms of files, each compiled in ways that options allow, and verified node by node.

    python bench/fuzz_options.py --graphs 500 --seed 1

`fuzz_differential.py` holds the plans of one model against each other. Here the models are what that cannot
judge: integers of 16 and 4 bits, operators on integers, dynamic quantization, float16, trees, states; and
options that it has no program for: several memories, moves in the background, functions of the user's, float
inputs and outputs of int8 models, other targets, whose plans run as C of this machine. A way is drawn for
each, with its self-check, and `mmcc verify --per-node` judges what came of it. Findings are written to
build/fuzz/ as a model and a line with the options. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fuzz_differential import FOUND, ROOT, made_up
from fuzz_forms import FORMS, KEPT, in_form, with_state, with_trees
from fuzz_graphs import float_model
from fuzz_outcome import Finding, Outcome, in_process
from fuzz_programs import EFFORT, STACK
from mmcc.driver.compile import compile_model
from mmcc.driver.handoff_file import Rule
from mmcc.driver.options import CompileOptions, silent
from mmcc.errors import CompileError, Exit
from mmcc.ir.handoff import Handoff
from mmcc.verification.oracle import Oracle
from mmcc.verification.verify import VerifyOptions, verify_package

CPU_SECONDS = 120
LAYERS = 3  # drawn for a model at most
WAYS = 2  # a model
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imac")
FIRMWARE = ROOT / "tests" / "firmware"
MEMORIES = tuple(str(FIRMWARE / f"two_regions_{core}.toml") for core in ("m4", "m33", "riscv"))
REFUSALS = (Exit.USAGE, Exit.UNSUPPORTED, Exit.DOES_NOT_FIT, Exit.NO_PLAN)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A model, its form, and the input that its output `KEPT` is to be, if it has a state."""

    model: onnx.ModelProto
    form: str
    state: str


def drawn_model(seed: Sequence[int], most: int = LAYERS) -> Drawn:
    """The model of a seed; ValueError if ONNX Runtime does not run its form."""
    rng = np.random.default_rng([*seed, 1])
    model = float_model([*seed, 0], most, usual=bool(rng.random() < 0.5))
    form = str(rng.choice(FORMS))
    floats = form in ("float", "dynamic")
    if floats and rng.random() < 0.4:
        model = with_trees(model, rng)
    state = ""
    if rng.random() < (0.3 if floats else 0.2 if form == "int8" else 0.0):
        model, state = with_state(model, rng)
    made = in_form(form, model, _values(model, rng), rng)
    if state and state not in {i.name for i in made.graph.input} | {o.name for o in made.graph.output}:
        state = ""
    if KEPT not in {o.name for o in made.graph.output}:
        state = ""
    _values(made, rng)
    return Drawn(made, form, state)


def _values(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, Any]:
    """All its tensors for one sample."""
    names = [o for node in model.graph.node for o in node.output if o]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        inputs = {i.name: a for i, a in zip(model.graph.input, made_up(model, 1, rng)[0], strict=True)}
        try:
            return dict(zip(names, Oracle(path, names).run(inputs), strict=True)) | inputs
        except Exception as error:  # of ONNX Runtime's, of many classes
            raise ValueError(str(error)) from error


class Way:
    """Options under way, as words and as `CompileOptions` has them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.words: list[str] = []
        self.options: dict[str, Any] = {}

    def chance(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    def take(self, words: str, **options: Any) -> None:
        self.words.append(words)
        self.options.update(options)

    def target(self, least: int) -> None:
        """This machine, a board, or one with two memories, maybe with a limit for each."""
        if self.chance(0.25):
            board = str(self.rng.choice(BOARDS))
            self.take(f"--target {board}", target=board)
        elif self.chance(0.7):
            board = str(self.rng.choice(MEMORIES))
            self.take(f"--target {Path(board).relative_to(ROOT)}", target=board)
            if self.chance(0.5):
                fast = STACK + int(self.rng.uniform(0.3, 1.2) * (least - STACK))
                self.take(f"--ram sram={fast},psram=1M", regions={"sram": fast, "psram": 2**20})
            if self.chance(0.3):
                self.take("--background-moves", background_moves=True)

    def limit(self, least: int, most: int) -> None:
        if self.chance(1 / 3):
            self.take("--ram min", least_ram=True)
        elif self.chance(0.5):
            limit = int(self.rng.uniform(0.95 * least, most))
            self.take(f"--ram {limit}", ram=limit)

    def inputs_and_weights(self) -> None:
        if self.chance(0.5):
            io = str(self.rng.choice(["external", "rows", "rows-again"]))
            self.take(f"--io {io}", io=io)
        if self.chance(0.3):
            self.take("--float-io", float_io=True)
        if self.chance(0.25):
            self.take("--weights staged", weights="staged")
        elif self.chance(0.2):
            self.take("--weights-in-ram", weights_in_ram=True)
        if self.chance(0.2):
            threads = int(self.rng.integers(2, 5))
            self.take(f"--threads {threads}", threads=threads)

    def handoff(self, model: onnx.ModelProto) -> None:
        """All nodes of one kind to a function of the user's."""
        kinds = {node.op_type for node in model.graph.node} - {"QuantizeLinear", "DequantizeLinear"}
        kind = str(self.rng.choice(sorted(kinds)))
        asked = Handoff(
            "given",
            whole=self.chance(0.5),
            in_place=self.chance(0.3),
            align=int(self.rng.choice([1, 4, 16])),
            scratch=int(self.rng.choice([0, 0, 100])),
        )
        self.take(f"--handoff ({asked} for {kind})", handoff=(Rule(asked, (kind,), (), (), 64),))


def drawn_way(drawn: Drawn, least: int, most: int, rng: np.random.Generator) -> Way:
    """A way to compile the model; `least` and `most` bytes of RAM on this machine."""
    way = Way(rng)
    way.target(least)
    if "regions" not in way.options:
        way.limit(least, most)
    way.inputs_and_weights()
    if way.chance(0.25):
        way.handoff(drawn.model)
    if drawn.state:
        way.take(f"--state {drawn.state}={KEPT}", states={drawn.state: KEPT})
    return way


def check(drawn: Drawn, seed: Sequence[int], folder: Path) -> Outcome:
    """Compile the model in a few ways and verify what came of it."""
    rng, outcome = np.random.default_rng([*seed, 3]), Outcome(kind=drawn.form)
    model = folder / "model.onnx"
    onnx.save(drawn.model, model)
    sizes: list[int] = []
    for words, least in (("", False), ("--ram min", True)):
        chosen: dict[str, Any] = {"least_ram": least, "self_check": False}
        result = _compiled(model, folder / "first", chosen, words, outcome)
        if result is None:
            return outcome
        sizes.append(int(result.report["ram"]["total"]))
    for number in range(WAYS):
        way = drawn_way(drawn, sizes[1], sizes[0], rng)
        words, package = " ".join(way.words), folder / f"way{number}"
        if _compiled(model, package, way.options, words, outcome) is not None:
            outcome.plans += 1
            _verify(package, words, rng, outcome)
    return outcome


def _verify(package: Path, words: str, rng: np.random.Generator, outcome: Outcome) -> None:
    options = VerifyOptions(per_node=True, sanitize=bool(rng.random() < 0.3))
    try:
        found = verify_package(package, options, silent)
    except Exception as error:
        kind = f"verify {type(error).__name__}"
        outcome.findings.append(Finding(kind, words, traceback.format_exc(limit=-4)))
        return
    if not found["ok"]:
        wrong = [
            f"{row['op']} {row['name']}: {row['mismatches']} of {row['outputs']}, {row['fault']}"
            for row in found["per_node"]
            if not row["ok"]
        ]
        text = f"max {found['max_abs']:g} ({found['max_lsb']} LSB); {'; '.join(wrong[:3])}"
        outcome.findings.append(Finding("mismatch", words, text))


def _compiled(model: Path, package: Path, chosen: dict[str, Any], words: str, outcome: Outcome) -> Any:
    options: dict[str, Any] = {"name": "net", "stack": STACK, "time_limit": EFFORT, **chosen}
    try:
        return compile_model(model, package, CompileOptions(**options))
    except CompileError as error:
        if error.exit in REFUSALS:
            outcome.refused = outcome.refused or error.code
        else:
            outcome.findings.append(Finding(f"compile {error.code}", words, str(error)))
    except Exception as error:
        outcome.findings.append(
            Finding(f"crash {type(error).__name__}", words, traceback.format_exc(limit=-5))
        )
    return None


def check_drawn(drawn: Drawn, seed: Sequence[int]) -> Outcome:
    """Check one model in a process of its own."""

    def task() -> Outcome:
        with tempfile.TemporaryDirectory(prefix="mmcc-fuzz-") as folder:
            return check(drawn, seed, Path(folder))

    return in_process(task, CPU_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--graphs", type=int, default=500, help="models (500)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them; model K has the seed [S, K]")
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    options = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    seconds = 0.0
    for number in range(options.first, options.first + options.graphs):
        seed = (options.seed, number)
        try:
            drawn = drawn_model(seed)
        except ValueError:
            total["not run by ONNX Runtime"] += 1
            continue
        outcome = check_drawn(drawn, seed)
        seconds += outcome.seconds
        total[drawn.form] += 1
        if sys.stderr.isatty():
            done = number - options.first + 1
            print(f"\r{done} of {options.graphs}, {seconds / done:.1f} s each", end="", file=sys.stderr)
        total["ways"] += outcome.plans
        total["with a refusal"] += bool(outcome.refused)
        for kind in dict.fromkeys(f.kind for f in outcome.findings):
            total[f"FOUND {kind}"] += 1
        if outcome.findings:
            FOUND.mkdir(parents=True, exist_ok=True)
            path = FOUND / f"options-{seed[0]}-{seed[1]}.onnx"
            onnx.save(drawn.model, path)
            lines = [f"[{f.kind}] {f.words}\n    {f.text}" for f in outcome.findings]
            path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
            first = outcome.findings[0]
            print(f"{seed} {drawn.form}: {first.kind} {first.words} {first.text[:300]}", flush=True)
    counts = ", ".join(f"{key} {count}" for key, count in sorted(total.items()) if count)
    print(f"{options.graphs} graphs, {seconds:.0f} s of CPU: {counts}")
    return 1 if any(key.startswith("FOUND") for key in total) else 0


if __name__ == "__main__":
    sys.exit(main())
