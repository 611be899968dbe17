"""Placement benchmark: buffers from CSV files (id,lower,upper,size; half-open) within a capacity.

    python bench/bench_placement.py [FOLDER] [--capacity 1048576]

Prints, for each file, the seconds our exact placement takes on one worker, beside two heuristics as
multiples of the live-range lower bound.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind
from mmcc.planner.placement import (
    Item,
    Problem,
    conflicts_of,
    first_fit,
    lower_bound,
    peak_of,
    place,
    skyline,
)

SHARED = Path(os.environ.get("MMCC_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured on one instance."""

    name: str
    buffers: int
    bound: int
    peak: int
    seconds: float
    skyline: int
    by_size: int

    def __str__(self) -> str:
        return (
            f"{self.name:24} {self.buffers:7} {self.bound:9} {self.peak:9} {self.seconds:8.2f} "
            f"{self.skyline / self.bound:8.2f}x {self.by_size / self.bound:8.2f}x"
        )


HEADER = (
    f"{'instance':24} {'buffers':>7} {'bound':>9} {'peak':>9} {'seconds':>8} {'skyline':>9} {'by size':>9}"
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
                ("sram",),
                align=1,
            )
            for row in csv.DictReader(file)
        ]


def measure(name: str, buffers: list[Buffer], capacity: int | None) -> Row:
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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, nargs="?", default=SHARED / "dsa")
    parser.add_argument("--capacity", type=int, default=1048576)
    options = parser.parse_args(arguments)
    print(HEADER)
    rows: list[Row] = []
    for path in sorted(options.folder.glob("*.csv")):
        rows.append(measure(path.stem, read_instance(path), options.capacity))
        print(rows[-1], flush=True)
    solved = sum(row.peak <= options.capacity for row in rows)
    slowest = max((row.seconds for row in rows), default=0.0)
    total = sum(row.seconds for row in rows)
    print(f"{solved} of {len(rows)} within {options.capacity}; {total:.1f} s in all, {slowest:.1f} s at most")
    return 0 if rows and solved == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
