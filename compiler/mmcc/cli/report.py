# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc report`: the report of a package as a page, with more in it than a compile knows."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mmcc.cli.terminal import Progress


@click.command(short_help="Write a package's report as a page, with frontier and counts.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File [default: FOLDER/report.html].")
@click.option("--frontier", is_flag=True, help="With the frontier of RAM against work (mmcc analyze).")
@click.option(
    "--measured", is_flag=True, help="With the instructions of each node, counted in QEMU (mmcc bench)."
)
@click.option("--board", metavar="NAME", help="With the modelled cycles of a board (mmcc bench --cycles).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
def report(
    folder: Path,
    output: Path | None,
    frontier: bool,
    measured: bool,
    board: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write the report of the package in FOLDER as one page that can be read offline."""
    from mmcc.verification.page import write_page

    page = output or folder / "report.html"
    with Progress(quiet, verbose) as progress:
        write_page(folder, page, frontier=frontier, measured=measured, board=board, progress=progress)
    if as_json:
        click.echo(json.dumps({"page": str(page)}, indent=1))
    elif not quiet:
        click.echo(f"written to {page}")
