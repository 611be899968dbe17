# SPDX-License-Identifier: Apache-2.0
"""A package's report as a page, with what takes longer than a compile may: frontier, counts in QEMU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmcc.boards import load_board
from mmcc.driver.analyze import analyze
from mmcc.driver.options import Progress
from mmcc.errors import CompileError, Exit
from mmcc.output_file import check_file, write_file
from mmcc.package.record import Package, load_package
from mmcc.report.html import render_html
from mmcc.verification.bench import bench_qemu
from mmcc.verification.cycles import bench_cycles
from mmcc.verification.oracle import find_model


def write_page(
    folder: Path, page: Path, *, frontier: bool, measured: bool, board: str | None, progress: Progress
) -> None:
    """Write the page of the package in `folder`; of linked models, with what was asked for of each.

    CompileError for what its parts cannot be had from.
    """
    models = load_package(folder).looked_at()
    check_file(page, "-o")
    try:
        report = json.loads((folder / "report.json").read_text())
        frontiers, counts = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
        for name, package in models.items():
            if frontier:
                frontiers[name] = _frontier(package, progress)
            if measured:
                progress("counting instructions in QEMU")
                counts[name] = bench_qemu(folder, package)
            if board:
                progress("modelling the cycles of a board")
                modelled = bench_cycles(folder, package, load_board(board))
                counts[name] = counts.get(name, {}) | {"board": modelled}
        text = render_html(report, frontiers, counts)
    except (OSError, ValueError, KeyError) as error:
        what = f"{folder / 'report.json'} is damaged or was written by another version of mmcc"
        raise CompileError("MM004", what, exit=Exit.USAGE, hint="compile the model again") from error
    write_file(page, text, "-o")


def _frontier(package: Package, progress: Progress) -> dict[str, Any]:
    """What `mmcc analyze` finds of the package's model."""
    model = find_model(package, None)
    states = {state.port.onnx_name: state.output for state in package.states}
    dims, bind = dict(package.dims), dict(package.bind)
    return analyze(model, package.target, dims, bind, progress, states).to_json()
