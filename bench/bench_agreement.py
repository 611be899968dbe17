# SPDX-License-Identifier: Apache-2.0
"""`mmcc verify` and `verify --per-node` of every model, with and without groups: what they say, as a table.

    python bench/bench_agreement.py ../shared/models ../shared/cases/trust [--most-macs 300000000]

Every package is right as far as anybody knows, so each line should say ok; what does not is a bug of the
compiler or of the judgement. Models with more multiply-accumulates than --most-macs are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmcc.driver.compile import compile_model
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.report.model import count_macs
from mmcc.verification.verify import VerifyOptions, verify_package

PLANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "min": {"least_ram": True},
    "float io": {"float_io": True},
}
STACK = 1024  # vouched for: not what is measured here


def models_in(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        found = sorted(folder.rglob("*.onnx")) if folder.is_dir() else [folder]
        yield from (path for path in found if "nodetests" not in path.parts)


def name_of(path: Path) -> str:
    return path.parent.name if path.stem == "model" else path.stem


def line_of(path: Path, dims: dict[str, int], plan: dict[str, Any], samples: int) -> str:
    """One row: what both ways of verify say, and how the nodes compare."""
    with tempfile.TemporaryDirectory(prefix="mmcc-agreement-") as scratch:
        options = CompileOptions(name="net", stack=STACK, time_limit=2.0, dims=dims, **plan)
        try:
            folder = compile_model(path, Path(scratch) / "net", options).folder
            data = path.with_name("inputs.npz") if path.stem == "model" else path.with_suffix(".npz")
            given = VerifyOptions(data=data, limit=samples) if data.is_file() else VerifyOptions()
            whole = verify_package(folder, given, lambda *_: None)
            nodes = verify_package(
                folder,
                VerifyOptions(data=given.data, limit=given.limit, per_node=True),
                lambda *_: None,
            )
        except CompileError as error:
            return f"{error.code}: {' '.join(error.message.split())[:200]}"
    rows = nodes["per_node"]
    bad = [f"{row['op']} {row['index']} {row['mismatches']}/{row['outputs']} {row['fault']}" for row in rows]
    bad = [text for text, row in zip(bad, rows, strict=True) if not row["ok"]]
    off, ties, outputs = (sum(row[key] for row in rows) for key in ("mismatches", "ties", "outputs"))
    said = " ".join(
        f"{'ok' if found['ok'] else 'MISMATCH'}{' (drift)' if found['drift'] else ''}"
        for found in (whole, nodes)
    )
    return f"{said:<28} {off:>6} off, {ties:>6} ties of {outputs:>10,} {'; '.join(bad[:3])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--most-macs", type=int, default=300_000_000)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--dim", action="append", default=[], help="NAME=N, for models with that symbol")
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=list(PLANS))
    given = parser.parse_args()
    dims = {name: int(value) for name, value in (pair.split("=") for pair in given.dim)}
    for path in models_in(given.models):
        wanted: dict[str, int] = {}
        try:
            try:
                graph = load_graph(path, CompileOptions(dims=wanted))
            except CompileError as error:
                if not dims:
                    raise error
                wanted |= dims
                graph = load_graph(path, CompileOptions(dims=wanted))
        except CompileError as error:
            print(f"{name_of(path):<36} {error.code}: {' '.join(error.message.split())[:100]}", flush=True)
            continue
        if count_macs(graph) > given.most_macs:
            print(f"{name_of(path):<36} left out: {count_macs(graph):,} multiply-accumulates", flush=True)
            continue
        for plan in given.plans:
            line = line_of(path, wanted, PLANS[plan], given.samples)
            print(f"{name_of(path):<36} {plan:<9} {line}", flush=True)


if __name__ == "__main__":
    main()
