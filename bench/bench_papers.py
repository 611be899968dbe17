# SPDX-License-Identifier: Apache-2.0
"""Papers' experiments on the networks beside the project, each with what the paper claims.

    python bench/bench_papers.py [--only mafat,mmcnn,sekiyama,review,hascoet,monet,poet,resnet50]
        [--seconds N] [--networks NAMES] [--json FILE]

`papers_mafat.py` and its neighbours say what is measured. --seconds are for mafat's
sweep, the longest part; --networks are sekiyama's (all, or names with commas).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import papers_mafat
import papers_mmcnn
import papers_review
import papers_sekiyama
import papers_training
from bench_placement import chosen
from networks import MODELS, progress

Row = papers_mafat.AtLimit | papers_mmcnn.Row | papers_sekiyama.Row | papers_review.Row | papers_training.Row


def show(header: str, rows: Iterable[Row]) -> list[Row]:
    """Print a table as it is made."""
    print(header, flush=True)
    found: list[Row] = []
    for row in rows:
        progress("")
        print(row, flush=True)
        found.append(row)
    return found


def mafat(options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="mmcc-papers-") as folder:
        network, limits = papers_mafat.YOLO, papers_mafat.LIMITS
        rows = show(papers_mafat.HEADER, papers_mafat.sweep(network, limits, options.seconds, Path(folder)))
    print(papers_mafat.LEGEND)
    return rows


def mmcnn(_: argparse.Namespace) -> list[Row]:
    rows = show(papers_mmcnn.HEADER, papers_mmcnn.run())
    print(papers_mmcnn.LEGEND)
    return rows


def sekiyama(options: argparse.Namespace) -> list[Row]:
    rows = show(papers_sekiyama.HEADER, papers_sekiyama.run(chosen(options.networks)))
    print(papers_sekiyama.summary([row for row in rows if isinstance(row, papers_sekiyama.Row)]))
    return rows


def review(_: argparse.Namespace) -> list[Row]:
    return show(papers_review.HEADER, papers_review.run())


def training(name: str, _: argparse.Namespace) -> list[Row]:
    return show(papers_training.HEADER, papers_training.run(papers_training.SETTINGS[name]))


PAPERS: dict[str, tuple[str, Callable[[argparse.Namespace], list[Row]]]] = {
    "mafat": (papers_mafat.CLAIM, mafat),
    "mmcnn": (papers_mmcnn.CLAIM, mmcnn),
    "sekiyama": (papers_sekiyama.CLAIM, sekiyama),
    "review": (papers_review.CLAIM, review),
    **{name: (claim, partial(training, name)) for name, claim in papers_training.CLAIMS.items()},
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(PAPERS), help="names with commas")
    parser.add_argument("--networks", default="all", help="of sekiyama: all, or names with commas")
    parser.add_argument("--seconds", type=float, default=300.0, help="for mafat's sweep, at most")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args(arguments)
    names: list[str] = options.only.split(",")
    unknown = sorted(set(names) - set(PAPERS))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(PAPERS)}")
    if not MODELS.is_dir():
        print(f"the shared models are not at {MODELS} (set MMCC_SHARED)")
        return 0
    tables: dict[str, Any] = {}
    for name in names:
        claim, measure = PAPERS[name]
        print(claim)
        tables[name] = {"claim": claim, "rows": [asdict(row) for row in measure(options)]}
        print(flush=True)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
