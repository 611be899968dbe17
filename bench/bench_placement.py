# SPDX-License-Identifier: Apache-2.0
"""Placement alone: buffers with live ranges, and how few bytes they can be placed in.

    python bench/bench_placement.py [FOLDER] [--capacity 1048576] [--networks NAMES] [--json FILE]

First the instances of FOLDER (CSV files: id,lower,upper,size; half-open), to be placed within the capacity.
Then the model set (--networks: all, none, or names with commas), in as few bytes as possible: live ranges of
one inference, and of one training step for float networks; `live_ranges.py` says how these are derived.

Columns: buffers; the live-range lower bound (most bytes alive at once); our peak, * where it is proved that
none is lower; its seconds on one worker; beside that two heuristics as multiples of the bound: the best fit
of Sekiyama et al. 2018 (arXiv:1804.10001), and first fit by size.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from live_ranges import inference, training
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind
from mmcc.ir.regions import SRAM
from mmcc.passes import optimize
from mmcc.planner.memory.heuristics import conflicts_of, first_fit, skyline
from mmcc.planner.memory.lower_bound import lower_bound
from mmcc.planner.memory.placement import place
from mmcc.planner.memory.problem import Item, Problem, peak_of
from networks import SHARED, model_file, names, progress


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured on one instance."""

    name: str
    buffers: int
    bound: int
    peak: int
    proved: bool
    seconds: float
    best_fit: int
    by_size: int

    def __str__(self) -> str:
        peak = f"{self.peak:,}{'*' if self.proved else ' '}"
        return (
            f"{self.name:48} {self.buffers:7} {self.bound:12,} {peak:>13} {self.seconds:8.2f} "
            f"{_times(self.best_fit, self.bound)} {_times(self.by_size, self.bound)}"
        )


def _times(size: int, bound: int) -> str:
    return f"{size / bound:8.3f}x" if bound else f"{'-':>9}"


HEADER = (
    f"{'instance':48} {'buffers':>7} {'bound':>12} {'ours':>13} {'seconds':>8} {'best fit':>9} {'by size':>9}"
)


def read_instance(path: Path) -> list[Buffer]:
    """The buffers of one CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Buffer(
                row["id"],
                BufferKind.TENSOR,
                int(row["size"]),
                Span(int(row["lower"]), int(row["upper"])),
                (SRAM,),
                align=1,
            )
            for row in csv.DictReader(file)
        ]


def measure(name: str, buffers: list[Buffer], capacity: int | None = None) -> Row:
    """Place one instance exactly and by two heuristics; check the result pair by pair."""
    problem = Problem(tuple(Item(b.size, b.align, b.live.lo, b.live.hi) for b in buffers))
    start = time.perf_counter()
    placement = place(buffers, capacity=capacity)
    seconds = time.perf_counter() - start
    check(buffers, placement.offsets)
    by_size = sorted(range(len(buffers)), key=lambda k: (-buffers[k].size, k))
    greedy = first_fit(problem, by_size, conflicts_of(problem))
    return Row(
        name,
        len(buffers),
        lower_bound(problem),
        placement.peak,
        placement.proved,
        seconds,
        peak_of(problem, skyline(problem)),
        peak_of(problem, greedy),
    )


def check(buffers: list[Buffer], offsets: dict[str, int]) -> None:
    """Raise ValueError if two buffers that live together share a byte."""
    for n, a in enumerate(buffers):
        for b in buffers[:n]:
            together = a.live.lo < b.live.hi and b.live.lo < a.live.hi
            apart = offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]
            if together and not apart:
                raise ValueError(f"{a.name} and {b.name} overlap")


def live_ranges(name: str) -> Iterator[tuple[str, list[Buffer]]]:
    """What is to be placed for one network: an inference, and a training step if it is float.

    Nothing, if the compiler does not support the network.
    """
    try:
        graph = import_model(model_file(name))
        whole = graph if _is_float(graph) else optimize(graph)
    except CompileError as error:
        print(f"{name:48} not imported: {error.message}")
        return
    yield f"{name}, inference", inference(whole)
    if whole is graph:
        yield f"{name}, training", training(graph)


def _is_float(graph: Graph) -> bool:
    return all(graph.tensors[name].dtype.is_float for node in graph.nodes for name in node.outputs)


def chosen(which: str) -> list[str]:
    """The networks that --networks names."""
    return [] if which == "none" else names() if which == "all" else which.split(",")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, nargs="?", default=SHARED / "dsa")
    parser.add_argument("--capacity", type=int, default=1048576)
    parser.add_argument("--networks", default="all", help="all, none, or names with commas")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args(arguments)
    print(HEADER)
    rows: list[Row] = []
    for path in sorted(options.folder.glob("*.csv")):
        progress(f"placing {path.stem}")
        rows.append(measure(path.stem, read_instance(path), options.capacity))
        progress("")
        print(rows[-1], flush=True)
    solved = sum(row.peak <= options.capacity for row in rows)
    print(f"{solved} of {len(rows)} within {options.capacity}; {_seconds(rows)}")
    graphs: list[Row] = []
    for name in chosen(options.networks):
        progress(f"reading {name}")
        for title, buffers in live_ranges(name):
            progress(f"placing {title}")
            graphs.append(measure(title, buffers))
            progress("")
            print(graphs[-1], flush=True)
    if graphs:
        proved = sum(row.proved for row in graphs)
        best = sum(row.best_fit == row.peak for row in graphs)
        print(f"{proved} of {len(graphs)} proved optimal; {_seconds(graphs)}; best fit is as low in {best}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows + graphs], indent=1) + "\n")
    return 0 if rows and solved == len(rows) else 1


def _seconds(rows: list[Row]) -> str:
    total, slowest = sum(row.seconds for row in rows), max((row.seconds for row in rows), default=0.0)
    return f"{total:.1f} s in all, {slowest:.1f} s at most"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
