# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc ops`: the operators that can be compiled."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def ops(as_json: bool) -> None:
    """List the ONNX operators that can be compiled."""
    from mmcc.driver.check import operator_rows

    rows = operator_rows()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            click.echo(f"{row['name']:<42} {row['versions']:<14} {row['notes']}".rstrip())
