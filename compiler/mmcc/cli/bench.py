# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc bench`: time, instructions, or modelled cycles."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmcc.cli.options import common, machine, on_machine
from mmcc.errors import CompileError, Exit

if TYPE_CHECKING:
    from mmcc.package.record import Package


@click.command(short_help="Measure time, instructions in QEMU, or cycles of a board.")
@click.argument("folder", type=click.Path(path_type=Path))
@on_machine
@click.option("--profile", is_flag=True, help="Also by function, instruction and arena (QEMU).")
@click.option(
    "--threads",
    type=click.IntRange(2, 64),
    metavar="N",
    help="How many times as fast N threads are (host; compiled with --threads).",
)
@click.option("--cycles", is_flag=True, help="Model the cycles of a board (QEMU).")
@click.option(
    "--board", metavar="NAME", help="Board of --cycles, or a TOML file [default: the core's first]."
)
@click.option("--entry", metavar="NAME", default="", help="Of linked models, just this one.")
@common
def bench(
    folder: Path,
    on: str,
    baud: int,
    flash_with: str | None,
    firmware: Path | None,
    profile: bool,
    threads: int | None,
    cycles: bool,
    board: str | None,
    entry: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure the package in FOLDER: time here or in Node, exact instructions in QEMU, cycles on a board.

    With --cycles the instructions that QEMU executes are timed as the core's manual does, and flash and
    caches of a board are simulated: a model, whose error is told.
    """
    from mmcc.package.record import load_package

    models = load_package(folder).looked_at(entry)
    if board and not cycles:
        raise CompileError("MM003", "--board is for --cycles", exit=Exit.USAGE, hint="add --cycles")
    if profile and on != "qemu":
        raise CompileError("MM003", "--profile counts in QEMU", exit=Exit.USAGE, hint="add --on qemu")
    if threads and (on != "host" or cycles):
        raise CompileError("MM003", "--threads is for this machine", exit=Exit.USAGE, hint="--on host")
    if not cycles:
        machine(on, flash_with, firmware)
    measure, show = partial(_measured, on=on, baud=baud, profile=profile), partial(_show_measured, on=on)
    if cycles:
        measure, show = partial(_cycles, board=board), _show_cycles
    elif threads:
        measure, show = partial(_threads, threads=threads), _show_threads
    found: dict[str, Any] = {}
    for name, package in models.items():
        found[name] = measure(folder, package)
        if not as_json:
            click.echo(name + "\n" if len(models) > 1 else "", nl=False)
            show(found[name])
    if as_json:
        click.echo(json.dumps({"models": found} if len(found) > 1 else found.popitem()[1], indent=1))


def _measured(folder: Path, package: Package, on: str, baud: int, *, profile: bool) -> dict[str, Any]:
    from mmcc.verification.bench import bench_board, bench_host, bench_qemu, bench_wasm
    from mmcc.verification.verify import serial_port

    if port := serial_port(on):
        return bench_board(folder, package, port, baud)
    if on == "qemu":
        return bench_qemu(folder, package, profile=profile)
    return bench_host(folder, package) if on == "host" else bench_wasm(folder, package)


def _show_measured(found: dict[str, Any], on: str) -> None:
    if on in ("host", "wasm"):
        click.echo(
            f"{found['milliseconds']:.4f} ms, median of {found['runs']} "
            f"(quartiles {found['low']:.4f}, {found['high']:.4f})"
        )
    elif on == "qemu":
        click.echo(f"{found['instructions']:,} instructions, {found['stack']:,} bytes of stack")
        _show_bench(found, "instructions")
    else:
        spent = found["cycles"]
        click.echo("the board has no counter of cycles" if spent is None else f"{spent:,} cycles")
        _show_bench(found, "cycles")


def _threads(folder: Path, package: Package, threads: int) -> dict[str, Any]:
    from mmcc.verification.threads import bench_threads

    return bench_threads(folder, package, threads)


def _show_threads(found: dict[str, Any]) -> None:
    click.echo(f"{found['milliseconds']:.4f} ms of one thread, medians of {found['runs']} runs")
    click.echo(
        f"  dealt {found['dealt']:>6.2f}  times as fast by processor time, {found['cut']:.0%} of it in chunks"
    )
    click.echo(
        f"  wall  {found['wall']:>6.2f}  times as fast by the clock: on a machine that does nothing else"
    )


def _cycles(folder: Path, package: Package, board: str | None) -> dict[str, Any]:
    from mmcc.boards import board_of, load_board
    from mmcc.target import load_target
    from mmcc.verification.cycles import bench_cycles, bench_node_cycles

    chosen = load_board(board) if board else board_of(load_target(package.target))
    found = bench_cycles(folder, package, chosen)
    return found | {"per_node": bench_node_cycles(folder, package, chosen)}


def _show_cycles(found: dict[str, Any]) -> None:
    click.echo(
        f"{found['milliseconds']:.3g} ms, {found['cycles']:,} cycles at {found['clock_mhz']:g} MHz: modelled"
    )
    click.echo(f"  {found['description']} ({found['board']})")
    click.echo(f"  model         {found['error']}")
    rate = found["core"] / max(1, found["instructions"])
    click.echo(
        f"  core          {found['core']:>14,}  {rate:.2f} each of {found['instructions']:,} instructions"
    )
    click.echo(f"  flash, code   {found['code_waits']:>14,}")
    click.echo(f"  flash, data   {found['data_waits']:>14,}  constants that are in no cache")
    for name, spent in list(found["functions"].items())[:10]:
        click.echo(f"  {name:<40} {spent:>14,}")
    _show_nodes(found["per_node"], "cycles")


def _show_bench(found: dict[str, Any], unit: str) -> None:
    _show_nodes(found["per_node"], unit)
    for name, bytes_ in found.get("accesses", {}).items():
        click.echo(f"  {name:<40} {bytes_['read']:>14,} bytes read, {bytes_['written']:,} written")
    for kind in ("functions", "mnemonics"):
        for name, count in list(found.get(kind, {}).items())[:20]:
            click.echo(f"  {name:<40} {count:>14,}")


def _show_nodes(rows: list[dict[str, Any]], unit: str) -> None:
    from mmcc.verification.bench import numbers

    total = max(1, sum(row[unit] for row in rows))
    click.echo(f"  {'nodes':>8} {'operators':<32} {unit:>14} {'share':>7}")
    for row in rows:
        click.echo(f"  {numbers(row['nodes']):>8} {row['op']:<32} {row[unit]:>14,} {row[unit] / total:>7.1%}")
