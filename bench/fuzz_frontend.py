# SPDX-License-Identifier: Apache-2.0
"""Mutants of models, and models made to do harm: whatever a file holds, mmcc compiles it or says why not.

    python bench/fuzz_frontend.py [--mutants 100000] [--seed 1] [--shared PATH] [--out FOLDER]
                                  [--first INDEX | --only INDEX]

Every mutant is imported and optimized as `mmcc check` does, within 10 seconds of processor time and 1 GiB;
an error must be a CompileError, printable and below 4 KB. What is accepted is computed by the ops' references
and compared with ONNX Runtime; of these, each --compile-every-th is compiled to C, run on this machine, and
compared as well. Whatever else happens is a finding: the mutant goes to --out, and the exit code is 1.

Mutants are a function of the seed and their index: --first and --mutants make a piece of a campaign. They run
in worker processes, so that one that kills its process, or uses it up, is found, and the next goes on.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_compare
import nasty_models
import onnx
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.frontend import unknown
from mmcc.frontend.inference import inferred_types
from mmcc.ir.graph import Graph
from mutants import mutant
from onnx import helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
CPU_SECONDS = 10
MEMORY = 2**30  # bytes above what the process has at its start
MESSAGE = 4096
INFERRED = 100  # of so many mutants one goes through ONNX's shape inference, if anything is wrong with it
BATCH = 250  # mutants to a worker process
LARGE = 60_000  # bytes of a file above which its constants are replaced by calls for as many equal numbers


@dataclass(frozen=True, slots=True)
class Seed:
    """A sound model, from which mutants are made."""

    name: str
    data: bytes


@dataclass(slots=True)
class Tally:
    """What became of the mutants."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    findings: dict[int, str] = field(default_factory=dict[int, str])

    def __str__(self) -> str:
        counted = ", ".join(f"{count:,} {what}" for what, count in self.outcomes.most_common())
        return f"{counted}; {len(self.findings)} findings"


def corpus(shared: Path | None) -> list[Seed]:
    """The project's own models, and those beside it if they are there; small first."""
    found = [Seed(name, made.SerializeToString()) for name, made in nasty_models.seeds()]
    paths = sorted((ROOT / "examples").rglob("*.onnx"))
    if shared is not None:
        paths += sorted([*shared.glob("models/*/model.onnx"), *shared.glob("models/quirks/*.onnx")])
        paths += sorted(shared.glob("cases/**/*.onnx"))
    for path in paths:
        data = _small(path)
        if len(data) < 2 * LARGE:
            found.append(Seed(f"{path.parent.name}/{path.stem}", data))
    return found


def _small(path: Path) -> bytes:
    """The model's bytes, without large constants: ConstantOfShape stands for them."""
    data = path.read_bytes()
    if len(data) <= LARGE:
        return data
    model = onnx.load_model_from_string(data)
    graph = model.graph
    large = [tensor for tensor in graph.initializer if tensor.ByteSize() > 1000]
    for tensor in reversed(large):
        shape = numpy_helper.from_array(numpy_helper.to_array(_dims(tensor)), f"{tensor.name}_shape")
        value = helper.make_tensor("v", tensor.data_type, [1], [1])
        graph.node.insert(0, helper.make_node("ConstantOfShape", [shape.name], [tensor.name], value=value))
        graph.initializer.remove(tensor)
        graph.initializer.append(shape)
    return model.SerializeToString()


def _dims(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return helper.make_tensor("shape", onnx.TensorProto.INT64, [len(tensor.dims)], list(tensor.dims))


def made(seeds: list[Seed], seed: int, index: int, *, nasty: bool = True) -> tuple[str, bytes]:
    """The mutant of that index, and what it was made of; the first ones are the nasty models themselves."""
    harmful = list(nasty_models.NASTY) if nasty else []
    if index < len(harmful):
        return harmful[index], nasty_models.NASTY[harmful[index]]().SerializeToString()
    rng = Random(f"{seed}:{index}")
    weights = [1 / (1000 + len(one.data)) for one in seeds]
    chosen = seeds[index % len(seeds)] if index % 4 == 0 else rng.choices(seeds, weights)[0]
    return chosen.name, mutant(chosen.data, rng)


def accepted(path: Path, index: int) -> Graph | str:
    """What `mmcc check` makes of one model: "refused", or "! " and what is wrong."""
    unknown.inferred_types = inferred_types if index % INFERRED == 0 else _nothing_inferred
    try:
        graph = load_graph(path, CompileOptions())
    except CompileError as error:
        return _message_fault(error) or "refused"
    except BaseException as error:
        return f"! {type(error).__name__}: {str(error)[:300]}"
    if any(len(text.encode()) > MESSAGE for text in graph.warnings):
        return "! a warning above 4 KB"
    return graph


def compared(path: Path, graph: Graph, *, compiled: bool) -> str:
    """What became of an accepted model: "accepted", "compared", "compiled", or "! " and what is wrong."""
    if not fuzz_compare.is_small(graph):
        return "accepted"
    _say("oracle")
    wanted = fuzz_compare.oracle(path)
    _say("compare")
    if wanted is None:
        return "accepted"
    try:
        fault = fuzz_compare.fault_of(path, wanted, compiled=compiled)
    except BaseException as error:
        fault = f"{type(error).__name__}: {str(error)[:300]}"
    return f"! {fault}" if fault else "compiled" if compiled else "compared"


def _nothing_inferred(*_: object) -> dict[str, onnx.TypeProto]:
    """In place of shape inference, which starts a process for each model: one in INFERRED has it."""
    return {}


def _message_fault(error: CompileError) -> str:
    text = str(error)
    if len(text.encode()) > MESSAGE:
        return f"! a message of {len(text.encode())} bytes"
    if not all(c.isprintable() or c == "\n" for c in text):
        return "! a message that cannot be printed"
    return ""


def _say(text: str) -> None:
    """One line to the parent: what this worker is at, in case it does not come back."""
    os.write(1, (text.replace("\n", " ") + "\n").encode())


def work(args: argparse.Namespace, seeds: list[Seed], indices: range) -> None:
    """Run some mutants in this process; what happens is told line by line on standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # what was imported is never garbage: without this each collection takes longer than a mutant
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a disk takes longer than small mutants
    with tempfile.TemporaryDirectory(prefix="mmcc-fuzz-", dir=memory) as folder:
        path = Path(folder) / "model.onnx"
        for index in indices:
            name, data = made(seeds, args.seed, index, nasty=args.nasty)
            path.write_bytes(data)
            _say(f"begin {index} {name}")
            spent = int(sum(os.times()[:2]))
            resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS + 1, resource.RLIM_INFINITY))
            before, base = time.process_time(), _peak(reset=True)
            what = accepted(path, index)
            seconds = time.process_time() - before
            if seconds > CPU_SECONDS:
                what = f"! {seconds:.1f} seconds"
            if _peak() - base > MEMORY:
                what = f"! {(_peak() - base) >> 20} MiB"
            if not isinstance(what, str):
                every = args.compile_every
                what = compared(path, what, compiled=every > 0 and index % every == 0)
            _say(f"end {index} {what}")


def _peak(*, reset: bool = False) -> int:
    """Most memory that this process had resident, in bytes; `reset` to what it has now."""
    if reset:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def batches(args: argparse.Namespace, seeds: list[Seed]) -> Iterator[tuple[int, str, str]]:
    """(index, model it was made of, outcome) of every mutant; a worker that dies is one, too."""
    first, last = args.first, args.first + args.mutants
    while first < last:
        end = min(first + BATCH, last)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.dup2(writer, 1)
            if not args.verbose:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = 1
            try:
                work(args, seeds, range(first, end))
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        index, name, stage = first, "", "start"
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                word, _, rest = line.strip().partition(" ")
                stage = word
                if word == "begin":
                    number, _, name = rest.partition(" ")
                    index = int(number)
                elif word == "end":
                    yield index, name, rest.partition(" ")[2]
                    index += 1
        _, status = os.waitpid(child, 0)
        if stage == "oracle":  # ONNX Runtime's own affair
            yield index, name, "accepted"
            index += 1
        elif stage in ("begin", "compare", "start"):
            signal = os.waitstatus_to_exitcode(status)
            yield index, name, f"! the process ended ({signal}) at {stage}; -24 is {CPU_SECONDS} s"
            index += 1
        first = index


def main(argv: list[str] | None = None) -> int:
    """Run the campaign; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared", type=Path, help="folder with models/ beside the project, if it is there")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz_frontend"), help="where findings go")
    parser.add_argument("--compile-every", type=int, default=200, help="accepted mutants that become C")
    parser.add_argument("--first", type=int, default=0, help="the index to begin with")
    parser.add_argument("--only", type=int, help="the mutant of one index")
    parser.add_argument("--no-nasty", dest="nasty", action="store_false", help="mutants only")
    parser.add_argument("--verbose", action="store_true", help="show what workers print")
    args = parser.parse_args(argv)
    if args.shared is not None and not args.shared.is_dir():
        parser.error(f"there is no folder {args.shared}")
    if args.only is not None:
        args.first, args.mutants = args.only, 1
    seeds, tally, begun = corpus(args.shared), Tally(), time.monotonic()
    span = f"{args.first:,} to {args.first + args.mutants - 1:,}"
    print(f"{args.mutants:,} mutants ({span}) of {len(seeds)} models, seed {args.seed}", flush=True)
    for index, name, what in batches(args, seeds):
        tally.outcomes["findings" if what[0] == "!" else what] += 1
        if what[0] == "!":
            tally.findings[index] = what
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"{args.seed}_{index}.onnx").write_bytes(
                made(seeds, args.seed, index, nasty=args.nasty)[1]
            )
            print(f"{args.seed}:{index} of {name}: {what[2:]}", flush=True)
        if sys.stderr.isatty() and index % 50 == 0:
            print(f"\r\x1b[K{index - args.first:,} of {args.mutants:,}: {tally}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(f"{tally}; {time.monotonic() - begun:.0f} s")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
