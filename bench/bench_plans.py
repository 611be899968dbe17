# SPDX-License-Identifier: Apache-2.0
"""What the planner proves, and how long it takes: a table of models, with growth by nodes fitted.

    python bench/bench_plans.py [PATH ...] [--deep 250,1000] [--target cortex-m4] [--seconds 300] [--keep F]

Each PATH is an ONNX file or a folder that is searched for some; without any, the models beside the project.
With `--deep`, nets of so many ONNX nodes are made and measured instead or besides (`deep_networks.py`). A
model is planned node by node, then for the least RAM, and within 80 % and 60 % of what it needs node by node,
each in a process of its own with a limit of CPU seconds. Columns: kernels; bytes node by node; then for each:
bytes, a star where it is proved that none needs less (or costs less, within a limit), else how far the bound
is below, and CPU seconds of one worker. `none` means that no plan is within the limit, with a star where that
is proved. Plans of least RAM are replayed by the checker, which is not in their seconds.

With `--keep`, the figures of each model are added to a file as they are made, with the trees in git of the
compiler's sources and the targets, and what it has of these and the same model is taken from there: so a
table may be made in parts, in any order, and again after a change of one model.

The last lines: shares that are proved, the largest gap, seconds, memory, and the exponent of a line through
the logarithms of seconds and kernels, over what took a tenth of a second or more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from deep_networks import deep_files
from mmcc.checker.plan import check_plan
from mmcc.driver.ask import MOST_RECOMPUTE
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.driver.promised import request_from
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.kernels.contract import contracts
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.request import PlanRequest
from mmcc.planner.riders import riders
from mmcc.target import load_target
from networks import SHARED

SOURCES = ("compiler", "targets")  # folders of what plans depend on beside the model
PARTS = ("80", "60")  # per cent of what a model needs node by node
FITTED = 0.1  # seconds: what took less says nothing about growth
LONG, LONGEST = 10.0, 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Planned:
    """One plan: its bytes, the limit (0: none), whether it is proved, CPU seconds.

    `gap` is how far it is above what no plan is below: its bytes, or within a limit its cost; 0 if it is
    proved, or nothing is known of that.
    """

    size: int
    limit: int
    gap: float
    proved: bool
    seconds: float

    def __str__(self) -> str:
        size = f"{self.size:,}" if not self.limit or self.size <= self.limit else "none"
        said = "*" if self.proved else f" -{100 * self.gap:.2g}%" if self.gap else "?"
        return f"{size}{said} {self.seconds:.1f}s"


@dataclass(frozen=True, slots=True)
class Row:
    """One model: kernels, bytes node by node, its plans by what was asked, MB of memory at most."""

    nodes: int
    alone: int
    plans: dict[str, Planned]
    megabytes: int


def measure(graph: Graph, request: PlanRequest) -> tuple[Plan, Planned]:
    """Plan, and what is to be said of it."""
    start = time.process_time()
    plan = best_plan(graph, request)
    seconds = time.process_time() - start
    size, limit = request.peak(plan), request.limit or 0
    within = size <= limit
    proved = plan.cheapest if limit and within else plan.bound > limit if limit else plan.proved_optimal
    gap = 0.0
    if not proved and not limit:
        gap = size / max(1, plan.bound) - 1
    elif not proved and within and plan.least_cost:
        gap = predicted(graph, plan, request) / plan.least_cost - 1
    return plan, Planned(size, limit, gap, proved, seconds)


def row(model: Path, target: str) -> Row:
    """The figures of one model; ValueError if the checker convicts a plan."""
    graph = separate_states(load_graph(model, CompileOptions(target=target)), outputs_outside=False)
    chip = load_target(target)
    request = replace(request_from(contracts(graph, chip)), cost=chip.cost)
    request = replace(request, riders=riders(graph, request.accumulators))
    alone, _ = measure(graph, replace(request, fuse=False))
    size = request.peak(alone)
    plan, least = measure(graph, request)
    if wrong := check_plan(graph, plan):
        raise ValueError("\n".join(wrong))
    plans = {"least": least}
    for part in PARTS:
        limit = size * int(part) // 100
        _, plans[part] = measure(graph, replace(request, limit=limit, recompute=MOST_RECOMPUTE))
    return Row(len(alone.groups), size, plans, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def in_process(model: Path, target: str, seconds: int) -> Row | str:
    """The figures of one model, made in a process that may take so many CPU seconds; else what went wrong."""
    command = [sys.executable, __file__, str(model), "--target", target, "--seconds", str(seconds), "--one"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode < 0:
        return f"not within {seconds} CPU seconds"
    if ran.returncode:
        return (ran.stderr.strip().splitlines() or ["?"])[-1]
    return as_row(json.loads(ran.stdout))


def only_one(model: Path, target: str, seconds: int) -> int:
    """Print the figures of one model, as JSON."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    try:
        print(json.dumps(asdict(row(model, target))))
    except CompileError as error:
        print(error.message.splitlines()[0], file=sys.stderr)
        return 1
    return 0


class Kept:
    """Figures that were made before, in a file with one JSON value a line; or nothing without a file."""

    def __init__(self, path: Path | None, of: Sequence[object]) -> None:
        """`of`: what figures depend on beside the model; others in the file are for others."""
        self._path, self._of = path, list(of)
        lines = path.read_text().splitlines() if path is not None and path.is_file() else []
        self._known = {tuple(key): made for key, made in map(json.loads, lines)}

    def row(self, model: Path, make: Callable[[], Row | str]) -> Row | str:
        """The figures of a model, or what went wrong; made if the file has none."""
        key = (*self._of, model.name, hashlib.sha256(model.read_bytes()).hexdigest())
        if self._path is None or key not in self._known:
            self._known[key] = made = make()
            if self._path is not None:
                with self._path.open("a") as file:
                    print(json.dumps([key, made if isinstance(made, str) else asdict(made)]), file=file)
            return made
        made = self._known[key]
        return made if isinstance(made, str) else as_row(made)


def as_row(made: Mapping[str, Any]) -> Row:
    """The figures of one model from what `asdict` makes of them."""
    plans = {what: Planned(**plan) for what, plan in made["plans"].items()}
    return Row(made["nodes"], made["alone"], plans, made["megabytes"])


def source_trees() -> list[str]:
    """The trees in git of what plans depend on; SystemExit if it is not as committed."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    changed = subprocess.run([*git, "status", "--porcelain", *SOURCES], capture_output=True, check=True)
    if changed.stdout:
        where = " or ".join(f"{folder}/" for folder in SOURCES)
        raise SystemExit(f"--keep says of which sources figures are: commit what changed in {where}")
    trees = [f"HEAD:{folder}" for folder in SOURCES]
    found = subprocess.run([*git, "rev-parse", *trees], capture_output=True, check=True, text=True)
    return found.stdout.split()


def models(paths: Sequence[Path]) -> Iterator[Path]:
    """ONNX files, the smallest first: so that there is something to read early."""
    found = {each for path in paths for each in ([path] if path.is_file() else path.rglob("*.onnx"))}
    yield from sorted(found, key=lambda path: (path.stat().st_size, path))


def summary(rows: Sequence[Row], failed: int) -> Iterator[str]:
    """The last lines of the table."""
    for what in ("least", *PARTS):
        plans = [each.plans[what] for each in rows]
        proved = sum(plan.proved for plan in plans)
        gaps = sorted(plan.gap for plan in plans if plan.gap)
        seconds = np.array([plan.seconds for plan in plans] or [0.0])
        line = f"{what:>6}: proved {proved} of {len(plans)} ({100 * proved / max(1, len(plans)):.1f} %)"
        line += f", largest gap {100 * gaps[-1]:.1f} %" if gaps else ""
        line += f"; {100 * np.mean(seconds <= LONG):.1f} % within {LONG:.0f} s, longest {seconds.max():.1f} s"
        yield f"{line}, {int(np.sum(seconds > LONGEST))} beyond {LONGEST:.0f} s"
        told = [(r.nodes, r.plans[what].seconds) for r in rows if r.plans[what].seconds >= FITTED]
        if len({nodes for nodes, _ in told}) > 1:
            nodes, took = np.log(np.array(told, float)).T
            slope, at = np.polyfit(nodes, took, 1)
            yield f"        seconds = {np.exp(at):.2g} x kernels^{slope:.2f}, over {len(told)} models"
    yield f"memory: at most {max((r.megabytes for r in rows), default=0)} MB; without figures: {failed}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--deep", default="", metavar="NODES,...")
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        return only_one(options.paths[0], options.target, options.seconds)
    of = (*source_trees(), options.target, options.seconds) if options.keep else ()
    kept = Kept(options.keep, of)
    columns = ("least RAM", *(f"within {part} %" for part in PARTS))
    print(f"{'model':44}{'kernels':>8}{'alone':>12}" + "".join(f"{head:>24}" for head in columns))
    with tempfile.TemporaryDirectory() as folder:
        deep = Path(folder, "deep")
        deep.mkdir()
        deep_files(deep, [int(nodes) for nodes in options.deep.split(",") if nodes])
        paths = [*options.paths, deep] if options.deep else options.paths
        table(paths or [SHARED / "models", SHARED / "cases"], options.target, options.seconds, kept)
    return 0


def table(paths: Sequence[Path], target: str, seconds: int, kept: Kept) -> None:
    """Print a line for each model, and the last lines."""
    rows: list[Row] = []
    failed = 0
    for model in models(paths):
        name = f"{model.parent.name}/{model.stem}".removesuffix("/model")[-43:]
        made = kept.row(model, partial(in_process, model, target, seconds))
        if isinstance(made, str):
            failed += 1
            print(f"{name:44}{made[:100]}", flush=True)
            continue
        rows.append(made)
        cells = "".join(f"{made.plans[what]!s:>24}" for what in ("least", *PARTS))
        print(f"{name:44}{made.nodes:>8}{made.alone:>12,}{cells}", flush=True)
    print(*summary(rows, failed), sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
