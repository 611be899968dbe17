# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc bench`: time, or instructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common
from mmcc.errors import CompileError, Exit


@click.command(short_help="Measure time, or instructions in QEMU.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--on", type=click.Choice(["host", "qemu"]), default="host", show_default=True)
@click.option("--profile", is_flag=True, help="Also by function, instruction and arena (QEMU).")
@common
def bench(folder: Path, on: str, profile: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Measure the package in FOLDER: time on this machine, or exact instructions in QEMU."""
    from mmcc.package.record import load_package
    from mmcc.verification.bench import bench_host, bench_qemu

    package = load_package(folder)
    if profile and on == "host":
        raise CompileError("MM003", "--profile counts in QEMU", exit=Exit.USAGE, hint="add --on qemu")
    found = bench_host(folder, package) if on == "host" else bench_qemu(folder, package, profile=profile)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif on == "host":
        click.echo(
            f"{found['milliseconds']:.4f} ms, median of {found['runs']} "
            f"(quartiles {found['low']:.4f}, {found['high']:.4f})"
        )
    else:
        _show_bench(found)


def _show_bench(found: dict[str, Any]) -> None:
    from mmcc.verification.bench import numbers

    click.echo(f"{found['instructions']:,} instructions, {found['stack']:,} bytes of stack")
    total = max(1, sum(row["instructions"] for row in found["per_node"]))
    click.echo(f"  {'nodes':>8} {'operators':<32} {'instructions':>14} {'share':>7}")
    for row in found["per_node"]:
        click.echo(
            f"  {numbers(row['nodes']):>8} {row['op']:<32} {row['instructions']:>14,}"
            f" {row['instructions'] / total:>7.1%}"
        )
    for name, bytes_ in found.get("accesses", {}).items():
        click.echo(f"  {name:<40} {bytes_['read']:>14,} bytes read, {bytes_['written']:,} written")
    for kind in ("functions", "mnemonics"):
        for name, count in list(found.get(kind, {}).items())[:20]:
            click.echo(f"  {name:<40} {count:>14,}")
