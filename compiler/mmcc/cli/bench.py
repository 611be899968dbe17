# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc bench`: time, or instructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common, machine, on_machine
from mmcc.errors import CompileError, Exit


@click.command(short_help="Measure time, or instructions in QEMU.")
@click.argument("folder", type=click.Path(path_type=Path))
@on_machine
@click.option("--profile", is_flag=True, help="Also by function, instruction and arena (QEMU).")
@common
def bench(
    folder: Path,
    on: str,
    baud: int,
    flash_with: str | None,
    firmware: Path | None,
    profile: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure the package in FOLDER: time on this machine, exact instructions in QEMU, cycles on a board."""
    from mmcc.package.record import load_package
    from mmcc.verification.bench import bench_board, bench_host, bench_qemu
    from mmcc.verification.verify import serial_port

    package = load_package(folder)
    if profile and on != "qemu":
        raise CompileError("MM003", "--profile counts in QEMU", exit=Exit.USAGE, hint="add --on qemu")
    if port := serial_port(machine(on, flash_with, firmware)):
        found = bench_board(folder, package, port, baud)
    else:
        found = bench_host(folder, package) if on == "host" else bench_qemu(folder, package, profile=profile)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif on == "host":
        click.echo(
            f"{found['milliseconds']:.4f} ms, median of {found['runs']} "
            f"(quartiles {found['low']:.4f}, {found['high']:.4f})"
        )
    elif on == "qemu":
        click.echo(f"{found['instructions']:,} instructions, {found['stack']:,} bytes of stack")
        _show_bench(found, "instructions")
    else:
        cycles = found["cycles"]
        click.echo("the board has no counter of cycles" if cycles is None else f"{cycles:,} cycles")
        _show_bench(found, "cycles")


def _show_bench(found: dict[str, Any], unit: str) -> None:
    from mmcc.verification.bench import numbers

    total = max(1, sum(row[unit] for row in found["per_node"]))
    click.echo(f"  {'nodes':>8} {'operators':<32} {unit:>14} {'share':>7}")
    for row in found["per_node"]:
        click.echo(f"  {numbers(row['nodes']):>8} {row['op']:<32} {row[unit]:>14,} {row[unit] / total:>7.1%}")
    for name, bytes_ in found.get("accesses", {}).items():
        click.echo(f"  {name:<40} {bytes_['read']:>14,} bytes read, {bytes_['written']:,} written")
    for kind in ("functions", "mnemonics"):
        for name, count in list(found.get(kind, {}).items())[:20]:
            click.echo(f"  {name:<40} {count:>14,}")
