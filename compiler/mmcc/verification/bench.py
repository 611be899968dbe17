# SPDX-License-Identifier: Apache-2.0
"""How much an inference costs: time here or in Node, exact instructions in QEMU, by node and by function."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmcc.package.host import host_model
from mmcc.package.record import Package
from mmcc.target import Target
from mmcc.toolchain.qemu import run_program
from mmcc.verification.board import Board, run_board
from mmcc.verification.compare import engine_target, run_qemu
from mmcc.verification.linked import timed_program
from mmcc.verification.samples import made_up, to_c
from mmcc.verification.streams import whole_inputs

REPEATS = 30
LEAST_SECONDS = 0.002  # of one timing: shorter runs are repeated within it


def bench_host(folder: Path, package: Package) -> dict[str, Any]:
    """Median processor time of one inference on this machine, in milliseconds."""
    model = host_model(folder, package)
    model.run(to_c(package.inputs, package.tensors, made_up(package.inputs, 1)[0]), package.entry)
    began = time.process_time()
    model.run_only(package.entry)
    inner = max(1, round(LEAST_SECONDS / max(time.process_time() - began, 1e-7)))
    times: list[float] = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(inner):
            model.run_only(package.entry)
        times.append((time.process_time() - began) / inner * 1e3)
        if sum(times) * inner > 20e3:
            break
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return {
        "milliseconds": statistics.median(times),
        "low": quartiles[0],
        "high": quartiles[2],
        "runs": len(times),
    }


def bench_wasm(folder: Path, package: Package) -> dict[str, Any]:
    """Median processor time of one inference in an engine of WebAssembly that is warm, in milliseconds."""
    target = engine_target(package)
    return times_of(timed_program(folder, package), target)


def times_of(program: Path, target: Target) -> dict[str, Any]:
    """What `timed_program` says of a run: median and quartiles, in milliseconds."""
    said = run_program(program, target, program.parent, timeout=1800.0)
    times = [int(found) / 1e6 for found in re.findall(r"^time (\d+)$", said, re.MULTILINE)]
    low, middle, high = statistics.quantiles(times, n=4)
    return {"milliseconds": middle, "low": low, "high": high, "runs": len(times)}


def bench_qemu(folder: Path, package: Package, *, profile: bool = False) -> dict[str, Any]:
    """Exact instructions of one inference, most stack used, and the share of each node or group of nodes."""
    samples = made_up(whole_inputs(package), 1)
    _, plain = run_qemu(folder, package, samples, profile=profile)
    _, hooked = run_qemu(folder, package, samples, hooks=True)
    shares = hooked.by_node()
    result: dict[str, Any] = {
        "instructions": plain.instructions[0] if plain.instructions else None,
        "stack": plain.stack_bytes,
        "per_node": [
            {**row, "instructions": shares[index]}
            for index, row in counted_nodes(folder, package).items()
            if index in shares
        ],
    }
    if profile and plain.profile:
        result["functions"] = dict(plain.profile.functions)
        result["mnemonics"] = dict(plain.profile.mnemonics)
        result["accesses"] = {
            name: {"read": read, "written": written} for name, (read, written) in plain.accesses.items()
        }
    return result


def bench_board(folder: Path, package: Package, port: str, baud: int) -> dict[str, Any]:
    """Cycles of one inference on a board at a serial line, and the share of each node or group of nodes."""
    with Board(package, port, baud) as board:
        _, runs = run_board(board, made_up(whole_inputs(package), 1))
    shares = runs[0].by_node
    return {
        "cycles": runs[0].cycles,
        "per_node": [
            {**row, "cycles": sum(shares.get(node, 0) for node in row["nodes"])}
            for row in counted_nodes(folder, package).values()
            if shares
        ],
    }


def counted_nodes(folder: Path, package: Package) -> dict[int, dict[str, Any]]:
    """What is counted together, by the node that it is counted as: the first of a group that has code.

    Each has its "index", all "nodes" of the group, and in "op" the operators that it begins and ends with.
    """
    whole = json.loads((folder / "report.json").read_text())
    report = (whole, *whole["entries"])[package.entry]
    names = {node["index"]: node["op"] for node in report["nodes"]}
    rows: dict[int, dict[str, Any]] = {}
    for group in report["plan"]["groups"]:
        numbers = (report["first_node"] + index for index in group)
        nodes = [index for index in numbers if index in names]
        if nodes:
            ops = [names[index] for index in (nodes[0], nodes[-1])]
            op = ops[0] if len(nodes) == 1 else " .. ".join(ops)
            rows[nodes[0]] = {"index": nodes[0], "nodes": nodes, "op": op}
    return rows


def numbers(nodes: Sequence[int]) -> str:
    """Numbers in order, runs of them shortened: 0..6, 8."""
    runs: list[list[int]] = []
    for node in sorted(nodes):
        if runs and node == runs[-1][-1] + 1:
            runs[-1].append(node)
        else:
            runs.append([node])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
