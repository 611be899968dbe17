# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc link`: several models to one folder of C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.compile import asked_by_nobody, compile_options, of_chip
from mmcc.cli.options import common, planned
from mmcc.cli.terminal import Progress, show_warnings
from mmcc.package.kinds import KINDS
from mmcc.sizes import readable


@click.command(name="link", short_help="Compile several ONNX files into one folder of C.")
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@planned
@click.option("--weights", type=click.Choice(["c", "bin"]), help="Constants as C arrays or a file [by size].")
@click.option(
    "--package", "packages", multiple=True, type=click.Choice(KINDS), help="As of mmcc compile; repeatable."
)
@click.option("--float-io", is_flag=True, help="Keep float inputs and outputs of quantized models.")
@click.option(
    "--concurrent",
    multiple=True,
    metavar="NAME,NAME...",
    help="Models that may run at the same time, or all; repeatable.",
)
@common
def link(
    models: tuple[str, ...],
    output: Path | None,
    concurrent: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Compile MODELS (ONNX files) into one folder of C: functions PREFIX_NAME over one arena.

    They run one after the other: a run may overwrite the outputs of another model's. Those that are named
    together with --concurrent have bytes of their own, and a stack each: one may interrupt another.
    """
    from mmcc.driver.link import ALL, link_models, named_models

    named = named_models(models)
    given |= of_chip(given)
    given["name"] = given["name"] or "models"
    options = compile_options(asked_by_nobody() | given)
    folder = output or Path(f"{given['name']}_c")
    with Progress(quiet, verbose) as progress:
        sets = [tuple(named) if text.strip() == ALL else _names(text) for text in concurrent]
        result = link_models(named, folder, options, progress, sets)
    if not quiet:
        show_warnings(result.report["warnings"], err=True)
    if as_json:
        click.echo(json.dumps(result.report, indent=1))
    elif not quiet:
        _show(given["name"], result.report, folder)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _show(title: str, report: dict[str, Any], folder: Path) -> None:
    """What all need together, then what each has of it."""
    from mmcc.report.text import arena_text, flash_text, proof_text, self_check_text, work_text

    ram, entries = report["ram"], (report, *report["entries"])
    limit = f" of {readable(ram['limit'])}" if ram["limit"] else ""
    click.echo(f"{len(entries)} models, {title}, for {report['target']}")
    click.echo(f"  RAM       {readable(ram['total'], ' bytes')}{limit}: {arena_text(ram)}")
    stack = "stack" if not ram["stacks"] else "stacks"
    click.echo(f"            context {ram['context']:,}, static {ram['static']:,}, {stack} {ram['stack']:,}")
    click.echo(f"  flash     {flash_text(report)}")
    for entry in entries:
        plan = entry["plan"]
        own = f"arena {plan['arena']:,} ({proof_text(entry, ram)}), {work_text(plan)}"
        own = f"from {entry['begin']:,} on, {own}" if ram["concurrent"] else own
        click.echo(f"  {entry['entry']:<10}{own} in {len(entry['nodes'])} nodes")
    click.echo(f"  check     {self_check_text(report['self_check'])}")
    click.echo(f"  written to {folder}; see report.html there")
