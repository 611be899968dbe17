# SPDX-License-Identifier: Apache-2.0
"""Modelled cycles of an inference on a board: instructions as QEMU executes them, and the board's flash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmcc.boards import BoardModel
from mmcc.errors import CompileError, Exit
from mmcc.package.record import Package
from mmcc.target import Target, load_target
from mmcc.toolchain.cycles.model import core_of, cycles, cycles_by_node
from mmcc.verification.bench import counted_nodes
from mmcc.verification.compare import run_qemu
from mmcc.verification.samples import made_up
from mmcc.verification.streams import whole_inputs


def bench_cycles(folder: Path, package: Package, board: BoardModel) -> dict[str, Any]:
    """Cycles and milliseconds of one inference on a board, and what they consist of.

    CompileError where the package is for another core, or its core has no model.
    """
    target = _target_on(board, package)
    _, run = run_qemu(folder, package, made_up(whole_inputs(package), 1), board=board)
    assert run.executed is not None
    found = cycles(run.executed, target, board)
    return {
        "board": board.name,
        "description": board.description,
        "error": board.error,
        "clock_mhz": board.clock_mhz,
        "instructions": run.instructions[0],
        "cycles": round(found.total),
        "milliseconds": found.total / (board.clock_mhz * 1e3),
        "core": round(found.core),
        "code_waits": round(found.code_waits),
        "data_waits": round(found.data_waits),
        "functions": {name: round(spent) for name, spent in found.functions.items()},
        "kinds": dict(found.kinds),
    }


def _target_on(board: BoardModel, package: Package) -> Target:
    """The target of a package; CompileError where the board has another core, or its core has no model."""
    target = load_target(package.target)
    core_of(board)
    if not board.runs(target):
        what = f"{board.name} has a {board.core}; the package is for {package.target}"
        raise CompileError("MM002", what, exit=Exit.USAGE, hint=f"compile with --target {board.core}")
    return target


def bench_node_cycles(folder: Path, package: Package, board: BoardModel) -> list[dict[str, Any]]:
    """Cycles of each node or group of nodes of one inference on a board: of the core, and with waits.

    What calls of the hook add to the model's own code is in them, a few cycles each. CompileError as of
    `bench_cycles`.
    """
    target = _target_on(board, package)
    _, run = run_qemu(folder, package, made_up(whole_inputs(package), 1), hooks=True, board=board)
    assert run.executed is not None
    found = cycles_by_node(run.executed, target, board)
    return [
        {**row, "core": round(found[index].core), "cycles": round(found[index].total)}
        for index, row in counted_nodes(folder, package).items()
        if index in found
    ]
