# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc check`: can a model be compiled?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mmcc.cli.options import bound, common, dims_of, paired, sizes_and_inputs
from mmcc.cli.terminal import Progress, show_warnings
from mmcc.driver.piped import as_file


@click.command(short_help="Say whether a model can be compiled.")
@click.argument("model", type=click.Path(path_type=Path))
@sizes_and_inputs
@common
def check(
    model: Path,
    dims: tuple[str, ...],
    bind: tuple[str, ...],
    states: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Say whether MODEL can be compiled: operators, shapes, quantization. Plans nothing."""
    from mmcc.driver.check import check_model

    with Progress(quiet, verbose) as progress, as_file(model) as path:
        found = check_model(path, dims_of(dims), bound(bind), progress, paired(states)[0])
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        click.echo(f"{found['name']}: {found['macs']:,} multiply-accumulates, {found['params']:,} parameters")
        for kind in ("inputs", "outputs", "states"):
            for port in found[kind]:
                click.echo(f"  {kind[:-1]:<7}{port}")
        click.echo("  nodes  " + ", ".join(f"{count} {op}" for op, count in found["operators"].items()))
        show_warnings(found["warnings"], err=False)
        click.echo("can be compiled")
