# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc sweep`: many models for many targets under many limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common
from mmcc.cli.terminal import Progress
from mmcc.errors import CompileError, Exit, printable
from mmcc.output_file import whole_file, write_file
from mmcc.sizes import parse_size

WAYS = ("arena", "external", "rows", "rows-again")


@click.command(short_help="Plan many models for many targets under many limits.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--targets", default="cortex-m4", show_default=True, help="Targets or chips, with commas between."
)
@click.option("--ram", default="min", show_default=True, help="Limits: 32K,64K; 32K:512K doubles; min.")
@click.option("--io", "ways", default="arena", show_default=True, help="Ways of --io, with commas between.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes [default: as many as processors].")
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="local|dask://HOST:PORT",
    help="Where cases are planned (mmcc[dask]).",
)
@click.option("--parquet", is_flag=True, help="Also write table.parquet (mmcc[parquet]).")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("sweep"), show_default=True)
@common
def sweep(
    models: tuple[Path, ...],
    targets: str,
    ram: str,
    ways: str,
    jobs: int | None,
    executor: str,
    parquet: bool,
    output: Path,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Plan every combination of MODELS, targets, limits and ways of input; compiles nothing.

    The folder has results.jsonl, table.csv and sweep.html. Run again, only what is missing is done.
    """
    from mmcc.driver import sweep as run
    from mmcc.driver.sweep_cases import COLUMNS
    from mmcc.driver.sweep_cluster import SCHEME
    from mmcc.report.sweep_page import render_sweep
    from mmcc.report.sweep_table import csv_table, need_parquet, write_parquet

    asked = [way.strip() for way in ways.split(",")]
    if wrong := [way for way in asked if way not in WAYS]:
        what = f'--io "{printable(wrong[0])}" is none of {", ".join(WAYS)}'
        raise CompileError("MM003", what, exit=Exit.USAGE, hint="--io arena,external")
    if executor != "local" and not executor.startswith(SCHEME):
        what = f'--executor "{printable(executor)}" is no executor'
        raise CompileError("MM003", what, exit=Exit.USAGE, hint="--executor local, or dask://HOST:PORT")
    if parquet:
        need_parquet()
    cases = run.cases_of(models, [name.strip() for name in targets.split(",")], asked, limits_of(ram))
    with Progress(quiet, verbose) as progress:
        rows = run.sweep(cases, output, progress, jobs=jobs or 0, executor=executor)
    best = run.pareto(rows)
    write_file(output / run.TABLE, csv_table(rows, COLUMNS), "-o")
    if parquet:
        with whole_file(output / run.PARQUET, "-o") as made:
            write_parquet(made, rows, COLUMNS)
    write_file(output / run.PAGE, render_sweep(rows, best), "-o")
    if as_json:
        click.echo(json.dumps({"rows": rows, "pareto": best}, indent=1))
    elif not quiet:
        _tell(rows, best)
        click.echo(f"written to {output}")


def _tell(rows: list[dict[str, Any]], best: list[dict[str, Any]]) -> None:
    """What nothing beats, and what could not be planned."""
    click.echo(f"{len(rows)} cases, {sum(row['fits'] for row in rows)} fit")
    if best:
        click.echo(
            "  what no other of its model, target and way of input beats in RAM and predicted work both:"
        )
    click.echo(f"  {'RAM':>10} {'predicted':>14} {'flash':>10}  {'io':<11}{'target':<15}model")
    for row in best:
        figures = f"{row['total']:>10,} {row['predicted']:>14,} {row['flash']:>10,}"
        click.echo(f"  {figures}  {row['io']:<11}{row['target']:<15}{printable(row['model'], 60)}")
    failed = [row for row in rows if row["error"]]
    if failed:
        click.echo(f"{len(failed)} could not be planned; {failed[0]['model']}: {failed[0]['error']}")


def limits_of(text: str) -> list[int]:
    """Bytes of each limit, 0 for min: a list, or a range that doubles. CompileError for what is no size."""
    found: list[int] = []
    for part in text.split(","):
        low, colon, high = part.strip().partition(":")
        if low == "min" and not colon:
            found.append(0)
            continue
        size = parse_size(low, "--ram")
        last = parse_size(high, "--ram") if colon else size
        if last < size:
            raise CompileError(
                "MM003", f"--ram {printable(part, 60)} goes from more to less", exit=Exit.USAGE
            )
        while size <= last:
            found.append(size)
            size = max(size * 2, 1)
    return list(dict.fromkeys(found))
