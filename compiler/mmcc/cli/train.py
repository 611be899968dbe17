# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc train`: a model to a folder of C that trains it on the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mmcc.cli.compile import asked_by_nobody, compile_options, notes, of_chip, show_compiled
from mmcc.cli.options import common, planned, sizes_and_inputs
from mmcc.cli.terminal import Progress, show_warnings
from mmcc.driver.piped import as_file
from mmcc.sizes import parse_size


@click.command(name="train", short_help="Compile an ONNX file into C that also trains it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--loss",
    type=click.Choice(["softmax-cross-entropy", "mse"]),
    default="softmax-cross-entropy",
    show_default=True,
    help="Of the model's output; a Softmax at its end is part of the first.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["sgd", "momentum", "adam"]),
    default="sgd",
    show_default=True,
    help="What is kept of gradients besides the parameters: nothing, one value of each, or two.",
)
@click.option(
    "--update",
    default="all",
    show_default=True,
    metavar="WHAT",
    help="Parameters that change: all, last:K (of the last K layers), bias, auto (of as many of the last "
    "layers as fit the limits), or names between commas, with *.",
)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Steps whose gradients are summed up for one change, which NAME_train_apply makes.",
)
@click.option("--momentum", type=float, default=0.9, show_default=True, help="Decay of the moment.")
@click.option("--betas", type=(float, float), default=(0.9, 0.999), show_default=True, help="Those of adam.")
@click.option(
    "--weight-decay", type=float, default=0.0, show_default=True, help="Share lost in a step, by rate."
)
@click.option("--clip-value", type=click.FloatRange(0), default=0.0, help="Bound of each gradient [none].")
@click.option(
    "--clip-norm",
    type=click.FloatRange(0),
    default=0.0,
    help="Bound of the norm of all gradients together, which are scaled down to it [none].",
)
@click.option(
    "--batch-norm",
    type=click.Choice(["frozen", "own"]),
    default="frozen",
    show_default=True,
    help="Statistics of BatchNormalization: those of the model, or in a step those of its own sample, which "
    "the running ones follow.",
)
@click.option(
    "--slow-memory",
    metavar="SIZE",
    help="Bytes, 8M, of slow memory behind callbacks of yours (mmcc_pages.h), where values may wait until "
    "backward layers read them; with --ram.",
)
@click.option(
    "--slow-cycles",
    type=click.FloatRange(0),
    default=4.0,
    show_default=True,
    help="That a byte takes to slow memory or back.",
)
@click.option("--weights", type=click.Choice(["c", "bin"]), help="Constants as C arrays or a file [by size].")
@planned
@sizes_and_inputs
@common
def train(model: Path, output: Path | None, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Compile MODEL (an ONNX file) into a folder of C that runs it and trains it on the device."""
    from mmcc.driver.train import compile_training
    from mmcc.training.options import TrainOptions

    names = ("loss", "optimizer", "update", "accumulate", "momentum", "betas")
    names += ("weight_decay", "clip_value", "clip_norm", "slow_cycles", "batch_norm")
    slow = given.pop("slow_memory")
    training = TrainOptions(
        **{name: given.pop(name) for name in names},
        slow_memory=parse_size(slow, "--slow-memory") if slow else 0,
    )
    given |= of_chip(given)
    options = compile_options(asked_by_nobody() | given)
    with Progress(quiet, verbose) as progress, as_file(model) as path:
        folder = output or Path(f"{model.stem if path is model else path.stem}_c")
        result = compile_training(path, folder, training, options, progress)
    if not quiet:
        for note in notes(given, model, result.report):
            click.echo(f"note: {note}", err=True)
        show_warnings(result.report["warnings"], err=True)
    if as_json:
        click.echo(json.dumps(result.report, indent=1))
    elif not quiet:
        show_compiled(given["name"] or result.report["model"]["name"], result.report, folder)
