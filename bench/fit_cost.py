# SPDX-License-Identifier: Apache-2.0
"""Fit the figures of a target's [cost] table to what layers take, and say how well they predict.

    python bench/fit_cost.py --target cortex-m4 [--board NAME] [--small-frames] [--models DIR] [--json FILE]

Compiles networks without fusion, counts each layer in QEMU, and solves for the figures by least squares, none
of them negative. Then compares predicted and counted work of whole networks, without a limit and, by the
target's figures for small frames, at the least RAM. With --small-frames it is these that are fitted.

Counted are exact instructions; with --board, a board with the target's core, the core's cycles by its model,
without those that flash makes it wait: all boards with this core take them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmcc.boards import BoardModel, load_board
from mmcc.driver.compile import CompileResult, compile_model
from mmcc.driver.cost import cost_of
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.package.record import load_package
from mmcc.planner.cost import plan_cost, quantities, row_figure
from mmcc.target import Target, load_target
from mmcc.verification.bench import bench_qemu
from mmcc.verification.cycles import bench_cycles, bench_node_cycles

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MMCC_SHARED") or ROOT.parent / "shared")
NETWORKS = [
    *("kws_dscnn_int8_qdq", "ic_resnet8_int8_qdq", "vww_mbv1_int8_qdq", "ad_autoenc_int8_qdq"),
    *("mcunet_vww_int8_qdq", "gen_mobilenetv2_035_144_qdq_s8s8", "kws_dscnn_fp32", "ic_resnet8_fp32"),
]
CALL = 40.0  # of a kernel, instructions; too few calls to fit
CALL_CYCLES = 60.0  # the same by an instruction's usual cycles, up to 1.5


def features(graph: Graph, index: int) -> dict[str, float]:
    """How often each figure counts in one node that runs alone."""
    node = graph.nodes[index]
    shape = graph.tensors[node.output].shape
    return quantities(graph, node) | {row_figure(graph, node): shape[0] if len(shape) >= 2 else 1}


def layers(result: CompileResult, board: BoardModel | None) -> Iterator[tuple[dict[str, float], float]]:
    """Features of each layer, and its counted instructions or, on a board, its core's cycles."""
    package = load_package(result.folder)
    if board is None:
        rows, unit = bench_qemu(result.folder, package)["per_node"], "instructions"
    else:
        rows, unit = bench_node_cycles(result.folder, package, board), "core"
    for entry in rows:
        yield features(result.graph, entry["index"]), float(entry[unit])


def whole(result: CompileResult, board: BoardModel | None) -> float:
    """Counted instructions of a network or, on a board, its core's cycles."""
    package = load_package(result.folder)
    if board is None:
        return bench_qemu(result.folder, package)["instructions"]
    return bench_cycles(result.folder, package, board)["core"]


def fit(rows: Sequence[tuple[dict[str, float], float]], call: float = CALL) -> dict[str, float]:
    """Figures with the least relative error, none negative (those that would be are left out).

    `call` is the figure of a kernel's call, which is taken off before.
    """
    names = sorted({name for counts, _ in rows for name in counts})
    a = np.array([[counts.get(name, 0.0) for name in names] for counts, _ in rows])
    y = np.maximum(np.array([count for _, count in rows]) - call, 1.0)
    weight = 1 / y  # a large layer of one network must not speak for all small ones
    used = list(range(len(names)))
    while True:
        solution = np.linalg.lstsq(a[:, used] * weight[:, None], y * weight, rcond=None)[0]
        if (solution >= 0).all():
            break
        used.remove(used[int(solution.argmin())])
    found = {names[k]: round(float(value), 3) for k, value in zip(used, solution, strict=True)}
    return {name: found.get(name, 0.0) for name in names} | {"call": call}


def compared(
    options: argparse.Namespace,
    target: Target,
    board: BoardModel | None,
    figures: dict[str, float],
    plain: dict[str, CompileResult],
) -> Iterator[list[str | float]]:
    """Print a line for each network and way, and give it: the network, the way, what was counted, and what
    the fitted figures and the target's own predict of it, as ratios.

    `plain`: the networks without fusion, by name, each in a folder; that of the least RAM lies beside it.
    """
    of_small = cost_of(replace(target, small_frames=True))
    of_least = figures if options.small_frames else {**figures, **target.cost_of_small_frames}
    table = of_small if options.small_frames else target.cost
    for name, layered in plain.items():
        path, folder = options.models / name / "model.onnx", layered.folder.with_name(f"{name}_min")
        fused = compile_model(path, folder, CompileOptions(target=options.target, name="net", least_ram=True))
        for what, result, by, before in (
            ("layers", layered, figures, table),
            ("least RAM", fused, of_least, of_small),
        ):
            counted = whole(result, board)
            ratio = plan_cost(result.graph, result.plan, by) / counted
            old = plan_cost(result.graph, result.plan, before) / counted
            print(f"{name:<36}{what:<10}{counted:>13,.0f}  {ratio:.3f}  (table: {old:.3f})", flush=True)
            yield [name, what, counted, ratio, old]


def main(arguments: list[str]) -> int:
    """Print the fitted table, and predicted against counted for each network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--board", help="whose core's cycles to fit")
    parser.add_argument("--small-frames", action="store_true")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    target = load_target(options.target)
    board = load_board(options.board) if options.board else None
    networks = [name for name in NETWORKS if (options.models / name / "model.onnx").is_file()]
    if not networks:
        print(f"no models below {options.models}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        fitted = Path(folder) / "fitted.toml"
        fitted.write_text(
            f'same_as = "{options.target}"\nsmall_frames = {str(options.small_frames).lower()}\n'
        )
        plain, rows = {}, []
        for name in networks:
            path = options.models / name / "model.onnx"
            given = CompileOptions(target=str(fitted), name="net")
            plain[name] = compile_model(path, Path(folder) / name, given)
            rows += layers(plain[name], board)
        figures = fit(rows, CALL if board is None else CALL_CYCLES)
        print(f"# {options.target}, fitted to {len(rows)} layers")
        print(f'cost_unit = "{"instructions" if board is None else "cycles"}"')
        print("[cost_of_small_frames]" if options.small_frames else "[cost]")
        known = target.cost if options.small_frames else {}  # what does not differ is not said twice
        print("\n".join(f"{name} = {value}" for name, value in figures.items() if known.get(name) != value))
        report = list(compared(options, target, board, figures, plain))
    if options.json:
        options.json.write_text(json.dumps({"figures": figures, "networks": report}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
