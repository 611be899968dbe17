# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc build`: the models that mmcc.toml names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common
from mmcc.cli.terminal import Progress
from mmcc.errors import CompileError, Exit, did_you_mean
from mmcc.output_file import write_file
from mmcc.sizes import readable


@click.command(short_help="Compile the models of mmcc.toml that have changed.")
@click.argument("file", type=click.Path(path_type=Path), default=Path("mmcc.toml"))
@click.option("--only", multiple=True, metavar="NAME", help="Only this model; repeatable.")
@click.option(
    "--depends", type=click.Path(path_type=Path), help="Write the files it depends on, a line each."
)
@common
def build(
    file: Path, only: tuple[str, ...], depends: Path | None, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Compile the models of FILE [mmcc.toml] that are not up to date. The first that fails ends it."""
    from mmcc.project_file import build as build_model
    from mmcc.project_file import dependencies, read_project

    models = read_project(file)
    names = [model.name for model in models]
    for name in only:
        if name not in names:
            hint = f"{did_you_mean(name, names)}one of {', '.join(names)}"
            raise CompileError("MM116", f'{file} has no model "{name}"', exit=Exit.USAGE, hint=hint)
    chosen = [model for model in models if not only or model.name in only]
    if depends:  # also of those that fail: they are tried again when one of their files changes
        files = [path for model in chosen for path in dependencies(model.file, model.options)]
        write_file(depends, "".join(f"{path.resolve()}\n" for path in (file, *files)), "--depends")
    found: dict[str, dict[str, Any]] = {}
    for number, model in enumerate(chosen):
        with Progress(quiet, verbose) as progress:
            progress(f"compiling {model.name}", number, len(chosen))
            report, compiled = build_model(model, progress)
        found[model.name] = {"compiled": compiled, "output": str(model.output), "report": report}
        if not quiet and not as_json:
            ram, flash = report["ram"]["total"], report["flash"]["total"]
            what = "compiled" if compiled else "up to date"
            click.echo(f"{model.name:<20}{what:<12}RAM {ram:,}  flash {readable(flash)}  {model.output}")
    if as_json:
        click.echo(json.dumps(found, indent=1))
