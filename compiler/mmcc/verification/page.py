# SPDX-License-Identifier: Apache-2.0
"""A package's report as a page, with what takes longer than a compile may: frontier, counts in QEMU."""

from __future__ import annotations

import json
from pathlib import Path

from mmcc.boards import load_board
from mmcc.driver.analyze import analyze
from mmcc.driver.options import Progress
from mmcc.errors import CompileError, Exit
from mmcc.output_file import check_file, write_file
from mmcc.package.record import load_package
from mmcc.report.html import render_html
from mmcc.verification.bench import bench_qemu
from mmcc.verification.cycles import bench_cycles
from mmcc.verification.oracle import find_model


def write_page(
    folder: Path, page: Path, *, frontier: bool, measured: bool, board: str | None, progress: Progress
) -> None:
    """Write the page of the package in `folder`; CompileError for what its parts cannot be had from."""
    package = load_package(folder)
    check_file(page, "-o")
    try:
        report = json.loads((folder / "report.json").read_text())
        found = None
        if frontier:
            model = find_model(package, None)
            states = {state.port.onnx_name: state.output for state in package.states}
            found = analyze(model, package.target, dict(package.dims), dict(package.bind), progress, states)
        if measured:
            progress("counting instructions in QEMU")
        counts = bench_qemu(folder, package) if measured else {}
        if board:
            progress("modelling the cycles of a board")
            counts |= {"board": bench_cycles(folder, package, load_board(board))}
        text = render_html(report, found.to_json() if found else None, counts or None)
    except (OSError, ValueError, KeyError) as error:
        what = f"{folder / 'report.json'} is damaged or was written by another version of mmcc"
        raise CompileError("MM004", what, exit=Exit.USAGE, hint="compile the model again") from error
    write_file(page, text, "-o")
