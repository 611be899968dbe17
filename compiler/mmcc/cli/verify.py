# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc verify`: does the C compute what the model does?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.options import common, machine, on_machine
from mmcc.cli.terminal import Progress
from mmcc.errors import NAME_COLUMNS, Exit, printable


@click.command(short_help="Check that the C computes what the model does.")
@click.argument("folder", type=click.Path(path_type=Path))
@on_machine
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Inputs: .npz (input_0 ..., labels), .npy, .csv, .wav, a folder.",
)
@click.option(
    "--expected",
    type=click.Path(path_type=Path),
    help="Outputs: .npz (output_0 ...), .npy, .csv [default: ONNX Runtime's].",
)
@click.option(
    "--per-node", is_flag=True, help="Feed each node the model's own inputs; worst node first (host)."
)
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file, if it has moved.")
@click.option(
    "--samples", type=click.IntRange(1), default=2, show_default=True, help="Made-up samples without --data."
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first samples of --data.")
@click.option("--save-outputs", type=click.Path(path_type=Path), help="Write what the C gave (.npz).")
@click.option("--sanitize", is_flag=True, help="On the host with address and undefined-behaviour sanitizers.")
@click.option("--entry", metavar="NAME", default="", help="Of linked models, just this one.")
@common
def verify(folder: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Check that the package in FOLDER computes what its model computes."""
    from mmcc.verification.verify import VerifyOptions, verify_package

    machine(given["on"], given.pop("flash_with"), given.pop("firmware"))
    with Progress(quiet, verbose) as progress:
        found = verify_package(folder, VerifyOptions(**given), progress)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif not quiet:
        for name, each in found["models"].items() if "models" in found else [("", found)]:
            _show_verified(each, f"{name}: " if name else "", every_node=given["per_node"])
    if not found["ok"]:
        raise click.exceptions.Exit(int(Exit.MISMATCH))


def _show_verified(found: dict[str, Any], of: str, *, every_node: bool) -> None:
    steps = (
        f", at most {found['max_lsb']} steps of the output's scale" if found["max_lsb"] is not None else ""
    )
    click.echo(
        f"{of}{'ok' if found['ok'] else 'MISMATCH'}: {found['samples']} "
        f"{'made-up ' if found['made_up'] else ''}samples on {found['on']}"
    )
    click.echo(
        f"  largest difference {found['max_abs']:.3g}{steps}; {found['mismatch_rate']:.2%} of outputs differ"
    )
    click.echo(f"  RMSE {found['rmse']:.3g}, cosine at least {found['cosine']:.6f}")
    click.echo(f"  same top-1 in {found['top1_agreement']:.2%}")
    if "accuracy" in found:
        right = found["accuracy"]
        click.echo(f"  accuracy {right['correct']} of {right['total']}")
    if found["drift"] and found["ok"]:
        click.echo("  the outputs drift apart, but every node is right")
    elif found["per_node"] and found["ok"] and not every_node:
        click.echo(f"  the C of every node is right: {len(found['per_node'])} of them compared one by one")
    if found["unexplained"]:
        click.echo("  what differs is not looked at node by node, without the model's file: see --model")
    if found["as_here"] is None:
        click.echo("  not compared with the same plan's C on this machine, which has no C compiler")
    elif not found["as_here"]:
        click.echo(f"  on {found['on']} the outputs are others than the same plan's C gives on this machine")
    if found["functions"]:
        click.echo(f"  other results than with mmcc's own kernels: {', '.join(found['functions'])}")
    if found["first_divergence"] is not None:
        first = found["first_divergence"]
        click.echo(f"  the first wrong node is {_number(first)}, {printable(first['name'], NAME_COLUMNS)}")
    if not every_node and found["ok"]:
        return
    if found["per_node"]:
        where = ", by mmcc's own kernels on this machine" if found["functions"] else ""
        click.echo(f"node by node{where}; worst first")
    for row in found["per_node"]:
        _show_node(row)


def _show_node(row: dict[str, Any]) -> None:
    """A row of what was found node by node."""
    lsb = f", at most {row['max_lsb']} LSB" if row["max_lsb"] is not None else ""
    ties = f" ({row['ties']} exact ties)" if row["ties"] else ""
    mark = "ok      " if row["ok"] else "MISMATCH"
    click.echo(
        f"  {mark} {_number(row):>4} {row['op']:<18} {row['mismatches']} of {row['outputs']}{ties}{lsb}"
        f"  {printable(row['name'], NAME_COLUMNS)}"
    )
    if row["fault"]:
        click.echo(f"           the C: {row['fault']}")
    if row["note"]:
        click.echo(f"           the loop is looked at as one node: {row['note']}")


def _number(row: dict[str, Any]) -> str:
    """That of a node; 6.3 is node 3 of the body of loop 6."""
    return ".".join(map(str, (row["index"], *row["within"])))
