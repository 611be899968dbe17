# SPDX-License-Identifier: Apache-2.0
"""Modelled cycles of the networks of MLPerf Tiny on boards, beside what is published for these.

    python bench/bench_boards.py [--boards nucleo-l4r5zi ...] [--ram BYTES] [--flash BYTES]
                                 [--no-weights-in-ram] [NAME ...]

With --ram networks are compiled for the board's chip: kernels are lent what the limit leaves, which makes
them faster, and init copies weights to what is left then. With --flash, too, weights may be stored in a
larger form that takes fewer products. Without --ram they are compiled for the board's core.

Published software cannot be run here, so the model is held to how boards relate: one factor a network
between mmcc and ST Edge AI 9.0, the same on all boards that it was published for; the rest is the error. It
is printed for the core's cycles alone, and with what flash makes it wait, which depends on how each software
reads weights.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmcc.boards import BoardModel, list_boards, load_board
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.record import load_package
from mmcc.verification.cycles import bench_cycles
from networks import model_file, progress

NETWORKS = {
    "kws": "kws_dscnn_int8_qdq",
    "resnet8": "ic_resnet8_int8_qdq",
    "vww": "vww_mbv1_int8_qdq",
    "ad": "ad_autoenc_int8_qdq",
}
REFERENCE = "ST Edge AI 9.0 (v1.2)"


def measure(network: str, board: BoardModel, folder: Path, **limits: Any) -> dict[str, Any]:
    """Cycles of a network on a board, compiled within `limits`, options of CompileOptions."""
    progress(f"{network} on {board.name}")
    target = board.chip if limits["ram"] else board.core
    options = CompileOptions(name="n", target=target, **limits)
    compile_model(model_file(NETWORKS[network]), folder, options)
    return bench_cycles(folder, load_package(folder), board)


def published(board: BoardModel, network: str, software: str = REFERENCE) -> float:
    """Millions of cycles; 0 if there are none."""
    return next((getattr(row, network) for row in board.published if row.software == software), 0.0)


def deviation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How far one factor between both is off at most, as a share."""
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    mean = sum(logs) / len(logs)
    return math.exp(max(abs(each - mean) for each in logs)) - 1


def report(
    found: dict[tuple[str, str], dict[str, Any]], boards: Sequence[BoardModel], names: Sequence[str]
) -> None:
    for board in boards:
        print(f"\n{board.description}, {board.clock_mhz:g} MHz; millions of cycles")
        print(f"  {'':<8} {'instr.':>7} {'core':>7} {'flash':>7} {'cycles':>7} {'ms':>8}  published")
        for name in names:
            row = found[name, board.name]
            waits = row["code_waits"] + row["data_waits"]
            rows = [f"{getattr(p, name):g} {p.software}" for p in board.published if getattr(p, name)]
            figures = [row["instructions"], row["core"], waits, row["cycles"]]
            print(f"  {name:<8}", *(f"{f / 1e6:7.2f}" for f in figures), end=" ")
            print(f"{row['milliseconds']:8.2f}  {' · '.join(rows)}")
    held = [board for board in boards if published(board, "kws")]
    if len(held) > 1:
        print(f"\nOne factor a network between mmcc and {REFERENCE} on {', '.join(b.name for b in held)}:")
        for name in names:
            theirs = [published(board, name) for board in held]
            both = [[found[name, board.name][what] for board in held] for what in ("core", "cycles")]
            core, whole = (deviation(ours, theirs) for ours in both)
            print(f"  {name:<8} core within {core:.1%}, with flash {whole:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--boards", nargs="+", default=list_boards())
    parser.add_argument("--ram", type=int, default=0)
    parser.add_argument("--flash", type=int, default=0)
    parser.add_argument("--no-weights-in-ram", action="store_true")
    asked = parser.parse_args()
    in_ram = False if asked.no_weights_in_ram else None
    limits = {"ram": asked.ram, "flash": asked.flash, "weights_in_ram": in_ram}
    boards = [load_board(name) for name in asked.boards]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="mmcc-bench-") as scratch:
        for name in asked.names:
            for board in boards:
                folder = Path(scratch) / f"{name}-{board.core}"
                found[name, board.name] = measure(name, board, folder, **limits)
    progress("")
    report(found, boards, asked.names)


if __name__ == "__main__":
    main()
