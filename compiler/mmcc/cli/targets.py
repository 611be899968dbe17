# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc targets`: what can be compiled for."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def targets(as_json: bool) -> None:
    """List the targets."""
    from mmcc.target import list_chips, list_targets, load_target

    rows = {name: load_target(name).description for name in (*list_targets(), *list_chips())}
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for name, description in rows.items():
            click.echo(f"{name:<18}{description}")
        click.echo("\nA TOML file of your own is taken by path: --target ./board.toml")
