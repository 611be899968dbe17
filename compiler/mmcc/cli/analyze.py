# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc analyze`: the least RAM, and what needing less costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmcc.cli.options import bound, common, dims_of, paired, sizes_and_inputs
from mmcc.cli.terminal import Progress
from mmcc.driver.piped import as_file
from mmcc.errors import NAME_COLUMNS, printable
from mmcc.output_file import check_file, write_file

if TYPE_CHECKING:
    from mmcc.driver.analyze import Analysis, Point


@click.command(short_help="Show the least RAM, and what needing less costs.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", default="cortex-m4", show_default=True, help="Whose cost figures to use.")
@sizes_and_inputs
@click.option(
    "--svg", type=click.Path(path_type=Path), help="Also draw the frontier into this file (mmcc[plot])."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with picture and table.")
@common
def analyze(
    model: Path,
    target: str,
    dims: tuple[str, ...],
    bind: tuple[str, ...],
    states: tuple[str, ...],
    svg: Path | None,
    html: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show how much RAM MODEL needs at least, and what needing less costs. Compiles nothing."""
    from mmcc.driver.analyze import analyze as run

    for path, option in ((svg, "--svg"), (html, "--html")):
        if path:
            check_file(path, option)
    with Progress(quiet, verbose) as progress, as_file(model) as path:
        found = run(path, target, dims_of(dims), bound(bind), progress, paired(states)[0])
        if svg:
            write_file(svg, found.to_svg(printable(model.stem)), "--svg")
        if html:
            write_file(html, found.to_html(printable(model.stem)), "--html")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    elif not quiet:
        _show_analysis(found)


def _show_analysis(found: Analysis) -> None:
    click.echo(f"{'arena':>12}  {'predicted':>12}  {'MACs':>6}  {'groups':>6}  bound by")
    for p in found.frontier:
        click.echo(_analysis_line(p))
    floor = found.frontier[-1]
    proof = "proved" if floor.proved else f"none below {floor.bound:,} is ruled out"
    where = f", in {found.memory} alone" if found.memory else ""
    click.echo(f"\nleast: {floor.arena:,} bytes of arena{where} ({proof})")
    click.echo("\nthe least with other options:")
    for other in found.other:
        p = other.point
        figures = f"{p.arena:>12,}  {p.cost_ratio:>11.3f}x  {p.macs_ratio:>5.2f}x  {p.groups:>6}"
        click.echo(f"{figures}  {other.options:<31}{other.meaning}")


def _analysis_line(p: Point) -> str:
    figures = f"{p.arena:>12,}  {p.cost_ratio:>11.3f}x  {p.macs_ratio:>5.2f}x  {p.groups:>6}"
    return f"{figures}  {printable(p.binding, NAME_COLUMNS)}"
